#include "core/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "tests/core/schedule_checker.h"

namespace msmoe {
namespace {

// "F0.1 B1.0": forward of chunk 0 on micro-batch 1, backward of chunk 1 on micro-batch 0.
std::string text_of(const std::vector<Slot>& slots) {
  std::string text;
  for (const Slot& slot : slots) {
    if (!text.empty()) text += ' ';
    text += (slot.backward ? "B" : "F") + std::to_string(slot.chunk) + "." + std::to_string(slot.micro_batch);
  }
  return text;
}

std::int64_t most_in_flight(const std::vector<Slot>& slots) {
  std::int64_t now = 0, most = 0;
  for (const Slot& slot : slots) {
    now += slot.backward ? -1 : 1;
    most = std::max(most, now);
  }
  return most;
}

struct Case {
  PipelineSchedule schedule;
  std::int64_t pp, vpp, micro_batches;
};

std::vector<Case> grid() {
  std::vector<Case> cases;
  for (std::int64_t pp : {1, 2, 3, 4, 5, 8}) {
    for (std::int64_t m = 1; m <= 3 * pp + 2; ++m) {
      cases.push_back({PipelineSchedule::k1F1B, pp, 1, m});
      if (m < pp) continue;
      for (std::int64_t vpp : {1, 2, 3, 4}) cases.push_back({PipelineSchedule::kInterleaved, pp, vpp, m});
    }
  }
  return cases;
}

// Fig. 4 of arXiv 2104.04473 with two stages: stage 0 runs one forward ahead, stage 1 none.
TEST(Schedule, OneForwardOneBackward) {
  EXPECT_EQ(text_of(stage_slots(PipelineSchedule::k1F1B, 2, 1, 0, 3)), "F0.0 F0.1 B0.0 F0.2 B0.1 B0.2");
  EXPECT_EQ(text_of(stage_slots(PipelineSchedule::k1F1B, 2, 1, 1, 3)), "F0.0 B0.0 F0.1 B0.1 F0.2 B0.2");
}

// Two stages of two chunks, rounds of 2. Warm-up: 2 (2 - 1 - i) + (2 - 1) 2 = 4 forwards on stage 0, 2 on stage 1;
// all 8 forwards: chunk 0 on micro-batches 0, 1; chunk 1 on 0, 1; chunk 0 on 2, 3; chunk 1 on 2, 3.
TEST(Schedule, Interleaved) {
  EXPECT_EQ(text_of(stage_slots(PipelineSchedule::kInterleaved, 2, 2, 0, 4)),
            "F0.0 F0.1 F1.0 F1.1 F0.2 B1.0 F0.3 B1.1 F1.2 B0.0 F1.3 B0.1 B1.2 B1.3 B0.2 B0.3");
  EXPECT_EQ(text_of(stage_slots(PipelineSchedule::kInterleaved, 2, 2, 1, 4)),
            "F0.0 F0.1 F1.0 B1.0 F1.1 B1.1 F0.2 B0.0 F0.3 B0.1 F1.2 B1.2 F1.3 B1.3 B0.2 B0.3");
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
  for (const Case& c : grid()) {
    SCOPED_TRACE(testing::Message() << "pp " << c.pp << ", vpp " << c.vpp << ", m " << c.micro_batches);
    std::vector<std::vector<Slot>> stages;
    for (std::int64_t stage = 0; stage < c.pp; ++stage) {
      stages.push_back(stage_slots(c.schedule, c.pp, c.vpp, stage, c.micro_batches));
      EXPECT_TRUE(stage_is_complete(stages.back(), c.vpp, c.micro_batches));
    }
    EXPECT_TRUE(stages_finish(stages, c.vpp));
  }
}

TEST(Schedule, PeakInFlightEqualsCounting) {
  for (const Case& c : grid()) {
    for (std::int64_t stage = 0; stage < c.pp; ++stage) {
      EXPECT_EQ(peak_in_flight(c.schedule, c.pp, c.vpp, stage, c.micro_batches),
                most_in_flight(stage_slots(c.schedule, c.pp, c.vpp, stage, c.micro_batches)))
          << "pp " << c.pp << ", vpp " << c.vpp << ", stage " << stage << ", m " << c.micro_batches;
    }
  }
}

// pp = 4, vpp = 2, m = 8: stage 0 warms up with 2 * 3 + 4 = 10 forwards and starts one more before its first backward.
TEST(Schedule, PeakInFlightByHand) {
  EXPECT_EQ(peak_in_flight(PipelineSchedule::k1F1B, 4, 1, 0, 8), 4);
  EXPECT_EQ(peak_in_flight(PipelineSchedule::k1F1B, 4, 1, 3, 8), 1);
  EXPECT_EQ(peak_in_flight(PipelineSchedule::k1F1B, 4, 1, 0, 2), 2);
  EXPECT_EQ(peak_in_flight(PipelineSchedule::kInterleaved, 4, 2, 0, 8), 11);
  EXPECT_EQ(peak_in_flight(PipelineSchedule::kInterleaved, 4, 2, 3, 8), 5);
}

// The checker itself must be able to say no.
TEST(ScheduleChecker, SeesMissingRepeatedAndBackwardSlots) {
  EXPECT_FALSE(stage_is_complete({{0, false, 0}}, 1, 1));
  EXPECT_FALSE(stage_is_complete({{0, true, 0}, {0, false, 0}}, 1, 1));
  EXPECT_FALSE(stage_is_complete({{0, false, 0}, {0, false, 0}, {0, true, 0}}, 1, 1));
  // Stage 0 wants its gradient before stage 1 has had its activation.
  EXPECT_FALSE(stages_finish({{{0, true, 0}, {0, false, 0}}, {{0, false, 0}, {0, true, 0}}}, 1));
}

}  // namespace
}  // namespace msmoe
