// The fast composition against every operator of every stage in the event engine. The random plans are hard ones: few
// micro-batches, so that data-parallel traffic and messages lie beside most of the work.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "simulator/prediction.h"
#include "tests/planner/random_plans.h"

namespace msmoe::simulator {
namespace {

// Relative error of the fast step, and the plan.
std::pair<double, std::string> error_of(const RandomPlan& sample) {
  const Duration fast = predict(sample.model, sample.cluster, sample.plan).step;
  const Duration exact = predict(sample.model, sample.cluster, sample.plan, {.exact = true}).step;
  return {std::abs(to_seconds(fast) / to_seconds(exact) - 1),
          sample.plan.model + " on " + sample.plan.cluster + ", " + describe_plan(sample.plan)};
}

TEST(ExactVsFast, StepsOfRandomPlansAreWithinOnePercent) {
  RandomPlans plans(2);
  for (int i = 0; i < 50; ++i) {
    const auto [error, plan] = error_of(plans.next());
    EXPECT_LT(error, 0.01) << plan;
  }
}

TEST(ExactVsFast, StepsOfOtherSchedulesAreWithinOnePercent) {
  RandomPlans plans(4, /*others_too=*/true);
  std::vector<std::pair<double, std::string>> errors;
  for (int i = 0; i < 100; ++i) errors.push_back(error_of(plans.next()));
  std::sort(errors.rbegin(), errors.rend());
  EXPECT_LT(errors[2].first, 0.01) << errors[2].second;
  EXPECT_LT(errors[0].first, 0.05) << errors[0].second;
  EXPECT_LT(errors[50].first, 0.002);
}

// Of many more, one in a hundred may be beyond: messages and collectives that contend for one NIC in an order that the
// composition cannot know.
TEST(ExactVsFast, FewOfManyRandomPlansAreBeyond) {
  RandomPlans plans(100);
  std::vector<std::pair<double, std::string>> errors;
  for (int i = 0; i < 500; ++i) errors.push_back(error_of(plans.next()));
  std::sort(errors.rbegin(), errors.rend());
  EXPECT_LT(errors[500 / 50].first, 0.01) << errors[500 / 50].second;
  EXPECT_LT(errors[0].first, 0.05) << errors[0].second;
  EXPECT_LT(errors[250].first, 0.001);
}

// With one replica of everything, and sends on the compute stream, nothing lies beside a slot: both are one sum, up to
// the ticks that the engine rounds by. Tensor ranks still add up what they hold alike once a step, which the
// composition takes to be alone and the engine does not.
TEST(ExactVsFast, StepsWithNothingBesideSlotsAreEqual) {
  RandomPlans plans(3);
  for (int checked = 0; checked < 20;) {
    RandomPlan sample = plans.next();
    sample.plan.overlap_p2p = sample.plan.overlap_grad_reduce = false;
    if (sample.plan.dp() > 1 || sample.plan.expert_dp() > 1) continue;
    // Replicated attention weights are summed over the ranks that split the sequence, too.
    if (group_of(GroupKind::kDenseData, sample.plan, sample.cluster.gpus_per_node).size > 1) continue;
    if (!is_valid(sample.model, sample.cluster, sample.plan)) continue;
    ++checked;
    const auto [error, plan] = error_of(sample);
    EXPECT_LT(error, sample.plan.attention_degree > 1 ? 5e-4 : 1e-6) << plan;
  }
}

// The plans that ship.
TEST(ExactVsFast, PublishedPlansAreWithinOnePercent) {
  for (const char* name : {"megascale-moe-352b", "megatron-lm-352b", "deepseek-v3-2048"}) {
    const Plan plan = find_plan(name);
    const Model model = find_model(plan.model);
    const Cluster cluster = find_cluster(plan.cluster);
    EXPECT_LT(error_of({model, cluster, plan}).first, 0.01) << name;
  }
}

}  // namespace
}  // namespace msmoe::simulator
