#include "simulator/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <string>

#include "simulator/compiled_job.h"
#include "simulator/device_queue.h"
#include "simulator/fluid_rates.h"

namespace msmoe::simulator {
namespace {

// A stream's place in its device's slots, and the progress of the task there.
struct StreamState {
  const StreamTask* head = nullptr;  // null after the last task
  bool running = false;
  std::int64_t next_ps = kNever;  // the head's end if it runs; else the arrival that it waits for, if known
  std::int64_t start_ps = 0;
  double remaining_ps = 0;  // of alone time, at since_ps
  double rate = 0;          // since then
  std::int64_t since_ps = 0;
  std::int32_t slot = -1;
  std::int32_t position = 0;  // of the head in CompiledBlock::tasks
  std::int32_t end = 0;       // position after the slot's last task of this stream
  std::int32_t message = 0;   // the first message of the slot that this stream has not sent
};

struct Device {
  std::array<StreamState, kMaxStreams> streams;
  std::vector<CompiledSlot>* slots = nullptr;
  int num_streams = 0;  // those above have no task
};

// When work that is left would end at a rate. Rounds up to a tick, so that no task runs faster than alone; a
// thousandth of a tick absorbs the rounding of the doubles.
std::int64_t end_of(std::int64_t now, double remaining_ps, double rate) {
  constexpr double kFarAway = 4e18;
  if (rate <= 0) return kNever;
  const double wait = remaining_ps / rate - 1e-3;
  if (wait <= 0) return now;
  if (wait > kFarAway) return kNever;  // a later change of rates decides
  const auto ticks = static_cast<std::int64_t>(wait);
  return now + ticks + (static_cast<double>(ticks) < wait);
}

class Engine {
 public:
  Engine(const Job& job, const std::function<void(const TaskRun&)>& on_task);
  RunResult run();

 private:
  void step(std::int32_t device);
  bool start_heads(std::int32_t device);
  bool can_start(Device& device, StreamState& stream);
  bool needs_met(const Device& device, const StreamState& stream) const;
  bool is_issued_in_turn(const Device& device, const StreamState& stream) const;
  void start(std::int32_t device, StreamState& stream);
  void finish(std::int32_t device, int stream_idx);
  void send(const OutgoingMessage& message);
  void enter_next_slot(Device& device, int stream_idx);
  void set_rates(Device& device);

  bool has_ended(std::int32_t device, std::int32_t slot, std::int32_t position) const;
  std::string unsent_to(std::int32_t device, std::int32_t slot) const;
  std::string unmet_needs(std::int32_t device, const StreamState& stream) const;
  void throw_if_stuck() const;

