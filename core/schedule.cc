#include "core/schedule.h"

#include <algorithm>
#include <array>
#include <cassert>

namespace msmoe {
namespace {

// Slots as they are added, each pass of a chunk taking its micro-batches in turn from the chunk's first one on.
class SlotList {
 public:
  explicit SlotList(std::int64_t expected) { slots_.reserve(static_cast<std::size_t>(expected)); }

  void start_at(std::size_t chunk, std::int64_t micro_batch) {
    forward_[chunk] = backward_[chunk] = static_cast<std::int32_t>(micro_batch);
  }
  void forward(std::size_t chunk) { add(SlotKind::kForward, chunk, forward_[chunk]++); }
  void backward(std::size_t chunk) { add(SlotKind::kBackward, chunk, backward_[chunk]++); }
  // Weight gradients follow in the order of the input gradients: weight() takes the oldest.
  void input(std::size_t chunk) {
    waiting_.push_back(slots_.size());
    add(SlotKind::kBackwardInput, chunk, backward_[chunk]++);
  }
  void weight() { weight_of(slots_[waiting_[next_weight_++]]); }
  // The oldest weight gradient of a chunk, where chunks do not take turns.
  void weight(std::size_t chunk) {
    const auto oldest = std::find_if(waiting_.begin() + static_cast<std::ptrdiff_t>(next_weight_), waiting_.end(),
                                     [&](std::size_t slot) { return slots_[slot].chunk == static_cast<int>(chunk); });
    const Slot input = slots_[*oldest];
    waiting_.erase(oldest);
    weight_of(input);
  }
  bool has_weights() const { return next_weight_ < waiting_.size(); }
  void merged(std::size_t forward_chunk, std::size_t backward_chunk) {
    slots_.push_back({static_cast<std::int16_t>(forward_chunk), SlotKind::kMerged, forward_[forward_chunk]++,
                      static_cast<std::int16_t>(backward_chunk), backward_[backward_chunk]++});
  }

  std::int64_t forwards(std::size_t chunk) const { return forward_[chunk]; }
  std::vector<Slot> take() { return std::move(slots_); }

 private:
  void add(SlotKind kind, std::size_t chunk, std::int32_t micro_batch) {
    slots_.push_back({static_cast<std::int16_t>(chunk), kind, micro_batch});
  }
  void weight_of(const Slot& input) {
    add(SlotKind::kBackwardWeight, static_cast<std::size_t>(input.chunk), input.micro_batch);
  }

