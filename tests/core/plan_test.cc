#include "core/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "core/error.h"
#include "tests/core/plan_samples.h"

namespace msmoe {
namespace {

std::vector<std::int64_t> even_layers(std::int64_t num_layers, std::int64_t pp, std::int64_t vpp) {
  Plan plan;
  plan.pp = pp;
  plan.vpp = vpp;
  std::vector<std::int64_t> layers;
  for (std::int64_t stage = 0; stage < pp * vpp; ++stage) layers.push_back(plan.layers_of(stage, num_layers));
  return layers;
}

using Layers = std::vector<std::int64_t>;

// What is left over goes to the middle; of an odd number of light stages the last one gets one more, since the head
// weighs more than the embedding.
TEST(LayersOf, ExtraLayersGoToTheMiddle) {
  EXPECT_EQ(even_layers(46, 4, 1), (Layers{11, 12, 12, 11}));  // 46 = 4*11 + 2
  EXPECT_EQ(even_layers(61, 4, 1), (Layers{15, 16, 15, 15}));  // 61 = 4*15 + 1
  EXPECT_EQ(even_layers(94, 4, 1), (Layers{23, 24, 24, 23}));  // 94 = 4*23 + 2
  EXPECT_EQ(even_layers(60, 15, 1), Layers(15, 4));
}

// 61 = 32*1 + 29, and 29 = 16 + 13: the first chunk has two layers everywhere, the second on 13 middle stages.
TEST(LayersOf, InterleavedStagesDifferByOneLayerAtMost) {
  const Layers layers = even_layers(61, 16, 2);
  EXPECT_EQ(Layers(layers.begin(), layers.begin() + 16), Layers(16, 2));
  EXPECT_EQ(Layers(layers.begin() + 16, layers.end()), (Layers{1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1}));
}

TEST(LayersOf, EveryLayerOnceAndEvenForAllSmallShapes) {
  for (std::int64_t pp = 1; pp <= 9; ++pp)
    for (std::int64_t vpp = 1; vpp <= 4; ++vpp)
      for (std::int64_t num_layers = pp * vpp; num_layers <= 100; ++num_layers) {
        const Layers layers = even_layers(num_layers, pp, vpp);
        EXPECT_EQ(std::accumulate(layers.begin(), layers.end(), std::int64_t{0}), num_layers);
        Layers stages(static_cast<std::size_t>(pp), 0);
        for (std::size_t stage = 0; stage < layers.size(); ++stage)
          stages[stage % static_cast<std::size_t>(pp)] += layers[stage];
        const auto [least, most] = std::minmax_element(stages.begin(), stages.end());
        EXPECT_LE(*most - *least, 1) << num_layers << " layers on PP" << pp << " VPP" << vpp;
        EXPECT_EQ(stages.back(), *least) << num_layers << " layers on PP" << pp << " VPP" << vpp;
      }
}

TEST(LayersOf, TheLayoutDecides) {
  Plan plan;
  plan.pp = 4;
  plan.layout = {16, 16, 16, 13};
  EXPECT_EQ(plan.layers_of(0, 61), 16);
  EXPECT_EQ(plan.layers_of(3, 61), 13);
}

// 1440 = 15 stages x 12 replicas x 8 ranks; 720 / 12 = 60 micro-batches; experts: 1440 / (8 * 15) = 12 replicas.
TEST(Plan, DerivedDegreesOfThePaper) {
  const Plan plan = find_plan("megascale-moe-352b");
  EXPECT_EQ(plan.attention_ranks(), 8);
  EXPECT_EQ(plan.model_ranks(), 120);
  EXPECT_EQ(plan.dp(), 12);
  EXPECT_EQ(plan.expert_dp(), 12);
  EXPECT_EQ(plan.micro_batches(), 60);
  EXPECT_EQ(plan.virtual_stages(), 30);
}

TEST(Plan, DescribesItself) {
  EXPECT_EQ(describe_plan(find_plan("megascale-moe-352b")),
            "SP8 EP8 PP15 VPP2 DP12, 1440 GPUs, 720 sequences of 8192 a step, micro-batch 1, all-gather dispatch, "
            "ZeRO-1, recompute selective, overlap intra, bf16, bf16 gradients on the wire");
  EXPECT_EQ(describe_plan(sample_plan()),
            "TP1 DP1, 1 GPUs, 1 sequences of 4096 a step, micro-batch 1, ZeRO-1, recompute none, overlap none, bf16, "
            "bf16 gradients on the wire");
  Plan plan = sample_plan();
  set_precision(plan, Precision::kFp32);
  EXPECT_TRUE(describe_plan(plan).ends_with("fp32, fp32 gradients on the wire")) << describe_plan(plan);
  plan.act_wire = WireFormat::kBf16;
  EXPECT_TRUE(describe_plan(plan).ends_with("fp32, fp32 gradients, bf16 activations on the wire"));
}

TEST(Precision, BringsItsWiresAndMasters) {
  Plan plan;
  set_precision(plan, Precision::kFp32);
  EXPECT_EQ(plan.grad_wire, WireFormat::kFp32);
  EXPECT_EQ(plan.act_wire, WireFormat::kFp32);
  EXPECT_EQ(plan.master_bytes, 0);
  set_precision(plan, Precision::kBf16);
  EXPECT_EQ(plan, Plan{});
}

TEST(Precision, BytesOfItsElements) {
  EXPECT_EQ(element_bytes(Precision::kFp32), 4);
  EXPECT_EQ(element_bytes(Precision::kBf16), 2);
  EXPECT_EQ(element_bytes(Precision::kFp8), 2);
  EXPECT_EQ(weight_bytes(Precision::kFp32), 4);
  EXPECT_EQ(weight_bytes(Precision::kBf16), 2);
  EXPECT_EQ(weight_bytes(Precision::kFp8), 1);
}

TEST(ShippedPlans, AreValidAndOfNamedSoftware) {
  const std::map<std::string, std::string> software = {{"megascale-moe-352b", "megascale-moe"},
                                                       {"megatron-lm-352b", "megatron-lm"},
                                                       {"deepseek-v3-2048", "deepseek-v3"}};
  for (const auto& [name, system] : software) {
    const Plan plan = find_plan(name);
    EXPECT_EQ(plan.software, find_software(system)) << name;
    EXPECT_FALSE(plan.notes.empty()) << name;
    EXPECT_EQ(all_messages(check_plan(find_model(plan.model), find_cluster(plan.cluster), plan)), "") << name;
  }
}

// The rows of Table 3 (arXiv 2505.11432): 240, 720 and 1,440 GPUs are 2, 6 and 12 replicas of 120 ranks.
TEST(ShippedPlans, KeepTheirShapeOnTheOtherRowsOfTable3) {
  for (const char* name : {"megascale-moe-352b", "megatron-lm-352b"})
    for (const auto& [gpus, micro_batches] : std::map<std::string, int>{{"240", 360}, {"720", 120}, {"1440", 60}}) {
      Plan plan = find_plan(name);
      set_plan_field(plan, "gpus", gpus);
      EXPECT_TRUE(is_valid(find_model(plan.model), find_cluster(plan.cluster), plan)) << name << " on " << gpus;
      EXPECT_EQ(plan.micro_batches(), micro_batches);
    }
}

TEST(Software, NamesAndDefault) {
  EXPECT_EQ(software_names().front(), "megascale-moe");
  EXPECT_EQ(software_names().back(), "kernels");
  EXPECT_EQ(Plan{}.software, find_software("megascale-moe"));
  EXPECT_EQ(find_software("kernels").kernel_time_scale, 1.0);
  EXPECT_GT(find_software("megatron-lm").kernel_time_scale, find_software("megascale-moe").kernel_time_scale);
  try {
    find_software("megatron-ml");
    ADD_FAILURE();
  } catch (const UserError& error) {
    EXPECT_NE(error.hint().find("did you mean 'megatron-lm'?"), std::string::npos) << error.hint();
  }
}

}  // namespace
}  // namespace msmoe