  CompiledJob job_;
  const std::function<void(const TaskRun&)>& on_task_;
  std::vector<Device> devices_;
  DeviceQueue queue_;
  std::int64_t now_ = 0;
  RunResult result_;
};

Engine::Engine(const Job& job, const std::function<void(const TaskRun&)>& on_task)
    : job_(job), on_task_(on_task), devices_(job.devices.size()), queue_(job.devices.size()) {
  result_.device_end_ps.resize(devices_.size());
  result_.slot_start_ps.resize(devices_.size());
  result_.slot_end_ps.resize(devices_.size());
  for (std::size_t d = 0; d < devices_.size(); ++d) {
    Device& device = devices_[d];
    device.slots = &job_.devices[d];
    result_.slot_end_ps[d].resize(device.slots->size());
    for (const CompiledSlot& slot : *device.slots) {
      result_.slot_start_ps[d].push_back(slot.block->tasks.empty() ? 0 : kNever);
    }
    for (int k = 0; k < kMaxStreams; ++k) {
      enter_next_slot(device, k);
      if (device.streams[k].head) device.num_streams = k + 1;
    }
    if (device.num_streams > 0) queue_.set(static_cast<std::int32_t>(d), 0);
  }
}

RunResult Engine::run() {
  while (queue_.first_time() != kNever) {
    now_ = queue_.first_time();
    step(queue_.first());
  }
  throw_if_stuck();
  for (std::int64_t end : result_.device_end_ps) result_.makespan_ps = std::max(result_.makespan_ps, end);
  return std::move(result_);
}

// All that happens on one device now: ends, then starts, then the new rates.
void Engine::step(std::int32_t device_idx) {
  Device& device = devices_[device_idx];
  bool changed = false;
  for (int k = 0; k < device.num_streams; ++k) {
    if (device.streams[k].running && device.streams[k].next_ps == now_) {
      finish(device_idx, k);
      changed = true;
    }
  }
  if (start_heads(device_idx)) changed = true;
  if (changed) set_rates(device);

  std::int64_t next = kNever;
  for (int k = 0; k < device.num_streams; ++k) next = std::min(next, device.streams[k].next_ps);
  queue_.set(device_idx, next);
}

// Starts what may start. A task of no length ends at once, which may free other streams. Returns whether any runs on.
bool Engine::start_heads(std::int32_t device_idx) {
  Device& device = devices_[device_idx];
  bool started = false;
  for (bool again = true; again;) {
    again = false;
    for (int k = 0; k < device.num_streams; ++k) {
      StreamState& stream = device.streams[k];
      while (can_start(device, stream)) {
        start(device_idx, stream);
        if (stream.head->alone_ps > 0) {
          started = true;
        } else {
          finish(device_idx, k);
          again = true;
        }
      }
    }
  }
  return started;
}

bool Engine::can_start(Device& device, StreamState& stream) {
  if (stream.running || !stream.head) return false;
  const CompiledSlot& slot = (*device.slots)[stream.slot];
  if (slot.awaited > 0 || slot.ready_ps > now_) {
    stream.next_ps = slot.awaited > 0 ? kNever : slot.ready_ps;
    return false;
  }
  stream.next_ps = kNever;
  if (stream.head->waits && !needs_met(device, stream)) return false;
  return job_.launch_queues >= kMaxStreams || is_issued_in_turn(device, stream);
}

// What was issued before through the same queue has started.
bool Engine::is_issued_in_turn(const Device& device, const StreamState& stream) const {
  const CompiledBlock& block = *(*device.slots)[stream.slot].block;
  const auto own = static_cast<int>(&stream - device.streams.data());
  for (int k = 0; k < device.num_streams; ++k) {
    const StreamState& other = device.streams[k];
    if (k == own || k % job_.launch_queues != own % job_.launch_queues || !other.head) continue;
    if (other.slot > stream.slot) continue;
    const std::int32_t started = other.position + static_cast<std::int32_t>(other.running);
    if (other.slot < stream.slot) {
      if (started < other.end) return false;
      continue;
    }
    if (started - block.first[k] < block.issued_before[stream.position][k]) return false;
  }
  return true;
}

bool Engine::needs_met(const Device& device, const StreamState& stream) const {
  const CompiledBlock& block = *(*device.slots)[stream.slot].block;
  for (int k = 0; k < device.num_streams; ++k) {
    const StreamState& other = device.streams[k];
    if (other.slot > stream.slot) continue;
    const std::int32_t ended = other.slot < stream.slot ? 0 : other.position - block.first[k];
    if (ended < stream.head->needs[k]) return false;
  }
  return true;
}

void Engine::start(std::int32_t device_idx, StreamState& stream) {
  stream.running = true;
  stream.start_ps = stream.since_ps = now_;
  stream.remaining_ps = static_cast<double>(stream.head->alone_ps);
  stream.rate = 0;
  std::int64_t& slot_start = result_.slot_start_ps[device_idx][stream.slot];
  slot_start = std::min(slot_start, now_);
}

void Engine::finish(std::int32_t device_idx, int stream_idx) {
  Device& device = devices_[device_idx];
  StreamState& stream = device.streams[stream_idx];
  ++result_.events;
  result_.device_end_ps[device_idx] = now_;
  if (on_task_) on_task_({device_idx, stream.slot, stream.head->task, stream.start_ps, now_});
  stream.running = false;
  stream.next_ps = kNever;

  const std::int32_t slot = stream.slot, sender = stream.position;
  std::int32_t message = stream.message;
  if (++stream.position < stream.end) {
    ++stream.head;
  } else {
    result_.slot_end_ps[device_idx][slot] = now_;
    enter_next_slot(device, stream_idx);
  }
  const std::int32_t last_message = (*device.slots)[slot].last_message;
  while (message < last_message && job_.messages[message].position == sender) send(job_.messages[message++]);
  if (stream.slot == slot) stream.message = message;
}

void Engine::send(const OutgoingMessage& message) {
  Device& device = devices_[message.to_device];
  CompiledSlot& slot = (*device.slots)[message.to_slot];
  slot.ready_ps = std::max(slot.ready_ps, now_ + message.latency_ps);
  if (--slot.awaited > 0) return;
  for (int k = 0; k < device.num_streams; ++k) {
    StreamState& stream = device.streams[k];
    if (stream.slot != message.to_slot || stream.running || !stream.head) continue;
    stream.next_ps = slot.ready_ps;
    queue_.set(message.to_device, std::min(queue_.time(message.to_device), slot.ready_ps));
  }
}

void Engine::enter_next_slot(Device& device, int stream_idx) {
  StreamState& stream = device.streams[stream_idx];
  const auto num_slots = static_cast<std::int32_t>(device.slots->size());
  stream.head = nullptr;
  while (++stream.slot < num_slots) {
    const CompiledSlot& slot = (*device.slots)[stream.slot];
    stream.position = slot.block->first[stream_idx];
    stream.end = slot.block->first[stream_idx + 1];
    if (stream.position == stream.end) continue;
    stream.head = &slot.block->tasks[stream.position];
    stream.message = slot.first_message;
    while (stream.message < slot.last_message && job_.messages[stream.message].position < stream.position) {
      ++stream.message;
    }
    return;
  }
}

// A task whose rate stays as it was keeps its end: nothing is rounded again.
void Engine::set_rates(Device& device) {
  std::array<StreamState*, kMaxStreams> running;
  std::array<const Demand*, kMaxStreams> demands;
  std::array<double, kMaxStreams> rates{1};
  int count = 0;
  for (int k = 0; k < device.num_streams; ++k) {
    if (!device.streams[k].running) continue;
    running[count] = &device.streams[k];
    demands[count++] = &device.streams[k].head->demand;
  }
  if (count > 1) fluid_rates(demands.data(), count, rates.data());
  for (int i = 0; i < count; ++i) {
    StreamState& stream = *running[i];
    if (rates[i] == stream.rate) continue;
    stream.remaining_ps -= stream.rate * static_cast<double>(now_ - stream.since_ps);
    stream.since_ps = now_;
    stream.rate = rates[i];
    stream.next_ps = end_of(now_, stream.remaining_ps, stream.rate);
  }
}

// The rest explains a job that is stuck.

bool Engine::has_ended(std::int32_t device, std::int32_t slot, std::int32_t position) const {
  const CompiledBlock& block = *job_.devices[device][slot].block;
  int k = 0;
  while (position >= block.first[k + 1]) ++k;
  const StreamState& stream = devices_[device].streams[k];
  return stream.slot > slot || (stream.slot == slot && stream.position > position);
}

std::string Engine::unsent_to(std::int32_t to_device, std::int32_t to_slot) const {
  std::string text;
  for (std::size_t d = 0; d < job_.devices.size(); ++d) {
    for (std::size_t s = 0; s < job_.devices[d].size(); ++s) {
      const CompiledSlot& slot = job_.devices[d][s];
      for (std::int32_t m = slot.first_message; m < slot.last_message; ++m) {
        const OutgoingMessage& message = job_.messages[m];
        if (message.to_device != to_device || message.to_slot != to_slot) continue;
        if (has_ended(static_cast<std::int32_t>(d), static_cast<std::int32_t>(s), message.position)) continue;
        text += fmt::format("{}a message of device {} slot {} task {}", text.empty() ? "" : " and ", d, s,
                            slot.block->tasks[message.position].task);
      }
    }
  }
  return text;
}

std::string Engine::unmet_needs(std::int32_t device, const StreamState& stream) const {
  const CompiledBlock& block = *job_.devices[device][stream.slot].block;
  std::string text;
  for (int k = 0; k < kMaxStreams; ++k) {
    if (stream.head->needs[k] == 0) continue;
    const std::int32_t position = block.first[k] + stream.head->needs[k] - 1;
    if (has_ended(device, stream.slot, position)) continue;
    text += fmt::format("{}task {} on stream {}", text.empty() ? "" : " and ", block.tasks[position].task, k);
  }
  return text;
}

void Engine::throw_if_stuck() const {
  std::string text;
  for (std::int32_t d = 0; d < static_cast<std::int32_t>(devices_.size()); ++d) {
    for (int k = 0; k < kMaxStreams; ++k) {
      const StreamState& stream = devices_[d].streams[k];
      if (!stream.head) continue;
      const bool awaits = job_.devices[d][stream.slot].awaited > 0;
      text += fmt::format("; device {} stream {}: slot {} task {} waits for {}", d, k, stream.slot, stream.head->task,
                          awaits ? unsent_to(d, stream.slot) : unmet_needs(d, stream));
    }
  }
  if (!text.empty()) throw std::logic_error("the job cannot finish" + text);
}

}  // namespace

RunResult run(const Job& job, const std::function<void(const TaskRun&)>& on_task) {
  return job.devices.empty() ? RunResult{} : Engine(job, on_task).run();
}

}  // namespace msmoe::simulator