  std::vector<Slot> slots_;
  std::array<std::int32_t, 2> forward_{}, backward_{};  // the next micro-batch
  std::vector<std::size_t> waiting_;                    // slots of input gradients
  std::size_t next_weight_ = 0;
};

// The forwards of a stage in order, the same on every stage. Backwards go in this order too, with the chunks reversed.
std::vector<Slot> forward_order(std::int64_t vpp, std::int64_t round, std::int64_t micro_batches) {
  std::vector<Slot> order;
  order.reserve(static_cast<std::size_t>(micro_batches * vpp));
  for (std::int64_t first = 0; first < micro_batches; first += round) {
    const std::int64_t last = std::min(first + round, micro_batches);
    for (std::int64_t chunk = 0; chunk < vpp; ++chunk) {
      for (std::int64_t micro_batch = first; micro_batch < last; ++micro_batch) {
        order.push_back({static_cast<std::int16_t>(chunk), SlotKind::kForward, static_cast<std::int32_t>(micro_batch)});
      }
    }
  }
  return order;
}

std::vector<Slot> alternating_slots(const PipelineShape& shape, std::int64_t stage) {
  const std::int64_t round =
      shape.schedule == PipelineSchedule::k1F1B ? shape.micro_batches : round_size(shape.pp, shape.micro_batches);
  const std::vector<Slot> order = forward_order(shape.vpp, round, shape.micro_batches);
  std::vector<Slot> slots;
  slots.reserve(2 * order.size());
  const auto warm_up = static_cast<std::size_t>(warm_up_slots(shape, stage));
  std::size_t next_forward = std::min(warm_up, order.size());
  slots.assign(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(next_forward));
  for (const Slot& mirrored : order) {
    const auto chunk = static_cast<std::int16_t>(shape.vpp - 1 - mirrored.chunk);
    if (next_forward == order.size()) {
      slots.push_back({chunk, SlotKind::kBackward, mirrored.micro_batch});
      continue;
    }
    const Slot& forward = order[next_forward++];
    if (shape.merge_passes) {
      slots.push_back({forward.chunk, SlotKind::kMerged, forward.micro_batch, chunk, mirrored.micro_batch});
    } else {
      slots.push_back(forward);
      slots.push_back({chunk, SlotKind::kBackward, mirrored.micro_batch});
    }
  }
  return slots;
}

std::vector<Slot> zb_h1_slots(const PipelineShape& shape, std::int64_t stage) {
  const std::int64_t m = shape.micro_batches;
  SlotList list(3 * m);
  for (std::int64_t i = std::min(shape.pp - 1 - stage, m); i > 0; --i) list.forward(0);
  for (std::int64_t backward = 0; backward < m; ++backward) {
    if (list.forwards(0) < m) list.forward(0);
    list.input(0);
    if (backward >= stage) list.weight();
  }
  while (list.has_weights()) list.weight();
  return list.take();
}

// All of it counts on 2 pp - 1 micro-batches; where there are fewer, those that are not there are left out.
std::vector<Slot> zb_v_slots(const PipelineShape& shape, std::int64_t stage) {
  const std::int64_t m = std::max(shape.micro_batches, 2 * shape.pp - 1);
  const std::int64_t stages_on = shape.pp - stage;
  SlotList list(6 * m);
  const auto backward_all = [&](std::size_t chunk) {
    list.input(chunk);
    list.weight(chunk);
  };
  for (std::int64_t i = 0; i < 2 * stages_on - 1; ++i) list.forward(0);
  for (std::int64_t i = 0; i < stage; ++i) {
    list.forward(1);
    list.forward(0);
  }
  for (std::int64_t i = 0; i < stages_on; ++i) {
    list.forward(1);
    backward_all(1);
  }
  while (list.forwards(1) < m) {
    if (list.forwards(0) < m) list.forward(0);
    backward_all(0);
    list.forward(1);
    backward_all(1);
  }
  for (std::int64_t i = 0; i < stage; ++i) {
    list.input(0);
    list.input(1);
  }
  for (std::int64_t i = 0; i < stages_on; ++i) {
    list.input(0);
    list.weight(0);
  }
  for (std::int64_t i = 0; i < stage; ++i) list.weight(1);
  while (list.has_weights()) list.weight();
  std::vector<Slot> slots = list.take();
  std::erase_if(slots, [&](const Slot& slot) { return slot.micro_batch >= shape.micro_batches; });
  return slots;
}

// near: the direction whose first stages are this half of the pipeline; far: the other.
std::vector<Slot> dualpipe_slots(const PipelineShape& shape, std::int64_t stage) {
  const std::int64_t half = shape.pp / 2, per_direction = shape.micro_batches / 2;
  const std::int64_t depth = std::min(stage, shape.pp - 1 - stage);  // from the nearer end
  const std::int64_t to_middle = half - 1 - depth;
  const std::size_t near = stage < half ? 0 : 1, far = 1 - near;
  SlotList list(3 * shape.micro_batches);
  list.start_at(1, per_direction);

  for (std::int64_t i = 0; i < 2 * to_middle; ++i) list.forward(near);
  for (std::int64_t i = 0; i < depth + 1; ++i) {
    list.forward(near);
    list.forward(far);
  }
  for (std::int64_t i = 0; i < to_middle; ++i) {
    list.input(far);
    list.weight();
    list.forward(far);
  }
  for (std::int64_t i = 0; i < per_direction - shape.pp + depth + 1; ++i) {
    // The two stages in the middle do not merge their first pair: the backward's input comes late.
    if (i == 0 && to_middle == 0) {
      list.forward(near);
      list.backward(far);
    } else {
      list.merged(near, far);
    }
    list.merged(far, near);
  }
  for (std::int64_t i = 0; i < to_middle; ++i) {
    list.backward(far);
    list.merged(far, near);
  }
  // From the middle of this part on weight gradients are put off.
  const auto backward = [&](std::size_t chunk, std::int64_t backwards_before) {
    backwards_before > depth ? list.input(chunk) : list.backward(chunk);
  };
  for (std::int64_t i = 0; i < depth + 1; ++i) {
    backward(far, 2 * i);
    backward(near, 2 * i + 1);
  }
  for (std::int64_t i = 0; i < to_middle; ++i) {
    list.weight();
    list.input(near);
  }
  while (list.has_weights()) list.weight();
  return list.take();
}

}  // namespace

PipelineShape pipeline_shape(const Plan& plan) {
  return {plan.schedule, plan.pp, plan.vpp, plan.micro_batches(), plan.merge_passes};
}

std::int64_t round_size(std::int64_t pp, std::int64_t micro_batches) {
  assert(micro_batches >= pp);
  std::int64_t round = pp;
  while (micro_batches % round != 0 && micro_batches % round < pp) ++round;
  return round;
}

std::int64_t warm_up_slots(const PipelineShape& shape, std::int64_t stage) {
  const std::int64_t stages_after = shape.pp - 1 - stage;
  const std::int64_t merging = shape.merge_passes ? 1 : 0;
  if (shape.schedule == PipelineSchedule::k1F1B) return stages_after + merging;
  return 2 * stages_after + (shape.vpp - 1) * round_size(shape.pp, shape.micro_batches) + merging;
}

std::vector<Slot> stage_slots(const PipelineShape& shape, std::int64_t stage) {
  assert(shape.micro_batches >= 1);
  switch (shape.schedule) {
    case PipelineSchedule::k1F1B:
    case PipelineSchedule::kInterleaved: return alternating_slots(shape, stage);
    case PipelineSchedule::kZbH1: return zb_h1_slots(shape, stage);
    case PipelineSchedule::kZbV: return zb_v_slots(shape, stage);
    case PipelineSchedule::kDualPipe: return dualpipe_slots(shape, stage);
  }
  return {};
}

std::int64_t peak_in_flight(const PipelineShape& shape, std::int64_t stage) {
  if (!shape.parts_backward()) return std::min(warm_up_slots(shape, stage) + 1, shape.micro_batches * shape.vpp);
  std::int64_t now = 0, most = 0;
  for (const Slot& slot : stage_slots(shape, stage)) {
    now += slot.runs_forward() ? 1 : 0;
    most = std::max(most, now);
    now -= slot.makes_weight_gradients() ? 1 : 0;
  }
  return most;
}

std::vector<Stage> lay_out_stages(const PipelineShape& shape, const std::vector<Chunk>& chunks) {
  std::vector<Stage> stages(static_cast<std::size_t>(shape.pp));
  for (std::int64_t stage = 0; stage < shape.pp; ++stage) {
    Stage& made = stages[static_cast<std::size_t>(stage)];
    for (std::int64_t chunk = 0; chunk < shape.chunks(); ++chunk)
      made.chunks.push_back(chunks[static_cast<std::size_t>(shape.virtual_stage(stage, chunk))]);
    made.slots = stage_slots(shape, stage);
  }
  return stages;
}

}  // namespace msmoe
