#include "core/schedule.h"

#include <algorithm>
#include <cassert>

namespace msmoe {
namespace {

// The forwards of a stage in order, the same on every stage. Backwards go in this order too, with the chunks reversed.
std::vector<Slot> forward_order(std::int64_t vpp, std::int64_t round, std::int64_t micro_batches) {
  std::vector<Slot> order;
  order.reserve(static_cast<std::size_t>(micro_batches * vpp));
  for (std::int64_t first = 0; first < micro_batches; first += round) {
    const std::int64_t last = std::min(first + round, micro_batches);
    for (std::int64_t chunk = 0; chunk < vpp; ++chunk) {
      for (std::int64_t micro_batch = first; micro_batch < last; ++micro_batch) {
        order.push_back({static_cast<std::int16_t>(chunk), false, static_cast<std::int32_t>(micro_batch)});
      }
    }
  }
  return order;
}

}  // namespace

std::int64_t round_size(std::int64_t pp, std::int64_t micro_batches) {
  assert(micro_batches >= pp);
  std::int64_t round = pp;
  while (micro_batches % round != 0 && micro_batches % round < pp) ++round;
  return round;
}

std::int64_t warm_up_slots(PipelineSchedule schedule, std::int64_t pp, std::int64_t vpp, std::int64_t stage,
                           std::int64_t micro_batches) {
  const std::int64_t stages_after = pp - 1 - stage;
  if (schedule == PipelineSchedule::k1F1B) return stages_after;
  return 2 * stages_after + (vpp - 1) * round_size(pp, micro_batches);
}

std::vector<Slot> stage_slots(PipelineSchedule schedule, std::int64_t pp, std::int64_t vpp, std::int64_t stage,
                              std::int64_t micro_batches) {
  assert(micro_batches >= 1 && (schedule == PipelineSchedule::kInterleaved || vpp == 1));
  const std::int64_t round = schedule == PipelineSchedule::k1F1B ? micro_batches : round_size(pp, micro_batches);
  const std::vector<Slot> order = forward_order(vpp, round, micro_batches);
  const auto num_forwards = static_cast<std::int64_t>(order.size());
  std::int64_t next_forward = 0;

  std::vector<Slot> slots;
  slots.reserve(2 * order.size());
  const auto run_forwards_up_to = [&](std::int64_t end) {
    for (; next_forward < std::min(end, num_forwards); ++next_forward) {
      slots.push_back(order[static_cast<std::size_t>(next_forward)]);
    }
  };
  const std::int64_t warm_up = warm_up_slots(schedule, pp, vpp, stage, micro_batches);
  run_forwards_up_to(warm_up);
  for (std::int64_t backward = 0; backward < num_forwards; ++backward) {
    run_forwards_up_to(warm_up + backward + 1);
    const Slot& mirrored = order[static_cast<std::size_t>(backward)];
    slots.push_back({static_cast<std::int16_t>(vpp - 1 - mirrored.chunk), true, mirrored.micro_batch});
  }
  return slots;
}

std::int64_t peak_in_flight(PipelineSchedule schedule, std::int64_t pp, std::int64_t vpp, std::int64_t stage,
                            std::int64_t micro_batches) {
  return std::min(warm_up_slots(schedule, pp, vpp, stage, micro_batches) + 1, micro_batches * vpp);
}

}  // namespace msmoe
