#include "simulator/job.h"

#include <array>
#include <map>
#include <optional>
#include <tuple>
#include <utility>

#include "core/schedule.h"
#include "simulator/slot_parts.h"

namespace msmoe::simulator {
namespace {

// A block, and the tasks that are its end: the last one on each stream.
struct PreparedBlock {
  std::int32_t block = 0;
  std::vector<std::int32_t> tails;
  // To the neighbouring virtual stages, after the tails: activations, gradients.
  std::optional<std::int32_t> forward_send, backward_send;

  // The last of them, which holds the compute stream where messages do not overlap.
  std::optional<std::int32_t> last_send() const { return backward_send ? backward_send : forward_send; }
};

// The last task on each stream, of those from first on.
std::vector<std::int32_t> tails_of(const Block& block, std::size_t first) {
  std::array<std::int32_t, kMaxStreams> last;
  last.fill(-1);
  for (std::size_t task = first; task < block.tasks.size(); ++task) {
    last[block.tasks[task].stream] = static_cast<std::int32_t>(task);
  }
  std::vector<std::int32_t> tails;
  for (const std::int32_t task : last) {
    if (task >= 0) tails.push_back(task);
  }
  return tails;
}

class JobBuilder {
 public:
  JobBuilder(const Program& program, const Model& model, const CostModel& costs)
      : program_(program), plan_(program.plan), shape_(pipeline_shape(program.plan)), costs_(costs) {
    result_.index.operators.push_back({lower_pipeline_send(model, plan_)});
  }

  IndexedJob build() {
    result_.job.launch_queues = launch_queues(plan_);
    result_.job.devices.resize(program_.stages.size());
    result_.index.slots.resize(program_.stages.size());
    slots_.resize(static_cast<std::size_t>(2 * shape_.virtual_stages() * shape_.micro_batches));
    for (std::int32_t stage = 0; stage < static_cast<std::int32_t>(program_.stages.size()); ++stage) add_stage(stage);
    connect_stages();
    return std::move(result_);
  }

 private:
  struct RunSlot {
    std::int32_t device = 0, slot = 0;
    const PreparedBlock* block = nullptr;
  };

  // ---- Blocks

  void append(Block& block, std::vector<TaskOrigin>& origins, const std::vector<Operator>& operators,
              std::int32_t place, const std::vector<std::int32_t>& after) {
    const auto first = static_cast<std::int32_t>(block.tasks.size());
    Block more = make_block(operators, costs_);
    for (std::size_t task = 0; task < more.tasks.size(); ++task) {
      block.tasks.push_back(more.tasks[task]);
      std::vector<std::int32_t>& waits = more.waits[task];
      for (std::int32_t& wait : waits) wait += first;
      if (waits.empty()) waits = after;
      block.waits.push_back(std::move(waits));
      origins.push_back({&operators[task], place});
    }
  }

  std::int32_t add_block(Block block, std::vector<TaskOrigin> origins) {
    result_.job.blocks.push_back(std::move(block));
    result_.index.blocks.push_back(std::move(origins));
    return static_cast<std::int32_t>(result_.job.blocks.size() - 1);
  }

  // The parts of a slot, and the messages after them.
  const PreparedBlock& slot_block(const Stage& stage, const Slot& slot, bool sends_forward, bool sends_backward) {
    const bool merged = slot.kind == SlotKind::kMerged;
    const auto [found, is_new] =
        slot_blocks_.try_emplace({slot.kind, stage.chunks[slot.chunk].modules,
                                  merged ? stage.chunks[slot.backward_chunk].modules : std::vector<std::int16_t>{},
                                  sends_forward, sends_backward});
    PreparedBlock& prepared = found->second;
    if (!is_new) return prepared;
    Block block;
    std::vector<TaskOrigin> origins;
    for (const SlotPart& part : slot_parts(program_.modules, stage, slot)) {
      const std::size_t first = block.tasks.size();
      append(block, origins, operators_of(part), part.place, prepared.tails);
      if (block.tasks.size() > first) prepared.tails = tails_of(block, first);
    }
    if (block.tasks.empty()) {  // something must send its messages
      block.tasks.emplace_back();
      block.waits.emplace_back();
      origins.emplace_back();
      prepared.tails = {0};
    }
    for (const bool backward : {false, true}) {
      if (!(backward ? sends_backward : sends_forward)) continue;
      (backward ? prepared.backward_send : prepared.forward_send) = static_cast<std::int32_t>(block.tasks.size());
      append(block, origins, result_.index.operators.front(), -1, prepared.tails);
    }
    prepared.block = add_block(std::move(block), std::move(origins));
    return prepared;
  }

