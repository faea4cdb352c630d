// What a mesh's plans share against each plan by itself.
#include "planner/mesh_table.h"

#include <gtest/gtest.h>

#include "simulator/prediction.h"
#include "tests/planner/questions.h"
#include "tests/planner/random_plans.h"

namespace msmoe::planner {
namespace {

Mesh mesh_of(const Plan& plan) {
  return {plan.attention, plan.attention_degree, plan.context_degree, plan.ep, plan.etp};
}

void expect_as_predicted(RandomPlans plans, int count) {
  for (int i = 0; i < count; ++i) {
    const RandomPlan sample = plans.next();
    const Question question = ask_for(sample.model, sample.cluster, sample.plan);
    MeshTable table(question, mesh_of(sample.plan));
    ASSERT_EQ(table.pipelines().size(), 1U) << describe_plan(sample.plan);
    ASSERT_EQ(table.variants().size(), 1U) << describe_plan(sample.plan);
    EXPECT_TRUE(table.plan(0, 0) == sample.plan) << describe_plan(sample.plan);
    MeshTable::Cursor cursor(table);
    cursor.move_to_pipeline(0);
    cursor.move_to_variant(0);
    const simulator::Prediction prediction = simulator::predict(sample.model, sample.cluster, sample.plan);
    EXPECT_EQ(cursor.step_ps(), prediction.step.count()) << describe_plan(sample.plan);
    EXPECT_LE(cursor.bound_ps(), cursor.step_ps()) << describe_plan(sample.plan);
    EXPECT_EQ(cursor.memory().total(), prediction.memory.worst().total()) << describe_plan(sample.plan);
  }
}

TEST(MeshTable, StepAndMemoryAreThoseOfThePrediction) { expect_as_predicted(RandomPlans(3), 100); }

TEST(MeshTable, SoTheyAreUnderOtherSchedules) { expect_as_predicted(RandomPlans(4, /*others_too=*/true), 100); }

// Every plan of a few meshes of each question.
TEST(MeshTable, BoundIsNoMoreThanTheStep) {
  int plans = 0;
  for (const Question& question :
       {ask("mixtral-8x7b", "h100", 16, 64, 4096), ask("deepseek-v2-lite", "h100-4nic", 32, 64, 4096, {{"cp", "1"}}),
        ask("glm-4.5-air", "h20", 64, 128, 8192), ask("llama-3.1-8b", "gh200", 8, 32, 8192)}) {
    const std::vector<Mesh> all = meshes(question);
    for (std::size_t mesh_idx = 0; mesh_idx < all.size(); mesh_idx += all.size() / 3 + 1) {
      MeshTable table(question, all[mesh_idx]);
      MeshTable::Cursor cursor(table);
      for (std::size_t pipeline = 0; pipeline < table.pipelines().size(); ++pipeline) {
        cursor.move_to_pipeline(static_cast<int>(pipeline));
        for (std::size_t variant = 0; variant < table.variants().size(); ++variant) {
          cursor.move_to_variant(static_cast<int>(variant));
          if (!cursor.is_valid()) continue;
          ++plans;
          ASSERT_LE(cursor.bound_ps(), cursor.step_ps()) << describe_plan(cursor.plan());
          ASSERT_GT(cursor.bound_ps(), 0) << describe_plan(cursor.plan());
        }
      }
    }
  }
  EXPECT_GT(plans, 1000);
}

// Where a cursor came from must not matter, whatever the table has kept meanwhile (ZeRO-2 and 3 lower their modules per
// pipeline).
TEST(MeshTable, OrderOfMovesDoesNotMatter) {
  const Question question = ask("qwen3-30b-a3b", "h100", 32, 64, 4096, {{"micro_batch", "1"}, {"zero", "3"}});
  const Mesh mesh{AttentionParallelism::kSequence, 2, 1, 8, 1};
  MeshTable shared(question, mesh);
  MeshTable::Cursor wanderer(shared);
  std::mt19937_64 random(1);
  ASSERT_GT(shared.pipelines().size(), 3U);
  for (int move = 0; move < 60; ++move) {
    const auto pipeline = static_cast<int>(random() % shared.pipelines().size());
    const auto variant = static_cast<int>(random() % shared.variants().size());
    wanderer.move_to_pipeline(pipeline);
    wanderer.move_to_variant(variant);
    if (!wanderer.is_valid()) continue;
    MeshTable alone(question, mesh);
    MeshTable::Cursor direct(alone);
    direct.move_to_pipeline(pipeline);
    direct.move_to_variant(variant);
    EXPECT_EQ(wanderer.memory().total(), direct.memory().total()) << describe_plan(direct.plan());
    EXPECT_EQ(wanderer.bound_ps(), direct.bound_ps()) << describe_plan(direct.plan());
    EXPECT_EQ(wanderer.step_ps(), direct.step_ps()) << describe_plan(direct.plan());
  }
}

}  // namespace
}  // namespace msmoe::planner
