// The fast composition against every operator of every stage in the event engine.
#include <gtest/gtest.h>

#include <cmath>

#include "simulator/prediction.h"
#include "tests/planner/random_plans.h"

namespace msmoe::simulator {
namespace {

TEST(ExactVsFast, StepsOfRandomPlansAreWithinOnePercent) {
  RandomPlans plans(1);
  for (int i = 0; i < 50; ++i) {
    const RandomPlan sample = plans.next();
    const double fast = to_seconds(predict(sample.model, sample.cluster, sample.plan).step);
    const double exact = to_seconds(predict(sample.model, sample.cluster, sample.plan, {.exact = true}).step);
    EXPECT_LT(std::abs(fast / exact - 1), 0.01)
        << i << ": " << sample.plan.model << " on " << sample.plan.cluster << ", " << describe_plan(sample.plan) << ": fast "
        << fast << " s, exact " << exact << " s";
  }
}

}  // namespace
}  // namespace msmoe::simulator
