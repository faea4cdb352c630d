#include "planner/space.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "core/error.h"
#include "tests/planner/questions.h"

namespace msmoe::planner {
namespace {

// Every plan of the space, valid or not, as its JSON.
std::multiset<std::string> all_plans(const Question& question) {
  std::multiset<std::string> plans;
  Plan plan = question.base;
  for (const Mesh& mesh : meshes(question)) {
    apply(mesh, plan);
    for (const Pipeline& pipeline : pipelines(question, mesh)) {
      apply(pipeline, plan);
      for (const Variant& variant : variants(question, mesh)) {
        apply(variant, plan);
        plans.insert(plan_to_json(plan));
      }
    }
  }
  return plans;
}

// mixtral-8x7b: 8 experts, 32 layers; one node of 8 GPUs, 8 sequences of 4096.
//   attention, degree   tp 1; tp, sp, cp of 2, 4 and 8         1 + 9 = 10
//   context             up to 4096 / 4096 / 2, so 1
//   ep, etp             1, 2, 4, 8 each, product at most 8     10
TEST(Space, MeshesByHand) {
  const Question question = ask("mixtral-8x7b", "h100", 8, 8, 4096);
  EXPECT_EQ(meshes(question).size(), 10U * 10U);
  // 16384 / 4096 / 2: context of 1 and 2, the latter not with attention by context, and with no more than 8 ranks:
  // degree 1, tp and sp of 2 and 4.
  EXPECT_EQ(meshes(ask("mixtral-8x7b", "h100", 8, 8, 16384)).size(), (10U + 5U) * 10U);
  // A dense model has no experts to spread: llama-3.1-8b on the same node.
  EXPECT_EQ(meshes(ask("llama-3.1-8b", "h100", 8, 8, 4096)).size(), 10U);
}

// dispatch 2 (1 where nothing is exchanged), micro-batch 1, 2, 4, 8, recomputation 5 (6 with latent attention),
// overlap 2.
TEST(Space, VariantsByHand) {
  const Question mixtral = ask("mixtral-8x7b", "h100", 8, 8, 4096);
  EXPECT_EQ(variants(mixtral, {AttentionParallelism::kTensor, 1, 1, 8, 1}).size(), 2U * 4 * 5 * 2);
  EXPECT_EQ(variants(mixtral, {AttentionParallelism::kTensor, 1, 1, 1, 1}).size(), 1U * 4 * 5 * 2);
  const Question latent = ask("deepseek-v2-lite", "h100", 8, 4, 4096);
  EXPECT_EQ(variants(latent, {AttentionParallelism::kTensor, 1, 1, 8, 1}).size(), 2U * 3 * 6 * 2);
}

// A core does one thing at a time: overlap is none, unless it is asked for.
TEST(Space, NothingOverlapsOnACore) {
  const Mesh mesh{AttentionParallelism::kTensor, 1, 1, 2, 1};
  const std::vector<Variant> open = variants(ask("tiny-moe", "cpu", 2, 8, 256), mesh);
  EXPECT_EQ(open.size(), 2U * 4 * 5);
  for (const Variant& variant : open) EXPECT_EQ(variant.overlap, InLayerOverlap::kNone);
  for (const Variant& variant : variants(ask("tiny-moe", "cpu", 2, 8, 256, {{"overlap", "inter"}}), mesh))
    EXPECT_EQ(variant.overlap, InLayerOverlap::kInterOperator);
  EXPECT_EQ(base_plan(find_cluster("h100").gpu), Plan{});
  EXPECT_EQ(base_plan(find_cluster("cpu").gpu).communication_sms, 0);
}

// 32 layers on 8 ranks of one GPU, ep 2: stages 1, 2 and 4 (8 stages would leave one rank for two expert ranks).
// One stage: ZeRO 1, 2, 3. Two stages: 1 to 12 chunks; four: 1 to 8.
TEST(Space, PipelinesByHand) {
  const Question question = ask("mixtral-8x7b", "h100", 8, 8, 4096);
  const Mesh mesh{AttentionParallelism::kTensor, 1, 1, 2, 1};
  const std::vector<Pipeline> list = pipelines(question, mesh);
  EXPECT_EQ(list.size(), 3U + 12U + 8U);
  for (const Pipeline& pipeline : list) {
    EXPECT_TRUE(pipeline.pp == 1 || pipeline.zero == 1);
    EXPECT_TRUE(pipeline.pp > 1 || pipeline.vpp == 1);
  }
}

TEST(Space, NoPlanTwice) {
  for (const Question& question :
       {ask("mixtral-8x7b", "h100", 4, 8, 16384), ask("deepseek-v2-lite", "gh200", 4, 4, 4096)}) {
    const std::multiset<std::string> plans = all_plans(question);
    const std::set<std::string> distinct(plans.begin(), plans.end());
    EXPECT_EQ(plans.size(), distinct.size());
  }
}

TEST(Space, EveryFixedFieldIsKept) {
  const Fixes fixes = {{"attention", "sp"},
                       {"attention_degree", "4"},
                       {"ep", "4"},
                       {"etp", "2"},
                       {"dispatch", "ag_rs"},
                       {"pp", "4"},
                       {"vpp", "2"},
                       {"zero", "0"},
                       {"cp", "2"},
                       {"micro_batch", "2"},
                       {"recompute", "full"},
                       {"overlap", "none"},
                       {"schedule", "interleaved"}};
  for (const auto& [key, value] : fixes) {
    const Question question = ask("mixtral-8x7b", "h100", 32, 32, 8192, {{key, value}});
    std::size_t plans = 0;
    Plan plan = question.base;
    for (const Mesh& mesh : meshes(question)) {
      apply(mesh, plan);
      for (const Pipeline& pipeline : pipelines(question, mesh)) {
        apply(pipeline, plan);
        for (const Variant& variant : variants(question, mesh)) {
          apply(variant, plan);
          ++plans;
          ASSERT_EQ(plan_field(plan, key), value);
        }
      }
    }
    EXPECT_GT(plans, 0U) << key;
  }
  // All at once leave one plan.
  EXPECT_EQ(all_plans(ask("mixtral-8x7b", "h100", 32, 32, 8192, fixes)).size(), 1U);
}

TEST(Space, FixedDataParallelDegreeIsKept) {
  const Question question = ask("mixtral-8x7b", "h100", 32, 32, 8192, {{"dp", "4"}});
  Plan plan = question.base;
  std::size_t plans = 0;
  for (const Mesh& mesh : meshes(question)) {
    apply(mesh, plan);
    for (const Pipeline& pipeline : pipelines(question, mesh)) {
      apply(pipeline, plan);
      ++plans;
      ASSERT_EQ(plan.dp(), 4);
    }
  }
  EXPECT_GT(plans, 0U);
}

TEST(Space, FeedForwardByNameLeavesTheOtherDegreeAtOne) {
  for (const Mesh& mesh : meshes(ask("mixtral-8x7b", "h100", 16, 16, 4096, {{"ffn", "ep"}}))) ASSERT_EQ(mesh.etp, 1);
  for (const Mesh& mesh : meshes(ask("mixtral-8x7b", "h100", 16, 16, 4096, {{"ffn", "tp"}}))) ASSERT_EQ(mesh.ep, 1);
}

// The plan of MegaScale-MoE's Table 3 is in the space of the question that it answers.
TEST(Space, HoldsThePublishedPlan) {
  const Plan published = find_plan("megascale-moe-352b");
  Question question = ask("megascale-352b", "h800", published.gpus, published.global_batch, published.seq_len);
  question.base = published;
  const std::vector<Mesh> all = meshes(question);
  const auto mesh = std::find_if(all.begin(), all.end(), [&](const Mesh& m) {
    return m.attention == published.attention && m.attention_degree == 8 && m.context_degree == 1 && m.ep == 8 &&
           m.etp == 1;
  });
  ASSERT_NE(mesh, all.end());
  bool found = false;
  Plan plan = question.base;
  apply(*mesh, plan);
  for (const Pipeline& pipeline : pipelines(question, *mesh)) {
    apply(pipeline, plan);
    for (const Variant& variant : variants(question, *mesh)) {
      apply(variant, plan);
      found = found || plan == published;
    }
  }
  EXPECT_TRUE(found);
}

TEST(Question, RefusesWhatItsFlagsGive) {
  EXPECT_THROW(ask("mixtral-8x7b", "h100", 8, 8, 4096, {{"gpus", "16"}}), UserError);
  EXPECT_THROW(ask("mixtral-8x7b", "h100", 8, 8, 4096, {{"ffn", "sp"}}), UserError);
  EXPECT_THROW(ask("mixtral-8x7b", "h100", 8, 8, 4096, {{"eq", "8"}}), UserError);
}

TEST(Question, RefusesModelsThatCannotBePlanned) {
  EXPECT_THROW(ask("qwen3-next-80b-a3b", "h100", 8, 8, 4096), UserError);
}

}  // namespace
}  // namespace msmoe::planner
