// Replicas that share nodes sum their gradients inside the node first: they train as one rank does.
#include <gtest/gtest.h>

#include "executor/communication/two_level_communicator.h"
#include "tests/executor/rank_processes.h"
#include "tests/executor/tiny_training.h"

namespace msmoe::executor {
namespace {

constexpr int kSteps = 3;

// 2 nodes of 4 ranks. The 8 dense replicas are 4 on each; expert replicas, two ranks apart, 2 on each.
TEST(Hierarchical, TrainsAsOneRank) {
  TinyModel tiny("qwen3_moe");
  tiny.cluster.gpus_per_node = 4;
  Plan plan = tiny.plan();
  const std::unique_ptr<Communicator> alone = lone_communicator();
  const std::vector<StepResult> expected = train_tiny(
      tiny, plan, 0, [&](GroupKind) -> Communicator& { return *alone; }, kSteps);

  plan.gpus = 8;
  plan.attention = AttentionParallelism::kSequence;
  plan.attention_degree = plan.ep = 2;
  for (plan.zero = 0; plan.zero <= 3; ++plan.zero) {
    SCOPED_TRACE(describe_plan(plan));
    ASSERT_TRUE(is_valid(tiny.model, tiny.cluster, plan)) << broken_rule(tiny.model, tiny.cluster, plan);
    run_ranks(8, [&](int rank, Rendezvous& rendezvous) {
      Communicators communicators(plan, rank, rendezvous, {.gpus_per_node = tiny.cluster.gpus_per_node});
      for (const GroupKind kind : {GroupKind::kDenseData, GroupKind::kExpertData})
        ASSERT_NE(dynamic_cast<TwoLevelCommunicator*>(&communicators.of(kind)), nullptr);
      const std::vector<StepResult> results = train_tiny(
          tiny, plan, rank, [&](GroupKind kind) -> Communicator& { return communicators.of(kind); }, kSteps);
      for (std::size_t step = 0; step < kSteps; ++step) {
        const StepResult &result = results[step], &reference = expected[step];
        EXPECT_NEAR(result.loss, reference.loss, 1e-5 * reference.loss) << "step " << step;
        EXPECT_NEAR(result.gradient_norm, reference.gradient_norm, 1e-5 * reference.gradient_norm) << "step " << step;
      }
    });
  }
}

}  // namespace
}  // namespace msmoe::executor
