#include "simulator/compiled_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

namespace msmoe::simulator {
namespace {

// The longest task or latency: sums of many stay far from the end of 64 bits.
constexpr std::int64_t kMaxPicoseconds = std::numeric_limits<std::int64_t>::max() / 1024;

void require(bool holds, const char* what, std::int64_t container, std::int64_t item) {
  if (!holds) throw std::logic_error(fmt::format("malformed job: {} (in {}, item {})", what, container, item));
}

void check_task(const Task& task, std::int64_t block_idx, std::int64_t task_idx) {
  require(task.alone_ps >= 0 && task.alone_ps <= kMaxPicoseconds, "block: task time out of range", block_idx, task_idx);
  require(task.stream < kMaxStreams, "block: task on a stream that does not exist", block_idx, task_idx);
  for (float share : task.share) {
    require(share >= 0 && share <= 1, "block: share outside [0, 1]", block_idx, task_idx);
  }
  require(task.tiles_per_sm >= 0, "block: negative tiles", block_idx, task_idx);
  const Interference& of = task.interference;
  for (const float value : {of.crowds, of.yields, of.waits, of.wire, of.presses})
    require(value >= 0, "block: negative interference", block_idx, task_idx);
}

CompiledBlock compile_block(const Block& block, std::int64_t block_idx, bool shares_queues) {
  const auto num_tasks = static_cast<std::int32_t>(block.tasks.size());
  require(block.waits.size() <= block.tasks.size(), "block: more lists of waits than tasks", block_idx, num_tasks);
  CompiledBlock compiled;
  compiled.tasks.resize(block.tasks.size());
  for (std::int32_t t = 0; t < num_tasks; ++t) {
    check_task(block.tasks[t], block_idx, t);
    ++compiled.first[block.tasks[t].stream + 1];
  }
  for (int k = 0; k < kMaxStreams; ++k) compiled.first[k + 1] += compiled.first[k];

  std::vector<std::int32_t> rank(block.tasks.size());  // 1 for the first task of its stream
  std::array<std::int32_t, kMaxStreams> count{};
  if (shares_queues) compiled.issued_before.resize(block.tasks.size());
  for (std::int32_t t = 0; t < num_tasks; ++t) {
    const Task& task = block.tasks[t];
    const std::int32_t position = compiled.first[task.stream] + count[task.stream];
    StreamTask& to = compiled.tasks[position];
    if (shares_queues) compiled.issued_before[position] = count;
    rank[t] = ++count[task.stream];
    to.alone_ps = task.alone_ps;
    to.demand = {task.share, task.holder, task.tiles_per_sm, task.interference};
    to.task = t;
    if (static_cast<std::size_t>(t) >= block.waits.size()) continue;
    for (std::int32_t wait : block.waits[t]) {
      require(wait >= 0 && wait < t, "block: a wait must point backwards", block_idx, t);
      const int stream = block.tasks[wait].stream;
      if (stream == task.stream) continue;  // the order of the stream keeps it
      to.needs[stream] = std::max(to.needs[stream], rank[wait]);
      to.waits = true;
    }
  }
  return compiled;
}

// Where each task of the block lies in CompiledBlock::tasks.
std::vector<std::int32_t> positions(const CompiledBlock& block) {
  std::vector<std::int32_t> position(block.tasks.size());
  for (std::size_t p = 0; p < block.tasks.size(); ++p) position[block.tasks[p].task] = static_cast<std::int32_t>(p);
  return position;
}

bool has_slot(const Job& job, std::int32_t device, std::int32_t slot) {
  return device >= 0 && static_cast<std::size_t>(device) < job.devices.size() && slot >= 0 &&
         static_cast<std::size_t>(slot) < job.devices[device].size();
}

void check_message(const Job& job, std::int64_t message_idx) {
  const Message& message = job.messages[message_idx];
  require(has_slot(job, message.from_device, message.from_slot), "message from a slot that does not exist",
          message.from_device, message_idx);
  require(has_slot(job, message.to_device, message.to_slot), "message to a slot that does not exist", message.to_device,
          message_idx);
  const Block& block = job.blocks[job.devices[message.from_device][message.from_slot]];
  require(message.from_task >= 0 && static_cast<std::size_t>(message.from_task) < block.tasks.size(),
          "message from a task that does not exist", message.from_device, message_idx);
  require(message.latency_ps >= 0 && message.latency_ps <= kMaxPicoseconds, "message latency out of range",
          message.from_device, message_idx);
}

}  // namespace

CompiledJob::CompiledJob(const Job& job) : launch_queues(job.launch_queues) {
  require(launch_queues >= 1, "no launch queue", 0, launch_queues);
  blocks.reserve(job.blocks.size());
  for (const Block& block : job.blocks) {
    blocks.push_back(compile_block(block, static_cast<std::int64_t>(blocks.size()), launch_queues < kMaxStreams));
  }
  devices.resize(job.devices.size());
  for (std::size_t d = 0; d < devices.size(); ++d) {
    devices[d].resize(job.devices[d].size());
    for (std::size_t s = 0; s < devices[d].size(); ++s) {
      const std::int32_t block = job.devices[d][s];
      require(block >= 0 && static_cast<std::size_t>(block) < blocks.size(), "slot with a block that does not exist",
              static_cast<std::int64_t>(d), static_cast<std::int64_t>(s));
      devices[d][s].block = &blocks[block];
    }
  }
  lay_out_messages(job);
}

// A counting sort by sending slot, then by position within the few messages of a slot.
void CompiledJob::lay_out_messages(const Job& job) {
  for (std::size_t m = 0; m < job.messages.size(); ++m) {
    check_message(job, static_cast<std::int64_t>(m));
    const Message& message = job.messages[m];
    ++devices[message.from_device][message.from_slot].last_message;  // a count, for now
    ++devices[message.to_device][message.to_slot].awaited;
  }
  std::int32_t total = 0;
  for (std::vector<CompiledSlot>& slots : devices) {
    for (CompiledSlot& slot : slots) {
      slot.first_message = total;
      total += slot.last_message;
      slot.last_message = slot.first_message;
    }
  }
  std::vector<std::vector<std::int32_t>> position;
  if (!job.messages.empty()) {
    for (const CompiledBlock& block : blocks) position.push_back(positions(block));
  }
  messages.resize(job.messages.size());
  for (const Message& message : job.messages) {
    CompiledSlot& slot = devices[message.from_device][message.from_slot];
    const std::int32_t block = job.devices[message.from_device][message.from_slot];
    messages[slot.last_message++] = {position[block][message.from_task], message.to_device, message.to_slot,
                                     message.latency_ps};
  }
  for (const std::vector<CompiledSlot>& slots : devices) {
    for (const CompiledSlot& slot : slots) {
      std::sort(messages.begin() + slot.first_message, messages.begin() + slot.last_message,
                [](const OutgoingMessage& a, const OutgoingMessage& b) { return a.position < b.position; });
    }
  }
}

}  // namespace msmoe::simulator
