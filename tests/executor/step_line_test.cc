#include "executor/telling/step_line.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "tests/executor/step_example.h"

namespace msmoe::executor {
namespace {

using std::chrono::seconds;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

TEST(MovingMedian, IsThatOfTheLastValues) {
  MovingMedian median(3);
  EXPECT_EQ(median.value(), std::nullopt);
  for (const auto& [value, expected] : std::vector<std::pair<double, double>>{
           {5, 5}, {1, 3}, {100, 5}, {2, 2}, {3, 3}}) {  // 5; 1 5; 1 5 100; 1 2 100; 2 3 100
    median.add(value);
    EXPECT_EQ(median.value(), expected) << value;
  }
}

// 50,000 tokens in 0.5 s; after step 2 of 1000, 998 steps of 0.5 s are 499 s = 8.32 min.
TEST(StepLine, SaysTheFirstStepIsSlowAndLeavesItOut) {
  StepLine line({.last_step = 1000, .basis = kExampleBasis});
  EXPECT_EQ(line.tell(example_step(1, seconds(40))),
            "step    1/1000  loss 10.7500        - tok/s      - MFU  norm  4.88  lr 6.00e-06  aux 0.0119  load 2.95x"
            "         - left  (warm-up: 40.0 s, not averaged)");
  EXPECT_EQ(line.tell(example_step(2)),
            "step    2/1000  loss 10.7500  100,000 tok/s  25.0% MFU  norm  4.88  lr 6.00e-06  aux 0.0119  load 2.95x"
            "  8.32 min left");
  EXPECT_EQ(line.tell(example_step(1000)),
            "step 1000/1000  loss 10.7500  100,000 tok/s  25.0% MFU  norm  4.88  lr 6.00e-06  aux 0.0119  load 2.95x"
            "       0 s left");
}

// Steps of 1, 1 and 9 s: the median is 1 s. At step 1003 of 1013, ten are left.
TEST(StepLine, OneSlowStepDoesNotMoveTheTimeLeft) {
  StepLine line({.last_step = 1013, .slow_steps = 0, .window = 3, .basis = kExampleBasis});
  line.tell(example_step(1001, seconds(1)));
  line.tell(example_step(1002, seconds(1)));
  EXPECT_NE(line.tell(example_step(1003, seconds(9))).find("  50,000 tok/s  12.5% MFU"), std::string::npos);
  // 1, 9, 9: now it is 9 s, and nine steps are left.
  EXPECT_TRUE(line.tell(example_step(1004, seconds(9))).ends_with("   81.0 s left"));
}

TEST(StepLine, SlowStepsAreThoseOfThisRun) {
  StepLine line({.last_step = 600, .slow_steps = 2, .basis = kExampleBasis});
  EXPECT_NE(line.tell(example_step(501)).find("- left  (warm-up"), std::string::npos);
  EXPECT_NE(line.tell(example_step(502)).find("- left  (warm-up"), std::string::npos);
  EXPECT_TRUE(line.tell(example_step(503)).ends_with("   48.5 s left"));
}

TEST(StepLine, LeavesOutWhatADenseModelOnACpuHasNot) {
  StepLine line({.last_step = 9, .slow_steps = 0, .basis = {.flops_per_token = {1e6}}});
  StepMetrics metrics = example_step(3);
  metrics.auxiliary_loss = metrics.z_loss = metrics.largest_expert_load = std::nullopt;
  EXPECT_EQ(line.tell(metrics), "step 3/9  loss 10.7500  100,000 tok/s  norm  4.88  lr 6.00e-06    3.00 s left");
}

TEST(StepLine, TellsOfDroppedTokens) {
  StepLine line({.last_step = 9, .slow_steps = 0, .basis = kExampleBasis});
  StepMetrics metrics = example_step(3);
  metrics.dropped_tokens = 1234;
  EXPECT_TRUE(line.tell(metrics).ends_with("3.00 s left  1,234 tokens dropped"));
}

TEST(StepLine, NonsenseIsVisibleAtOnce) {
  StepLine line({.last_step = 9, .slow_steps = 0, .basis = kExampleBasis});
  StepMetrics metrics = example_step(3);
  metrics.loss = kNan;
  metrics.gradient_norm = kInf;
  metrics.auxiliary_loss = -kInf;
  EXPECT_EQ(line.tell(metrics),
            "step 3/9  loss     NaN  100,000 tok/s  25.0% MFU  norm   INF  lr 6.00e-06  aux   -INF  load 2.95x"
            "    3.00 s left  <-- NaN in loss, infinity in auxiliary_loss and gradient_norm");
  metrics = example_step(4);
  metrics.has_nan = true;
  EXPECT_TRUE(line.tell(metrics).ends_with("  <-- NaN inside the step"));
  metrics.has_nan = false;
  EXPECT_EQ(line.tell(metrics).find("<--"), std::string::npos);
}

// A thousand steps of 10^5 s are more than a Duration holds; a step that took no time gives no rate.
TEST(StepLine, HoldsOutAgainstOddTimes) {
  StepLine line({.last_step = 1001, .slow_steps = 0, .window = 1, .basis = kExampleBasis});
  EXPECT_TRUE(line.tell(example_step(1, seconds(100'000))).ends_with("  1,157 days left"));
  EXPECT_NE(line.tell(example_step(2, Duration{})).find("      0 tok/s   0.0% MFU"), std::string::npos);
  EXPECT_TRUE(line.tell(example_step(2000)).ends_with("       0 s left"));  // past the end: nothing is negative
}

TEST(StepMetrics, MfuIsDescribed) {
  EXPECT_EQ(describe_mfu(kExampleBasis),
            "MFU: 3B FLOPs a token (6 per active matrix parameter, causal attention at half of the square, no "
            "recomputation) against 600 dense TFLOPS on each of 2 GPUs");
  EXPECT_NE(describe_mfu({.flops_per_token = {1e6}}).find("; no MFU"), std::string::npos);
}

}  // namespace
}  // namespace msmoe::executor