  const std::vector<Operator>& operators_of(const SlotPart& part) {
    const std::vector<Operator>*& known = part_operators_[part.key()];
    if (known == nullptr) known = &part_operators(program_.modules, plan_, part, result_.index.operators);
    return *known;
  }

  PreparedBlock other_block(std::vector<Operator> operators) {
    result_.index.operators.push_back(std::move(operators));
    Block block;
    std::vector<TaskOrigin> origins;
    append(block, origins, result_.index.operators.back(), -1, {});
    PreparedBlock prepared;
    prepared.tails = tails_of(block, 0);
    prepared.block = add_block(std::move(block), std::move(origins));
    return prepared;
  }

  struct SyncBlocks {
    std::optional<PreparedBlock> gather, reduce;  // none: nothing to do
  };
  const SyncBlocks& sync_blocks(const ModuleParameters& parameters) {
    const auto [found, is_new] = sync_blocks_.try_emplace(parameters);
    if (is_new) {
      ChunkSync sync = lower_sync(plan_, parameters);
      if (!sync.gather.empty()) found->second.gather = other_block(std::move(sync.gather));
      if (!sync.reduce.empty()) found->second.reduce = other_block(std::move(sync.reduce));
    }
    return found->second;
  }

  const PreparedBlock& optimizer_block(const ModuleParameters& parameters) {
    const auto [found, is_new] = optimizer_blocks_.try_emplace(parameters);
    if (is_new) found->second = other_block(lower_optimizer(plan_, parameters));
    return found->second;
  }

  // ---- Slots

  RunSlot add_slot(std::int32_t stage, const PreparedBlock& block, SlotOrigin origin) {
    result_.job.devices[stage].push_back(block.block);
    result_.index.slots[stage].push_back(origin);
    return {stage, static_cast<std::int32_t>(result_.job.devices[stage].size() - 1), &block};
  }

  void message(const RunSlot& from, std::int32_t task, const RunSlot& to) {
    result_.job.messages.push_back({from.device, from.slot, task, to.device, to.slot, 0});
  }
  // `to` starts when `from` has ended; its send counts where it holds the compute stream.
  void follow(const RunSlot& from, const RunSlot& to, bool after_send) {
    for (const std::int32_t task : from.block->tails) message(from, task, to);
    if (after_send && from.block->last_send() && !plan_.overlap_p2p) message(from, *from.block->last_send(), to);
  }

  RunSlot& slot_of(bool backward, std::int64_t virtual_stage, std::int64_t micro_batch) {
    return slots_[((backward ? shape_.virtual_stages() : 0) + virtual_stage) * shape_.micro_batches + micro_batch];
  }

  RunSlot add_pass(std::int32_t stage_idx, const Slot& slot) {
    const std::int64_t v = shape_.virtual_stage(stage_idx, slot.chunk);
    const std::int64_t gradient_v = shape_.virtual_stage(stage_idx, slot.gradient_chunk());
    const bool sends_forward = slot.runs_forward() && v + 1 < shape_.virtual_stages() && shape_.sends(v);
    const bool sends_backward = slot.makes_input_gradients() && gradient_v > 0 && shape_.sends(gradient_v - 1);
    const RunSlot now = add_slot(stage_idx, slot_block(program_.stages[stage_idx], slot, sends_forward, sends_backward),
                                 {SlotRole::kPass, slot});
    if (slot.runs_forward()) slot_of(false, v, slot.micro_batch) = now;
    if (slot.makes_input_gradients()) slot_of(true, gradient_v, slot.gradient_micro_batch()) = now;
    return now;
  }

