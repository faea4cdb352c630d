#include "core/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "tests/core/schedule_checker.h"

namespace msmoe {
namespace {

using enum PipelineSchedule;

// "F0.1 B1.0 M0.2/1.1": forward of chunk 0 on micro-batch 1, backward of chunk 1 on micro-batch 0, the two merged.
// I and W are backward's halves.
std::string text_of(const std::vector<Slot>& slots) {
  std::string text;
  for (const Slot& slot : slots) {
    if (!text.empty()) text += ' ';
    text += std::string(1, "FBIWM"[static_cast<std::size_t>(slot.kind)]) + std::to_string(slot.chunk) + "." +
            std::to_string(slot.micro_batch);
    if (slot.kind == SlotKind::kMerged)
      text += "/" + std::to_string(slot.backward_chunk) + "." + std::to_string(slot.backward_micro_batch);
  }
  return text;
}

std::int64_t most_in_flight(const std::vector<Slot>& slots) {
  std::int64_t now = 0, most = 0;
  for (const Slot& slot : slots) {
    if (slot.kind == SlotKind::kForward || slot.kind == SlotKind::kMerged) most = std::max(most, ++now);
    if (slot.kind != SlotKind::kForward && slot.kind != SlotKind::kBackwardInput) --now;
  }
  return most;
}

std::vector<PipelineShape> grid() {
  std::vector<PipelineShape> shapes;
  for (std::int64_t pp : {1, 2, 3, 4, 5, 6, 8}) {
    for (std::int64_t m = 1; m <= 3 * pp + 2; ++m) {
      shapes.push_back({k1F1B, pp, 1, m});
      if (pp == 1) shapes.push_back({k1F1B, pp, 1, m, true});
      if (pp > 1) shapes.push_back({kZbH1, pp, 1, m});
      if (pp > 1) shapes.push_back({kZbV, pp, 2, m});
      if (pp % 2 == 0 && m % 2 == 0 && m >= 2 * pp) shapes.push_back({kDualPipe, pp, 1, m});
      if (m < pp) continue;
      for (std::int64_t vpp : {1, 2, 3, 4})
        for (const bool merge : {false, true}) shapes.push_back({kInterleaved, pp, vpp, m, merge});
    }
  }
  return shapes;
}

std::string describe(const PipelineShape& shape) {
  return fmt::format("schedule {}, pp {}, vpp {}, m {}, merge {}", static_cast<int>(shape.schedule), shape.pp,
                     shape.vpp, shape.micro_batches, shape.merge_passes);
}

ScheduleChecker checker_of(const PipelineShape& shape) {
  const Placement placement = shape.schedule == kZbV        ? Placement::kV
                              : shape.schedule == kDualPipe ? Placement::kBidirectional
                                                            : Placement::kRoundRobin;
  return {placement, shape.pp, shape.schedule == kDualPipe ? 2 : shape.vpp, shape.micro_batches};
}

// Fig. 4 of arXiv 2104.04473 with two stages: stage 0 runs one forward ahead, stage 1 none.
TEST(Schedule, OneForwardOneBackward) {
  EXPECT_EQ(text_of(stage_slots({k1F1B, 2, 1, 3}, 0)), "F0.0 F0.1 B0.0 F0.2 B0.1 B0.2");
  EXPECT_EQ(text_of(stage_slots({k1F1B, 2, 1, 3}, 1)), "F0.0 B0.0 F0.1 B0.1 F0.2 B0.2");
}

// Two stages of two chunks, rounds of 2. Warm-up: 2 (2 - 1 - i) + (2 - 1) 2 = 4 forwards on stage 0, 2 on stage 1;
// all 8 forwards: chunk 0 on micro-batches 0, 1; chunk 1 on 0, 1; chunk 0 on 2, 3; chunk 1 on 2, 3.
TEST(Schedule, Interleaved) {
  EXPECT_EQ(text_of(stage_slots({kInterleaved, 2, 2, 4}, 0)),
            "F0.0 F0.1 F1.0 F1.1 F0.2 B1.0 F0.3 B1.1 F1.2 B0.0 F1.3 B0.1 B1.2 B1.3 B0.2 B0.3");
  EXPECT_EQ(text_of(stage_slots({kInterleaved, 2, 2, 4}, 1)),
            "F0.0 F0.1 F1.0 B1.0 F1.1 B1.1 F0.2 B0.0 F0.3 B0.1 F1.2 B1.2 F1.3 B1.3 B0.2 B0.3");
}

// The same with one forward more before the first backward; then forward and backward make one slot.
TEST(Schedule, MergedPasses) {
  EXPECT_EQ(text_of(stage_slots({kInterleaved, 2, 2, 4, true}, 1)),
            "F0.0 F0.1 F1.0 M1.1/1.0 M0.2/1.1 M0.3/0.0 M1.2/0.1 M1.3/1.2 B1.3 B0.2 B0.3");
  EXPECT_EQ(text_of(stage_slots({k1F1B, 1, 1, 3, true}, 0)), "F0.0 M0.1/0.0 M0.2/0.1 B0.2");
}

// Stage i puts weight gradients off by i micro-batches (Fig. 2 of arXiv 2401.10241).
TEST(Schedule, ZeroBubbleH1) {
  EXPECT_EQ(text_of(stage_slots({kZbH1, 2, 1, 3}, 0)), "F0.0 F0.1 I0.0 W0.0 F0.2 I0.1 W0.1 I0.2 W0.2");
  EXPECT_EQ(text_of(stage_slots({kZbH1, 2, 1, 3}, 1)), "F0.0 I0.0 F0.1 I0.1 W0.0 F0.2 I0.2 W0.1 W0.2");
}

// Fig. 5 of arXiv 2412.19437 has 8 stages; with 2, both are in the middle, and neither puts anything off but the last
// weight gradient.
TEST(Schedule, DualPipe) {
  EXPECT_EQ(text_of(stage_slots({kDualPipe, 2, 1, 4}, 0)), "F0.0 F1.2 F0.1 B1.2 M1.3/0.0 B1.3 I0.1 W0.1");
  EXPECT_EQ(text_of(stage_slots({kDualPipe, 2, 1, 4}, 1)), "F1.2 F0.0 F1.3 B0.0 M0.1/1.2 B0.1 I1.3 W1.3");
}

// 6 % 4 = 2 and 6 % 5 = 1 would leave a short round, so all 6 go in one. 11 = 4 + 4 + 3 leaves 3, 11 = 5 + 5 + 1
// leaves 1, 11 = 6 + 5 is allowed.
TEST(Schedule, RoundsAreNeverShorterThanThePipeline) {
  EXPECT_EQ(round_size(4, 8), 4);
  EXPECT_EQ(round_size(4, 6), 6);
  EXPECT_EQ(round_size(4, 11), 6);
  EXPECT_EQ(round_size(1, 5), 1);
}

TEST(Schedule, EveryStageIsCompleteAndAllFinish) {
  for (const PipelineShape& shape : grid()) {
    SCOPED_TRACE(describe(shape));
    const ScheduleChecker checker = checker_of(shape);
    std::vector<std::vector<Slot>> stages;
    for (std::int64_t stage = 0; stage < shape.pp; ++stage) {
      stages.push_back(stage_slots(shape, stage));
      EXPECT_TRUE(checker.stage_is_complete(stages.back()));
    }
    EXPECT_TRUE(checker.stages_finish(stages));
  }
}

TEST(Schedule, StagesAndChunksAreThoseOfTheirVirtualStages) {
  for (const PipelineShape& shape : grid())
    for (std::int64_t stage = 0; stage < shape.pp; ++stage)
      for (const Slot& slot : stage_slots(shape, stage))
        EXPECT_EQ(shape.stage_of(shape.virtual_stage(stage, slot.chunk), slot.micro_batch), stage) << describe(shape);
}

TEST(Schedule, PeakInFlightEqualsCounting) {
  for (const PipelineShape& shape : grid())
    for (std::int64_t stage = 0; stage < shape.pp; ++stage)
      EXPECT_EQ(peak_in_flight(shape, stage), most_in_flight(stage_slots(shape, stage)))
          << describe(shape) << ", stage " << stage;
}

// pp = 4, vpp = 2, m = 8: stage 0 warms up with 2 * 3 + 4 = 10 forwards and starts one more before its first backward.
TEST(Schedule, PeakInFlightByHand) {
  EXPECT_EQ(peak_in_flight({k1F1B, 4, 1, 8}, 0), 4);
  EXPECT_EQ(peak_in_flight({k1F1B, 4, 1, 8}, 3), 1);
  EXPECT_EQ(peak_in_flight({k1F1B, 4, 1, 2}, 0), 2);
  EXPECT_EQ(peak_in_flight({kInterleaved, 4, 2, 8}, 0), 11);
  EXPECT_EQ(peak_in_flight({kInterleaved, 4, 2, 8}, 3), 5);
  EXPECT_EQ(peak_in_flight({kInterleaved, 4, 2, 8, true}, 0), 12);
}

// What the papers say of memory: ZB-H1 as much as 1F1B's first stage on every stage; ZB-V twice as many chunks of half
// the size; DualPipe pp + 1 (Table 2 of arXiv 2412.19437).
TEST(Schedule, PeakInFlightOfThePapers) {
  for (const std::int64_t pp : {2, 4, 8}) {
    for (std::int64_t stage = 0; stage < pp; ++stage) {
      EXPECT_EQ(peak_in_flight({kZbH1, pp, 1, 4 * pp}, stage), pp);
      EXPECT_EQ(peak_in_flight({kZbV, pp, 2, 4 * pp}, stage), 2 * pp);
      EXPECT_EQ(peak_in_flight({kDualPipe, pp, 1, 4 * pp}, stage), pp + 1);
    }
  }
}

// The checker itself must be able to say no.
TEST(ScheduleChecker, SeesMissingRepeatedAndBackwardSlots) {
  using enum SlotKind;
  const ScheduleChecker one(Placement::kRoundRobin, 1, 1, 1);
  EXPECT_TRUE(one.stage_is_complete({{0, kForward, 0}, {0, kBackward, 0}}));
  EXPECT_FALSE(one.stage_is_complete({{0, kForward, 0}}));
  EXPECT_FALSE(one.stage_is_complete({{0, kBackward, 0}, {0, kForward, 0}}));
  EXPECT_FALSE(one.stage_is_complete({{0, kForward, 0}, {0, kForward, 0}, {0, kBackward, 0}}));
  EXPECT_FALSE(one.stage_is_complete({{0, kForward, 0}, {0, kBackwardInput, 0}}));
  EXPECT_FALSE(one.stage_is_complete({{0, kForward, 0}, {0, kBackwardWeight, 0}, {0, kBackwardInput, 0}}));
  EXPECT_FALSE(one.stage_is_complete({{0, kMerged, 0, 0, 0}}));
  // Stage 0 wants its gradient before stage 1 has had its activation.
  const ScheduleChecker two(Placement::kRoundRobin, 2, 1, 1);
  EXPECT_FALSE(two.stages_finish({{{0, kBackward, 0}, {0, kForward, 0}}, {{0, kForward, 0}, {0, kBackward, 0}}}));
  // On two stages the second half of the micro-batches starts at the second one.
  const ScheduleChecker both_ends(Placement::kBidirectional, 2, 2, 2);
  EXPECT_FALSE(both_ends.stage_is_complete({{0, kForward, 1}, {0, kBackward, 1}}));
}

}  // namespace
}  // namespace msmoe
