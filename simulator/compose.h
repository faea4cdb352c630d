// The fast path: composes the times of whole slots over the pipeline, without events.
//
// A slot is one pass of one chunk over one micro-batch (core/schedule.h). On each stage slots run in schedule order;
//
//     start = max(end of the slot before, arrival of the message it needs, its chunk's gather if it is the first)
//     end = start + alone + sum over what is under way on the stage of x (beside - alone)
//
// where the data-parallel collectives and the stage's message are what may be under way. Let one have a time L left if
// nothing slows it, and get a time D of its own done beside a whole slot. Then it covers the share x = min(1, L / D) of
// the slot, and ends x (beside - D) later for it.
//
// A stage's messages leave one after the other, and so do its gathers from t = 0 on; the reduction of a chunk's
// gradients starts at the end of its last backward, or when the reduction before it ends. Gradient norm and optimizer
// follow when every stage is done. A message arrives as if nothing slowed it, for only the ones behind it are sure to
// wait: whether the sender's next slot comes in its way is not known when the receiver needs it.
//
// The order of work. Let d = pp - 1 - stage, g the round size, N = m vpp. Stage d runs its k-th forward in tick
// k - d - (vpp - 1) g and its k-th backward in tick k + d (interleaved), or in ticks 2k - d and 2k + d (1F1B), forward
// first. Every message then comes from an earlier tick, and one between neighbours from the tick just before, so that
// a single pass over the ticks settles all slots and keeps no more than the last message of each stage.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/plan.h"
#include "core/program.h"
#include "core/schedule.h"

namespace msmoe::simulator {

// A slot with an operator of another stream beside it all along.
struct Beside {
  std::int64_t slot = 0;   // how long the slot takes. REQUIRES: no less than alone
  std::int64_t other = 0;  // what the other gets done meanwhile, in time of its own alone. REQUIRES: no more than slot

  Beside& operator+=(const Beside& more) {
    slot += more.slot;
    other += more.other;
    return *this;
  }
  friend Beside operator*(std::int64_t count, const Beside& one) { return {count * one.slot, count * one.other}; }
};

// A slot alone and with an operator of another stream beside it.
struct SlotTimes {
  std::int64_t alone = 0;
  Beside data, send;

  SlotTimes& operator+=(const SlotTimes& more) {
    alone += more.alone;
    data += more.data;
    send += more.send;
    return *this;
  }
};

// A slot and what has `left` to do beside it: how much later each ends than it would alone.
struct Slowdown {
  std::int64_t slot, other;
};
inline Slowdown slowdown(std::int64_t alone, const Beside& beside, std::int64_t left) {
  const Slowdown whole{beside.slot - alone, beside.slot - beside.other};
  if (left >= beside.other) return whole;
  const double share = static_cast<double>(left) / static_cast<double>(beside.other);
  return {static_cast<std::int64_t>(share * static_cast<double>(whole.slot)),
          static_cast<std::int64_t>(share * static_cast<double>(whole.other))};
}

// All times in picoseconds. Vectors by virtual stage (core/schedule.h), but for optimizer and merged.
struct PipelineTimes {
  PipelineSchedule schedule = PipelineSchedule::k1F1B;
  std::int64_t pp = 1, vpp = 1, micro_batches = 1;
  bool merge_passes = false;
  PipelineShape shape() const { return {schedule, pp, vpp, micro_batches, merge_passes}; }

  std::vector<std::int64_t> forward, backward;                    // of a slot with nothing beside it
  std::vector<Beside> forward_beside_data, backward_beside_data;  // data-parallel collectives
  std::vector<Beside> forward_beside_send, backward_beside_send;

  // Where the schedule has such slots. Merged ones by stage, the forward's chunk and the backward's: merged_index().
  std::vector<SlotTimes> backward_input, backward_weight, merged;
  std::size_t merged_index(std::int64_t stage, std::int64_t forward_chunk, std::int64_t backward_chunk) const {
    const std::int64_t chunks = shape().chunks();
    return static_cast<std::size_t>((stage * chunks + forward_chunk) * chunks + backward_chunk);
  }
  SlotTimes slot(std::int64_t stage, const Slot& slot) const;

