#include "executor/parameters/local_parameters.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <tuple>

#include "core/error.h"
#include "tests/executor/parameter_job.h"

namespace msmoe::executor {
namespace {

Model shipped(const std::string& name) {
  return read_model(std::string(MSMOE_SOURCE_DIR) + "/models/" + name + ".json");
}

std::vector<LocalParameters> all_of_rank(const Model& model, const Plan& plan, int rank) {
  std::vector<LocalParameters> modules;
  for (const ModuleId& module : modules_of_rank(model, plan, rank))
    modules.push_back(local_parameters(model, plan, place_of(plan, rank), module));
  return modules;
}

const LocalParameter& find(const LocalBucket& bucket, Part part, int expert = -1) {
  const auto found = std::find_if(bucket.parameters.begin(), bucket.parameters.end(), [&](const LocalParameter& local) {
    return local.whole.part == part && local.whole.expert == expert;
  });
  EXPECT_NE(found, bucket.parameters.end());
  return *found;
}

Plan tensor_plan(std::int64_t degree) {
  Plan plan;
  plan.gpus = plan.attention_degree = degree;
  return plan;
}

// Over all ranks, each element is held as often as its data group has ranks, times the tensor ranks that share it.
TEST(LocalParameters, EveryElementIsHeldByAllItsReplicasAndNobodyElse) {
  using Key = std::tuple<Part, int, int>;
  for (const auto& [name, model, plan] : plans_of_every_kind()) {
    std::map<Key, std::vector<int>> holders;
    std::map<Key, int> expected;
    const auto hold = [&](const LocalParameter& local, std::int64_t group_size) {
      const Key key{local.whole.part, local.whole.layer, local.whole.expert};
      std::vector<int>& counts = holders[key];
      counts.resize(static_cast<std::size_t>(local.whole.elements()));
      for_each_element(local, 0, local.slice.size(),
                       [&](std::int64_t idx, std::int64_t) { ++counts[static_cast<std::size_t>(idx)]; });
      expected[key] = local.sharers * static_cast<int>(group_size);
    };
    for (int rank = 0; rank < plan.gpus; ++rank)
      for (const LocalParameters& module : all_of_rank(model, plan, rank)) {
        for (const LocalBucket* bucket : {&module.dense, &module.expert})
          for (const LocalParameter& local : bucket->parameters) hold(local, group_of(bucket->group, plan, 1).size);
        if (module.router_bias) hold(*module.router_bias, group_of(GroupKind::kDenseData, plan, 1).size);
      }
    for (const Parameter& parameter : list_parameters(model)) {
      const Key key{parameter.part, parameter.layer, parameter.expert};
      ASSERT_EQ(holders[key].size(), static_cast<std::size_t>(parameter.elements())) << name;
      for (const int count : holders[key]) ASSERT_EQ(count, expected[key]) << name;
    }
    EXPECT_EQ(holders.size(), list_parameters(model).size()) << name;
  }
}

TEST(LocalParameters, ShardsOfShippedModelsAddUpToAllParameters) {
  struct Row {
    const char* model;
    std::int64_t gpus, tensor, ep, etp, pp;
  };
  for (const Row& row : {Row{"mixtral-8x7b", 16, 4, 4, 2, 2}, Row{"qwen3-8b", 8, 8, 1, 1, 1},
                         Row{"qwen1.5-moe-a2.7b", 8, 4, 4, 2, 1}, Row{"deepseek-v2-lite", 8, 2, 4, 1, 2}}) {
    const Model model = shipped(row.model);
    Plan plan = tensor_plan(row.tensor);
    plan.gpus = row.gpus;
    plan.ep = row.ep;
    plan.etp = row.etp;
    plan.pp = row.pp;
    double total = 0;
    for (int rank = 0; rank < plan.gpus; ++rank)
      for (const LocalParameters& module : all_of_rank(model, plan, rank))
        for (const LocalBucket* bucket : {&module.dense, &module.expert})
          for (const LocalParameter& local : bucket->parameters)
            total += static_cast<double>(local.slice.size()) / local.sharers /
                     static_cast<double>(group_of(bucket->group, plan, 1).size);
    EXPECT_NEAR(total, static_cast<double>(count_parameters(model).total), 1) << row.model;
  }
}

TEST(LocalParameters, BucketsAreAlignedAndAlikeOnAllTensorRanks) {
  for (const auto& [name, model, plan] : plans_of_every_kind()) {
    for (int rank = 0; rank < plan.gpus; ++rank) {
      MeshPlace first = place_of(plan, rank);
      first.attention = 0;
      for (const ModuleId& module : modules_of_rank(model, plan, rank)) {
        const LocalParameters local = local_parameters(model, plan, place_of(plan, rank), module);
        const LocalParameters neighbour = local_parameters(model, plan, first, module);
        for (const LocalBucket* bucket : {&local.dense, &local.expert}) {
          EXPECT_EQ(bucket->elements % (64 * group_of(bucket->group, plan, 1).size), 0) << name;
          std::int64_t end = 0;
          for (const LocalParameter& parameter : bucket->parameters) {
            EXPECT_GE(parameter.offset, end) << name;
            end = parameter.offset + parameter.slice.size();
            EXPECT_EQ(parameter.offset < bucket->replicated_end, plan.attention == AttentionParallelism::kTensor &&
                                                                     parameter.sharers > 1 &&
                                                                     parameter.sharers == plan.attention_degree)
                << name;
            EXPECT_EQ(parameter.offset<bucket->shared_end, parameter.sharers> 1) << name;
          }
          EXPECT_LE(end, bucket->elements) << name;
        }
        EXPECT_EQ(local.dense.elements, neighbour.dense.elements) << name;
        for (std::size_t idx = 0; idx < local.dense.parameters.size(); ++idx)
          EXPECT_EQ(local.dense.parameters[idx].offset, neighbour.dense.parameters[idx].offset) << name;
      }
    }
  }
}

// Width 12 over 2 expert-tensor ranks, 4 experts over 2: experts 2 and 3, 6 of their rows.
TEST(LocalParameters, ExpertsAreTwoMatrices) {
  Plan plan = tensor_plan(1);
  plan.gpus = 4;
  plan.ep = plan.etp = 2;
  const LocalBucket bucket = local_parameters(grouped_model(), plan, place_of(plan, 3), {ModuleKind::kLayer, 1}).expert;
  ASSERT_EQ(bucket.parameters.size(), 6u);
  for (int expert : {2, 3}) {
    const std::int64_t gate = (expert - 2) * 2 * 6 * 16;
    EXPECT_EQ(find(bucket, Part::kGate, expert).offset, gate);
    EXPECT_EQ(find(bucket, Part::kGate, expert).slice, (Box{6, 12, 0, 16}));
    EXPECT_EQ(find(bucket, Part::kUp, expert).offset, gate + 6 * 16);
    EXPECT_EQ(find(bucket, Part::kDown, expert).offset, 2 * 2 * 6 * 16 + (expert - 2) * 16 * 6);
    EXPECT_EQ(find(bucket, Part::kDown, expert).slice, (Box{0, 16, 6, 12}));
  }
}

TEST(LocalParameters, GateLiesAboveUp) {
  const LocalBucket bucket =
      local_parameters(tied_model(), tensor_plan(4), {.attention = 3}, {ModuleKind::kLayer, 0}).dense;
  EXPECT_EQ(find(bucket, Part::kGate).slice, (Box{9, 12, 0, 8}));
  EXPECT_EQ(find(bucket, Part::kUp).offset, find(bucket, Part::kGate).offset + 3 * 8);
  EXPECT_EQ(find(bucket, Part::kDown).slice, (Box{0, 8, 9, 12}));
  EXPECT_EQ(find(bucket, Part::kGateBias).slice, (Box{0, 1, 9, 12}));
}

// Two key/value heads of width 2 for four ranks: rank 3 holds the second, with rank 2.
TEST(LocalParameters, TensorRanksShareKeyValueHeads) {
  for (const int rank : {2, 3}) {
    const LocalBucket bucket =
        local_parameters(grouped_model(), tensor_plan(4), {.attention = rank}, {ModuleKind::kLayer, 0}).dense;
    const LocalParameter& key = find(bucket, Part::kKey);
    EXPECT_EQ(key.slice, (Box{2, 4, 0, 16}));
    EXPECT_EQ(key.sharers, 2);
    EXPECT_EQ(key.is_first, rank == 2);
    EXPECT_EQ(find(bucket, Part::kQuery).slice.row_begin, rank * 4);
    EXPECT_EQ(find(bucket, Part::kRouter).sharers, 4);
    EXPECT_FALSE(find(bucket, Part::kRouter).is_first);
  }
}

// 300 words over 4 ranks: 128 rows each, so that the third has 44 and the last none.
TEST(LocalParameters, TheVocabularyIsCutInBlocks) {
  const std::vector<Box> expected = {{0, 128, 0, 16}, {128, 256, 0, 16}, {256, 300, 0, 16}, {300, 300, 0, 16}};
  for (int rank = 0; rank < 4; ++rank) {
    const LocalBucket bucket =
        local_parameters(grouped_model(), tensor_plan(4), {.attention = rank}, {ModuleKind::kHead}).dense;
    EXPECT_EQ(find(bucket, Part::kHead).slice, expected[static_cast<std::size_t>(rank)]);
    EXPECT_EQ(bucket.elements, 64 + 128 * 16);
  }
}

TEST(LocalParameters, ATiedHeadHasNoMatrix) {
  const auto head = [](std::int64_t pp) {
    Plan plan;
    plan.gpus = plan.pp = pp;
    return local_parameters(tied_model(), plan, {}, {ModuleKind::kHead});
  };
  EXPECT_EQ(head(1).dense.parameters.size(), 1u);
  try {
    head(2);
    ADD_FAILURE();
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(),
                 "tied: pp=2: the head is tied to the embedding, which would be on another stage; pp=1 is allowed");
  }
}

TEST(LocalParameters, NormsOfAllHeadsTogetherAreNotSplit) {
  const Model model = shipped("olmoe");
  EXPECT_NO_THROW(local_parameters(model, tensor_plan(1), {}, {ModuleKind::kLayer, 0}));
  EXPECT_THROW(local_parameters(model, tensor_plan(2), {}, {ModuleKind::kLayer, 0}), UserError);
  EXPECT_NO_THROW(local_parameters(shipped("qwen3-8b"), tensor_plan(2), {}, {ModuleKind::kLayer, 0}));
}

TEST(LocalParameters, StagesHoldAllModules) {
  for (const auto& [name, model, plan] : plans_of_every_kind()) {
    const int copies = plan.schedule == PipelineSchedule::kDualPipe ? 2 : 1;
    std::map<std::pair<int, int>, int> held;
    for (int stage = 0; stage < plan.pp; ++stage)
      for (const auto& chunk : stage_modules(model, plan, stage)) {
        EXPECT_TRUE(std::is_sorted(chunk.begin(), chunk.end(), runs_before)) << name;
        for (const ModuleId& module : chunk) ++held[{static_cast<int>(module.kind), module.layer}];
      }
    EXPECT_EQ(held.size(), 6u) << name;
    for (const auto& [module, count] : held) EXPECT_EQ(count, copies) << name;
  }
}

}  // namespace
}  // namespace msmoe::executor
