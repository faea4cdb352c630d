#include "simulator/job.h"

#include <array>
#include <map>
#include <optional>
#include <tuple>
#include <utility>

namespace msmoe::simulator {
namespace {

// A block, and the tasks that are its end: the last one on each stream.
struct PreparedBlock {
  std::int32_t block = 0;
  std::vector<std::int32_t> tails;
  std::optional<std::int32_t> send;  // to the neighbouring virtual stage, after the tails
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
      : program_(program), plan_(program.plan), costs_(costs) {
    result_.index.operators.push_back({lower_pipeline_send(model, plan_)});
  }

  IndexedJob build() {
    result_.job.devices.resize(program_.stages.size());
    result_.index.slots.resize(program_.stages.size());
    slots_.resize(static_cast<std::size_t>(2 * plan_.virtual_stages() * plan_.micro_batches()));
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

  // One pass over a chunk: its modules, forward from first to last or backward from last to first.
  const PreparedBlock& pass_block(const Chunk& chunk, bool backward, bool sends) {
    const auto [found, is_new] = pass_blocks_.try_emplace({chunk.modules, backward, sends});
    PreparedBlock& prepared = found->second;
    if (!is_new) return prepared;
    Block block;
    std::vector<TaskOrigin> origins;
    const auto count = static_cast<std::int32_t>(chunk.modules.size());
    for (std::int32_t i = 0; i < count; ++i) {
      const std::int32_t place = backward ? count - 1 - i : i;
      const Module& module = program_.modules[chunk.modules[place]];
      const std::size_t first = block.tasks.size();
      append(block, origins, backward ? module.backward : module.forward, place, prepared.tails);
      if (block.tasks.size() > first) prepared.tails = tails_of(block, first);
    }
    if (block.tasks.empty()) {  // something must send its messages
      block.tasks.emplace_back();
      block.waits.emplace_back();
      origins.emplace_back();
      prepared.tails = {0};
    }
    if (sends) {
      prepared.send = static_cast<std::int32_t>(block.tasks.size());
      append(block, origins, result_.index.operators.front(), -1, prepared.tails);
    }
    prepared.block = add_block(std::move(block), std::move(origins));
    return prepared;
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
    const auto [found, is_new] = sync_blocks_.try_emplace({parameters.dense, parameters.expert});
    if (is_new) {
      ChunkSync sync = lower_sync(plan_, parameters);
      if (!sync.gather.empty()) found->second.gather = other_block(std::move(sync.gather));
      if (!sync.reduce.empty()) found->second.reduce = other_block(std::move(sync.reduce));
    }
    return found->second;
  }

  const PreparedBlock& optimizer_block(const ModuleParameters& parameters) {
    const auto [found, is_new] = optimizer_blocks_.try_emplace({parameters.dense, parameters.expert});
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
    if (after_send && from.block->send && !plan_.overlap_p2p) message(from, *from.block->send, to);
  }

  RunSlot& slot_of(bool backward, std::int64_t virtual_stage, std::int64_t micro_batch) {
    return slots_[((backward ? plan_.virtual_stages() : 0) + virtual_stage) * plan_.micro_batches() + micro_batch];
  }

  void add_stage(std::int32_t stage_idx) {
    const Stage& stage = program_.stages[stage_idx];
    std::vector<std::optional<RunSlot>> gathers = add_gathers(stage_idx);
    std::optional<RunSlot> before;
    std::vector<RunSlot> ends;  // what the optimizers of all stages wait for
    for (const Slot& slot : stage.slots) {
      const std::int64_t v = slot.chunk * plan_.pp + stage_idx;
      const bool sends = plan_.pp > 1 && (slot.backward ? v > 0 : v < plan_.virtual_stages() - 1);
      const Chunk& chunk = stage.chunks[slot.chunk];
      const RunSlot now =
          add_slot(stage_idx, pass_block(chunk, slot.backward, sends),
                   {slot.backward ? SlotKind::kBackward : SlotKind::kForward, slot.chunk, slot.micro_batch});
      slot_of(slot.backward, v, slot.micro_batch) = now;
      if (before) follow(*before, now, true);
      if (!slot.backward && gathers[slot.chunk]) {
        follow(*gathers[slot.chunk], now, false);
        gathers[slot.chunk].reset();
      }
      if (!before && !plan_.overlap_param_gather) {
        for (const std::optional<RunSlot>& gather : gathers) {
          if (gather) follow(*gather, now, false);
        }
      }
      before = now;
      if (slot.backward && slot.micro_batch == plan_.micro_batches() - 1 && plan_.overlap_grad_reduce) {
        add_reduction(stage_idx, slot.chunk, now, ends);
      }
    }
    if (!plan_.overlap_grad_reduce) {
      for (std::int64_t chunk = plan_.vpp - 1; chunk >= 0; --chunk) add_reduction(stage_idx, chunk, *before, ends);
    }
    ends.push_back(*before);
    stage_ends_.push_back(std::move(ends));
    ModuleParameters parameters;
    for (const Chunk& chunk : stage.chunks) {
      parameters.dense += chunk.parameters.dense;
      parameters.expert += chunk.parameters.expert;
    }
    optimizers_.push_back(add_slot(stage_idx, optimizer_block(parameters), {.kind = SlotKind::kOptimizer}));
  }

  std::vector<std::optional<RunSlot>> add_gathers(std::int32_t stage) {
    std::vector<std::optional<RunSlot>> gathers;
    std::int16_t chunk_idx = 0;
    for (const Chunk& chunk : program_.stages[stage].chunks) {
      const std::optional<PreparedBlock>& gather = sync_blocks(chunk.parameters).gather;
      gathers.emplace_back();
      if (gather) gathers.back() = add_slot(stage, *gather, {SlotKind::kGather, chunk_idx, 0});
      ++chunk_idx;
    }
    return gathers;
  }

  void add_reduction(std::int32_t stage, std::int64_t chunk, const RunSlot& after, std::vector<RunSlot>& ends) {
    const std::optional<PreparedBlock>& reduce = sync_blocks(program_.stages[stage].chunks[chunk].parameters).reduce;
    if (!reduce) return;
    ends.push_back(add_slot(stage, *reduce, {SlotKind::kReduce, static_cast<std::int16_t>(chunk), 0}));
    follow(after, ends.back(), false);
  }

  // Activations to the next virtual stage, gradients to the one before, and the barrier before the optimizers.
  void connect_stages() {
    for (std::int64_t v = 0; plan_.pp > 1 && v + 1 < plan_.virtual_stages(); ++v) {
      for (std::int64_t micro_batch = 0; micro_batch < plan_.micro_batches(); ++micro_batch) {
        const RunSlot& forward = slot_of(false, v, micro_batch);
        message(forward, *forward.block->send, slot_of(false, v + 1, micro_batch));
        const RunSlot& backward = slot_of(true, v + 1, micro_batch);
        message(backward, *backward.block->send, slot_of(true, v, micro_batch));
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
  const CostModel& costs_;
  IndexedJob result_;

  // Maps, whose elements stay where they are.
  std::map<std::tuple<std::vector<std::int16_t>, bool, bool>, PreparedBlock> pass_blocks_;  // modules, backward, sends
  std::map<std::pair<double, double>, SyncBlocks> sync_blocks_;                             // by parameters
  std::map<std::pair<double, double>, PreparedBlock> optimizer_blocks_;
  std::vector<RunSlot> slots_;  // by pass, virtual stage and micro-batch
  std::vector<std::vector<RunSlot>> stage_ends_;
  std::vector<RunSlot> optimizers_;
};

}  // namespace

IndexedJob make_job(const Program& program, const Model& model, const CostModel& costs) {
  return JobBuilder(program, model, costs).build();
}

}  // namespace msmoe::simulator
