#include "simulator/validation/statistics.h"

#include <gtest/gtest.h>

#include <cmath>

#include "simulator/validation/calibration.h"
#include "simulator/validation/ranking.h"
#include "simulator/validation/summary.h"

namespace msmoe::simulator::validation {
namespace {

TEST(Statistics, MedianOfOddAndEvenCounts) {
  EXPECT_EQ(median({3}), 3);
  EXPECT_EQ(median({5, 1, 3}), 3);
  EXPECT_EQ(median({4, 1, 3, 2}), 2.5);
}

TEST(Statistics, ShareWithinCountsBothSidesAndTheLimit) {
  EXPECT_EQ(share_within({-0.2, -0.15, 0, 0.15, 0.3}, 0.15), 0.6);
  EXPECT_EQ(sizes({-1, 2}), (std::vector<double>{1, 2}));
}

// A curve with two valleys, the deeper one at 3.217, and a wall between them.
TEST(Calibration, TheDeepestValleyIsFoundToThreeDecimals) {
  const auto error = [](double x) {
    return std::min(std::abs(std::log(x / 3.217)), 0.05 + std::abs(std::log(x / 0.9)));
  };
  EXPECT_NEAR(least(error, 0.5, 8), 3.217, 0.0011);
}

Outcome outcome(const PublishedRun& run, double published, double predicted) {
  Outcome made;
  made.run = &run;
  made.prediction.plan.gpus = 8;
  made.published_step = published;
  made.step_seconds = predicted;
  return made;
}

TEST(Ranking, OnlyClearlyDifferentPlansOfOneQuestionAreCompared) {
  PublishedRun run;
  run.model = "m";
  PublishedRun other = run;
  other.model = "n";
  // 1 and 1.05 are too close; 1 beside 1.2 is right, 1.05 beside 1.2 wrong; the other model stands alone.
  const std::vector<Outcome> outcomes = {outcome(run, 1.2, 2), outcome(run, 1, 1.5), outcome(run, 1.05, 2.1),
                                         outcome(other, 3, 1)};
  const std::vector<RankedPair> pairs = ranked_pairs(outcomes);
  ASSERT_EQ(pairs.size(), 2u);
  EXPECT_EQ(pairs[0].faster, &outcomes[1]);
  EXPECT_EQ(pairs[0].slower, &outcomes[0]);
  EXPECT_TRUE(pairs[0].holds());
  EXPECT_EQ(pairs[1].faster, &outcomes[2]);
  EXPECT_FALSE(pairs[1].holds());
}

TEST(Summary, ErrorsAreThoseOfTheStepTime) {
  PublishedRun run;
  run.software = "a";
  run.model = "m";
  PublishedRun other = run;
  other.software = "b";
  const std::vector<Outcome> outcomes = {outcome(run, 2, 1), outcome(run, 2, 3), outcome(other, 2, 2.2)};
  const std::vector<Summary> systems = by_software(outcomes);
  ASSERT_EQ(systems.size(), 2u);
  EXPECT_EQ(systems[0].errors, (std::vector<double>{-0.5, 0.5}));
  EXPECT_EQ(systems[0].median_error(), 0.5);
  EXPECT_NEAR(systems[1].median_error(), 0.1, 1e-12);
  EXPECT_EQ(by_model(outcomes).size(), 1u);
  EXPECT_NEAR(summary_of("all", outcomes).within(0.15), 1.0 / 3, 1e-12);
}

}  // namespace
}  // namespace msmoe::simulator::validation
