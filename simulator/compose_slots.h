// The fast path for schedules whose slots are not those of 1F1B or interleaved: parted backwards, merged passes, other
// placements (core/schedule.h). It walks the stages' lists of slots, each as far as the messages that have arrived let
// it; what a slot's time is, and what goes on beside it, is as in compose.h. O(slots).
#pragma once

#include <cstdint>
#include <vector>

#include "core/schedule.h"
#include "simulator/compose.h"

namespace msmoe::simulator {

// Keeps its memory from call to call; one for each thread.
class SlotComposer {
 public:
  // As Composer::compose, for any shape.
  const Composition& compose(const PipelineTimes& times);

 private:
  struct StageState {
    std::size_t next = 0;                            // slot
    std::int64_t clock = 0, data_end = 0, sent = 0;  // as in compose.h
    std::vector<std::int64_t> gather_end;            // by chunk
    std::vector<bool> gathered;
    std::vector<std::int64_t> gradients_left;  // slots, by chunk
  };

  void start(const PipelineTimes& times);
  void run_stage(std::int64_t stage);
  bool run_next(std::int64_t stage);
  std::int64_t arrival(bool backward, std::int64_t virtual_stage, std::int64_t micro_batch) const;
  std::int64_t end_of_slot(std::int64_t stage, std::int64_t start, const SlotTimes& slot);
  void send(std::int64_t stage, bool backward, std::int64_t virtual_stage, std::int64_t micro_batch);
  void finish_step();

  std::size_t at(bool backward, std::int64_t virtual_stage, std::int64_t micro_batch) const {
    return static_cast<std::size_t>(((backward ? shape_.virtual_stages() : 0) + virtual_stage) * shape_.micro_batches +
                                    micro_batch);
  }

  const PipelineTimes* times_ = nullptr;  // during compose
  PipelineShape shape_;
  std::vector<std::vector<Slot>> slots_;  // of shape_, by stage
  std::vector<StageState> states_;
  std::vector<std::int64_t> arrivals_;  // at(...): when the output is where it is needed; negative: not yet
  std::vector<std::int64_t> ready_;     // stages to look at
  Composition result_;
};

// As lower_bound_ps, for any shape: for each stage, the way of the first micro-batch to it, its slots, and the
// reduction after the last; and the slots on the way of the first micro-batch there and back.
std::int64_t lower_bound_of_slots_ps(const PipelineTimes& times);

}  // namespace msmoe::simulator