  void add_stage(std::int32_t stage_idx) {
    const Stage& stage = program_.stages[stage_idx];
    std::vector<std::optional<RunSlot>> gathers = add_gathers(stage_idx);
    std::optional<RunSlot> before;
    std::vector<RunSlot> ends;                                    // what the optimizers of all stages wait for
    std::vector<std::size_t> last_gradient(stage.chunks.size());  // slot that completes the chunk's gradients
    for (std::size_t i = 0; i < stage.slots.size(); ++i)
      if (stage.slots[i].makes_weight_gradients()) last_gradient[stage.slots[i].gradient_chunk()] = i;
    for (std::size_t i = 0; i < stage.slots.size(); ++i) {
      const Slot& slot = stage.slots[i];
      const RunSlot now = add_pass(stage_idx, slot);
      if (before) follow(*before, now, true);
      if (slot.runs_forward() && gathers[slot.chunk]) {
        follow(*gathers[slot.chunk], now, false);
        gathers[slot.chunk].reset();
      }
      if (!before && !plan_.overlap_param_gather) {
        for (const std::optional<RunSlot>& gather : gathers) {
          if (gather) follow(*gather, now, false);
        }
      }
      before = now;
      if (plan_.overlap_grad_reduce && slot.makes_weight_gradients() && last_gradient[slot.gradient_chunk()] == i) {
        add_reduction(stage_idx, slot.gradient_chunk(), now, ends);
      }
    }
    if (!plan_.overlap_grad_reduce) {
      for (std::int64_t chunk = shape_.chunks() - 1; chunk >= 0; --chunk)
        add_reduction(stage_idx, static_cast<std::int16_t>(chunk), *before, ends);
    }
    ends.push_back(*before);
    stage_ends_.push_back(std::move(ends));
    ModuleParameters parameters;
    for (const Chunk& chunk : stage.chunks) parameters += chunk.parameters;
    optimizers_.push_back(add_slot(stage_idx, optimizer_block(parameters), {.role = SlotRole::kOptimizer, .slot = {}}));
  }

  std::vector<std::optional<RunSlot>> add_gathers(std::int32_t stage) {
    std::vector<std::optional<RunSlot>> gathers;
    std::int16_t chunk_idx = 0;
    for (const Chunk& chunk : program_.stages[stage].chunks) {
      const std::optional<PreparedBlock>& gather = sync_blocks(chunk.parameters).gather;
      gathers.emplace_back();
      if (gather) gathers.back() = add_slot(stage, *gather, {SlotRole::kGather, {.chunk = chunk_idx}});
      ++chunk_idx;
    }
    return gathers;
  }

  void add_reduction(std::int32_t stage, std::int16_t chunk, const RunSlot& after, std::vector<RunSlot>& ends) {
    const std::optional<PreparedBlock>& reduce = sync_blocks(program_.stages[stage].chunks[chunk].parameters).reduce;
    if (!reduce) return;
    ends.push_back(add_slot(stage, *reduce, {SlotRole::kReduce, {.chunk = chunk}}));
    follow(after, ends.back(), false);
  }

  // Activations to the next virtual stage, gradients to the one before, and the barrier before the optimizers.
  void connect_stages() {
    for (std::int64_t v = 0; v + 1 < shape_.virtual_stages(); ++v) {
      if (!shape_.sends(v)) continue;
      for (std::int64_t micro_batch = 0; micro_batch < shape_.micro_batches; ++micro_batch) {
        const RunSlot& forward = slot_of(false, v, micro_batch);
        message(forward, *forward.block->forward_send, slot_of(false, v + 1, micro_batch));
        const RunSlot& backward = slot_of(true, v + 1, micro_batch);
        message(backward, *backward.block->backward_send, slot_of(true, v, micro_batch));
      }
    }
    for (const std::vector<RunSlot>& ends : stage_ends_) {
      for (const RunSlot& end : ends) {
        for (const RunSlot& optimizer : optimizers_) follow(end, optimizer, true);
      }
    }
  }

  const Program& program_;
  const Plan& plan_;
  const PipelineShape shape_;
  const CostModel& costs_;
  IndexedJob result_;

  // Maps, whose elements stay where they are.
  using Modules = std::vector<std::int16_t>;
  std::map<std::tuple<SlotKind, Modules, Modules, bool, bool>, PreparedBlock> slot_blocks_;  // and which way it sends
  std::map<SlotPartKey, const std::vector<Operator>*> part_operators_;
  std::map<ModuleParameters, SyncBlocks> sync_blocks_;
  std::map<ModuleParameters, PreparedBlock> optimizer_blocks_;
  std::vector<RunSlot> slots_;  // by pass, virtual stage and micro-batch
  std::vector<std::vector<RunSlot>> stage_ends_;
  std::vector<RunSlot> optimizers_;
};

}  // namespace

IndexedJob make_job(const Program& program, const Model& model, const CostModel& costs) {
  return JobBuilder(program, model, costs).build();
}

}  // namespace msmoe::simulator