  std::int64_t send = 0;    // activation or gradient to the neighbouring virtual stage; nothing is sent where pp == 1
  bool overlap_p2p = true;  // false: the compute stream is busy for `send` after the slot, too

  std::vector<std::int64_t> gather;  // parameters, before the first forward
  std::vector<std::int64_t> reduce;  // gradients, after the last backward
  bool overlap_param_gather = true;  // false: all gathers of a stage end before its first slot
  bool overlap_grad_reduce = true;   // false: reductions start after the stage's last slot

  std::int64_t norm = 0;                // gradient-norm all-reduce, after every stage's last reduction
  std::vector<std::int64_t> optimizer;  // by stage
};

// Where one stage's time goes. step = busy + exposed_gather + exposed_send + exposed_reduce + norm + optimizer +
// bubble.
struct StageTimes {
  std::int64_t last_slot_end_ps = 0;
  std::int64_t busy_ps = 0;            // slots, as long as they took
  std::int64_t slowed_ps = 0;          // the part of busy that slots lost to collectives and sends beside them
  std::int64_t exposed_gather_ps = 0;  // waits for parameters alone
  std::int64_t exposed_send_ps = 0;    // waits for messages on their way, or sends on the compute stream
  std::int64_t exposed_reduce_ps = 0;  // reductions still running after the last slot
  std::int64_t bubble_ps = 0;          // all other idle time
};

struct Composition {
  std::int64_t step_ps = 0;
  std::vector<StageTimes> stages;
};

class SlotComposer;  // compose_slots.h

// Keeps its memory from call to call; one for each thread.
class Composer {
 public:
  Composer();
  ~Composer();

  // Valid until the next call. REQUIRES what stage_slots (core/schedule.h) requires, and vectors of full length. Other
  // shapes than plain ones go to a SlotComposer.
  const Composition& compose(const PipelineTimes& times);

 private:
  // What the k-th forward of every stage is; the k-th backward is its mirror image, chunk vpp - 1 - chunk.
  struct Turn {
    std::int32_t chunk = 0;
    std::int32_t wraps_from = 0;  // the turn of the same micro-batch in the chunk before; chunk > 0
    bool first = false;           // micro-batch 0
    bool last = false;            // micro-batch m - 1
  };
  struct StageState {
    std::int64_t clock = 0;                                  // when its compute stream is free
    std::int64_t data_end = 0;                               // when its data stream is free
    std::int64_t sent = 0;                                   // when its last message arrives, whichever way it goes
    std::int64_t forward_arrival = 0, backward_arrival = 0;  // of its last message each way
  };

  void lay_out_turns(const PipelineTimes& times);
  void start_gathers();
  void run_ticks();
  void run_forward(std::int64_t stage, std::int64_t turn_idx);
  void run_backward(std::int64_t stage, std::int64_t turn_idx);
  std::int64_t start_of_slot(std::int64_t stage, std::int64_t arrival);
  std::int64_t end_of_slot(std::int64_t stage, std::int64_t start, std::int64_t alone, const Beside& data,
                           const Beside& send);
  void finish_step();

  const PipelineTimes* times_ = nullptr;  // during compose
  std::int64_t send_ = 0;                 // 0 where pp == 1
  std::int64_t hold_ = 0;                 // of the compute stream, by a send

  PipelineSchedule schedule_ = PipelineSchedule::k1F1B;  // turns_ are for these four
  std::int64_t pp_ = 0, vpp_ = 0, micro_batches_ = 0;
  std::int64_t round_ = 0;
  std::vector<Turn> turns_;

  std::vector<StageState> states_;
  std::vector<std::int64_t> gather_end_;  // by virtual stage
  // By turn: when the last stage's forward arrives at stage 0, and stage 0's backward at the last stage.
  std::vector<std::int64_t> forward_wraps_, backward_wraps_;
  Composition result_;
  std::unique_ptr<SlotComposer> slots_;  // once there was need of it
};

// No composition of these times is shorter: for each stage, the way of the first micro-batch to it, its slots, and what
// must still happen after its last one; and one micro-batch's way through all virtual stages and back. O(pp vpp).
std::int64_t lower_bound_ps(const PipelineTimes& times);

}  // namespace msmoe::simulator
