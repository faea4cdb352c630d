#include "executor/communication/mesh.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <vector>

namespace msmoe::executor {
namespace {

constexpr std::array kAllKinds = {GroupKind::kAttention,    GroupKind::kContext,   GroupKind::kExpert,
                                  GroupKind::kExpertTensor, GroupKind::kExpertAll, GroupKind::kDenseData,
                                  GroupKind::kExpertData,   GroupKind::kPipeline,  GroupKind::kWorld};
static_assert(kAllKinds.size() == kNumGroupKinds);

// Every way to lay a few ranks along each axis of attention and of experts, where both fill a stage.
std::vector<Plan> many_plans() {
  std::vector<Plan> plans;
  for (const std::int64_t attention_degree : {1, 2, 3})
    for (const std::int64_t context_degree : {1, 2})
      for (const std::int64_t dp : {1, 2, 4})
        for (const std::int64_t etp : {1, 2})
          for (const std::int64_t ep : {1, 2, 4})
            for (const std::int64_t pp : {1, 2, 3, 4})
              for (const auto attention : {AttentionParallelism::kTensor, AttentionParallelism::kSequence})
                for (const auto schedule : {PipelineSchedule::k1F1B, PipelineSchedule::kDualPipe}) {
                  const std::int64_t stage_ranks = attention_degree * context_degree * dp;
                  if (stage_ranks % (etp * ep) != 0) continue;
                  if (schedule == PipelineSchedule::kDualPipe && pp % 2 != 0) continue;
                  plans.push_back({.gpus = stage_ranks * pp,
                                   .attention = attention,
                                   .attention_degree = attention_degree,
                                   .context_degree = context_degree,
                                   .ep = ep,
                                   .etp = etp,
                                   .pp = pp,
                                   .schedule = schedule});
                }
  return plans;
}

std::string name_of(const Plan& plan, GroupKind kind) {
  return "kind " + std::to_string(static_cast<int>(kind)) + " of " + short_plan(plan) + " on " +
         std::to_string(plan.gpus);
}

TEST(Mesh, PlacesNumberTheRanksInBothWays) {
  for (const Plan& plan : many_plans())
    for (int rank = 0; rank < plan.gpus; ++rank) {
      const MeshPlace place = place_of(plan, rank);
      const std::int64_t stage = place.stage * (plan.gpus / plan.pp);
      ASSERT_EQ(rank,
                stage + place.attention + plan.attention_degree * (place.context + plan.context_degree * place.data));
      ASSERT_EQ(rank, stage + place.expert_tensor + plan.etp * (place.expert + plan.ep * place.expert_data));
      ASSERT_LT(place.attention, plan.attention_degree);
      ASSERT_LT(place.context, plan.context_degree);
      ASSERT_LT(place.data, plan.dp());
      ASSERT_LT(place.stage, plan.pp);
      ASSERT_LT(place.expert_tensor, plan.etp);
      ASSERT_LT(place.expert, plan.ep);
      ASSERT_LT(place.expert_data, plan.expert_dp());
    }
}

TEST(Mesh, GroupsPartitionTheRanksAndHaveTheSizeThatTheCostModelAssumes) {
  const std::vector<Plan> plans = many_plans();
  ASSERT_GT(plans.size(), 500u);
  for (const Plan& plan : plans)
    for (const GroupKind kind : kAllKinds) {
      SCOPED_TRACE(name_of(plan, kind));
      const std::int64_t size = kind == GroupKind::kPipeline ? plan.pp : group_of(kind, plan, 1).size;
      for (int rank = 0; rank < plan.gpus; ++rank) {
        const std::vector<int> ranks = ranks_of_group(kind, plan, rank);
        ASSERT_EQ(static_cast<std::int64_t>(ranks.size()), size);
        ASSERT_TRUE(std::is_sorted(ranks.begin(), ranks.end()));
        ASSERT_EQ(std::set<int>(ranks.begin(), ranks.end()).size(), ranks.size());
        ASSERT_TRUE(std::binary_search(ranks.begin(), ranks.end(), rank));
        ASSERT_GE(ranks.front(), 0);
        ASSERT_LT(ranks.back(), plan.gpus);
        // With the rank among its members, that is a partition.
        for (const int member : ranks) ASSERT_EQ(ranks_of_group(kind, plan, member), ranks);
      }
    }
}

// Which coordinates vary inside a group, by its definition and not by strides.
TEST(Mesh, MembersDifferInTheCoordinatesOfTheirKindAlone) {
  for (const Plan& plan : many_plans())
    for (const GroupKind kind : kAllKinds) {
      if (plan.gpus > 24) continue;  // all pairs of ranks are looked at
      SCOPED_TRACE(name_of(plan, kind));
      const bool is_dualpipe = plan.schedule == PipelineSchedule::kDualPipe;
      for (int rank = 0; rank < plan.gpus; ++rank) {
        const MeshPlace mine = place_of(plan, rank);
        std::vector<int> expected;
        for (int other = 0; other < plan.gpus; ++other) {
          const MeshPlace theirs = place_of(plan, other);
          const bool same_stage = mine.stage == theirs.stage;
          const bool same_layers = same_stage || (is_dualpipe && mine.stage + theirs.stage == plan.pp - 1);
          const bool same_attention = mine.attention == theirs.attention;
          const bool same_shard = mine.expert == theirs.expert && mine.expert_tensor == theirs.expert_tensor;
          const auto joined = [&] {
            switch (kind) {
              case GroupKind::kAttention:
                return same_stage && mine.context == theirs.context && mine.data == theirs.data;
              case GroupKind::kContext: return same_stage && same_attention && mine.data == theirs.data;
              case GroupKind::kExpert:
                return same_stage && mine.expert_tensor == theirs.expert_tensor &&
                       mine.expert_data == theirs.expert_data;
              case GroupKind::kExpertTensor:
                return same_stage && mine.expert == theirs.expert && mine.expert_data == theirs.expert_data;
              case GroupKind::kExpertAll: return same_stage && mine.expert_data == theirs.expert_data;
              case GroupKind::kDenseData:
                return same_layers && (plan.attention != AttentionParallelism::kTensor || same_attention);
              case GroupKind::kExpertData: return same_layers && same_shard;
              case GroupKind::kPipeline:
                return same_attention && mine.context == theirs.context && mine.data == theirs.data;
              case GroupKind::kWorld: return true;
            }
            return false;
          };
          if (joined()) expected.push_back(other);
        }
        ASSERT_EQ(ranks_of_group(kind, plan, rank), expected);
      }
    }
}

// 16 ranks: two stages of 8, attention TP2 x data 4, experts EP4 x expert data 2.
TEST(Mesh, AnExampleByHand) {
  const Plan plan{.gpus = 16, .attention_degree = 2, .ep = 4, .pp = 2};
  using Ranks = std::vector<int>;
  EXPECT_EQ(ranks_of_group(GroupKind::kAttention, plan, 13), (Ranks{12, 13}));
  EXPECT_EQ(ranks_of_group(GroupKind::kExpert, plan, 13), (Ranks{12, 13, 14, 15}));
  EXPECT_EQ(ranks_of_group(GroupKind::kDenseData, plan, 13), (Ranks{9, 11, 13, 15}));
  EXPECT_EQ(ranks_of_group(GroupKind::kExpertData, plan, 13), (Ranks{9, 13}));
  EXPECT_EQ(ranks_of_group(GroupKind::kPipeline, plan, 13), (Ranks{5, 13}));
  Plan dualpipe = plan;
  dualpipe.schedule = PipelineSchedule::kDualPipe;
  EXPECT_EQ(ranks_of_group(GroupKind::kExpertData, dualpipe, 13), (Ranks{1, 5, 9, 13}));
}

}  // namespace
}  // namespace msmoe::executor
