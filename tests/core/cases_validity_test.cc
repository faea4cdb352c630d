// Public questions about plans that a trainer accepts or refuses: each with its source, the verdict, and the reason.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "core/cluster.h"
#include "core/model.h"
#include "core/plan.h"
#include "tests/core/plan_samples.h"

namespace msmoe {
namespace {

class Cases : public testing::Test {
 protected:
  void set(std::initializer_list<std::pair<const char*, const char*>> fields) {
    for (const auto& [key, value] : fields) set_plan_field(plan, key, value);
  }
  void expect_accepted(Target target = Target::kMsmoe) {
    EXPECT_EQ(all_messages(check_plan(model, cluster, plan, target)), "");
  }
  // Refused for this rule alone, with each of these parts in the sentence.
  void expect_refused(Target target, const std::string& rule, std::initializer_list<const char*> parts) {
    const std::vector<Violation> violations = check_plan(model, cluster, plan, target);
    ASSERT_EQ(violations.size(), 1u) << all_messages(violations);
    EXPECT_EQ(violations[0].rule, rule) << violations[0].message;
    for (const char* part : parts)
      EXPECT_NE(violations[0].message.find(part), std::string::npos) << part << " in: " << violations[0].message;
  }
  bool warns(const std::string& part) {
    const std::vector<std::string> warnings = plan_warnings(model, cluster, plan, Target::kMegatron);
    return std::any_of(warnings.begin(), warnings.end(),
                       [&](const std::string& warning) { return warning.find(part) != std::string::npos; });
  }
  std::vector<std::int64_t> stage_layers() {
    std::vector<std::int64_t> layers;
    for (std::int64_t stage = 0; stage < plan.virtual_stages(); ++stage)
      layers.push_back(plan.layers_of(stage, model.num_layers()));
    return layers;
  }

  Model model = sample_dense_model(32, 32, 8);
  Cluster cluster = find_cluster("h100");
  Plan plan = sample_plan();
};

// GLM-4.5-Air, 46 layers: TP8 PP4 EP16 ETP1, MBS2 GBS16, full recomputation. 46 = 4*11 + 2. The rest passes: 96 % 8,
// 128 % 16, and a world that is a multiple of 1*16*4 = 64.
// https://github.com/modelscope/ms-swift/issues/5737
TEST_F(Cases, LayersThatStagesDoNotDivide) {
  model = find_model("glm-4.5-air");
  set({{"attention_degree", "8"},
       {"pp", "4"},
       {"ep", "16"},
       {"gpus", "64"},
       {"micro_batch", "2"},
       {"global_batch", "16"},
       {"recompute", "full"}});
  expect_refused(Target::kMegatron, "layers % pp",
                 {"PP=4 does not divide 46 layers (46 = 4*11 + 2)", "PP=2", "11/12/12/11"});
  set_plan_field(plan, "layout", "11/12/12/11");
  expect_accepted(Target::kMegatron);
  set_plan_field(plan, "layout", "even");
  expect_accepted(Target::kMsmoe);
  EXPECT_EQ(stage_layers(), (std::vector<std::int64_t>{11, 12, 12, 11}));
  set({{"layout", "even"}, {"gpus", "96"}, {"global_batch", "18"}});
  expect_refused(Target::kMsmoe, "gpus % expert ranks", {"ETP=1 x EP=16 x PP=4 = 64", "64 or 128 GPUs"});
}

// A 30B-A3B model on one node of 8: TP2 PP2 EP8 ETP1. 1*8*2 = 16 does not divide 8.
// https://github.com/THUDM/slime/issues/1818
TEST_F(Cases, ExpertRanksBeyondTheWorld) {
  model = sample_moe_model(48, 32, 4, 64);
  set({{"attention_degree", "2"}, {"pp", "2"}, {"ep", "8"}, {"gpus", "8"}, {"global_batch", "8"}});
  expect_refused(Target::kMegatron, "gpus % expert ranks",
                 {"ETP=1 x EP=8 x PP=2 = 16 ranks do not divide 8 GPUs", "EP=4 with PP=2", "EP=8 with PP=1"});
  set_plan_field(plan, "ep", "4");
  expect_accepted(Target::kMegatron);
  set({{"ep", "8"}, {"pp", "1"}});
  expect_accepted(Target::kMegatron);
}

// gpt-oss on 4 GPUs: TP1 PP2 EP2 ETP1 is 1*2*2 = 4, valid; a product of 8 has EP4 or ETP2 from elsewhere.
// https://github.com/NVIDIA-NeMo/Speech/issues/14838
TEST_F(Cases, ExpertRanksNameEachFactor) {
  model = find_model("gpt-oss-20b");
  set({{"pp", "2"}, {"ep", "2"}, {"gpus", "4"}, {"global_batch", "512"}});
  expect_accepted(Target::kMegatron);
  set_plan_field(plan, "ep", "4");
  expect_refused(Target::kMegatron, "gpus % expert ranks", {"ETP=1 x EP=4 x PP=2 = 8 ranks do not divide 4 GPUs"});
  set({{"ep", "2"}, {"etp", "2"}});
  expect_refused(Target::kMegatron, "gpus % expert ranks", {"ETP=2 x EP=2 x PP=2 = 8 ranks do not divide 4 GPUs"});
}

// 2 KV heads: torchtitan splits them, Megatron (and msmoe) replicate them.
// https://github.com/pytorch/torchtitan/issues/2574
TEST_F(Cases, KvHeadsFewerThanTensorRanks) {
  model = sample_moe_model(40, 16, 2, 256);
  for (const auto& [degree, torchtitan_accepts] : {std::pair{"1", true}, {"2", true}, {"4", false}, {"8", false}}) {
    set({{"attention_degree", degree}, {"gpus", degree}});
    expect_accepted(Target::kMegatron);
    expect_accepted(Target::kMsmoe);
    if (torchtitan_accepts)
      expect_accepted(Target::kTorchtitan);
    else
      expect_refused(Target::kTorchtitan, "kv heads % tp", {"2 KV heads are not a multiple of TP=", "use TP=1, 2"});
  }
}

// 80 layers on PP16 with 2 layers a virtual stage: 5 a stage, VPP = 5/2 = 2, and 16*2*2 = 64 layers would train.
// https://github.com/NVIDIA/Megatron-LM/issues/468
TEST_F(Cases, ChunksThatLoseLayers) {
  model = sample_dense_model(80, 64, 8);
  set({{"pp", "16"}, {"vpp", "2"}, {"schedule", "interleaved"}, {"gpus", "16"}, {"global_batch", "16"}});
  expect_refused(Target::kMegatron, "layers per stage % vpp",
                 {"VPP=2 does not divide the 5 layers a stage of 80 layers on PP=16 (5 = 2*2 + 1)",
                  "64 layers would be", "VPP=1 or VPP=5"});
  set_plan_field(plan, "vpp", "5");
  expect_accepted(Target::kMegatron);
  // msmoe itself places all 80.
  set_plan_field(plan, "vpp", "2");
  expect_accepted(Target::kMsmoe);
  const std::vector<std::int64_t> layers = stage_layers();
  EXPECT_EQ(std::accumulate(layers.begin(), layers.end(), std::int64_t{0}), 80);
}

// 40 layers on PP8 with 2 layers a virtual stage: 40/8 = 5, one layer a device lost.
// https://github.com/NVIDIA/Megatron-LM/pull/326
TEST_F(Cases, ChunksThatLoseALayerPerDevice) {
  model = sample_dense_model(40, 40, 40);
  set({{"pp", "8"}, {"vpp", "2"}, {"schedule", "interleaved"}, {"gpus", "8"}, {"global_batch", "8"}});
  expect_refused(Target::kMegatron, "layers per stage % vpp",
                 {"5 layers a stage of 40 layers on PP=8", "32 layers would be", "VPP=1 or VPP=5"});
}

// A batch that is no multiple of MBS x DP: 100 = 24*4 + 4.
// https://github.com/verl-project/verl/pull/1811
TEST_F(Cases, BatchThatReplicasDoNotDivide) {
  set({{"gpus", "8"}, {"micro_batch", "3"}, {"global_batch", "100"}});
  expect_refused(Target::kMegatron, "global_batch % (micro_batch * dp)",
                 {"micro_batch=3 x DP=8 = 24 (100 = 24*4 + 4)", "use 96 or 120"});
}

// 8 GPUs, TP8: DP is 8 / (8*1*1) = 1, whatever the user believes.
// https://github.com/alibaba/Megatron-LLaMA/issues/61
TEST_F(Cases, ReplicasAreDerived) {
  set({{"attention_degree", "8"}, {"gpus", "8"}, {"global_batch", "1"}});
  expect_accepted(Target::kMegatron);
  EXPECT_EQ(plan.dp(), 1);
  EXPECT_EQ(plan.micro_batches(), 1);
  EXPECT_TRUE(describe_plan(plan).starts_with("TP8 DP1, 8 GPUs")) << describe_plan(plan);
  set({{"micro_batch", "2"}, {"global_batch", "3"}});
  expect_refused(Target::kMegatron, "global_batch % (micro_batch * dp)", {"DP = 8 GPUs / (TP=8 x PP=1)"});
}

// 52 = 8*6 + 4.
// https://github.com/deepspeedai/DeepSpeed/issues/3634
TEST_F(Cases, HeadsThatTensorRanksDoNotDivide) {
  model = sample_dense_model(32, 52, 52);
  set({{"attention_degree", "8"}, {"gpus", "8"}});
  expect_refused(Target::kMegatron, "heads % attention degree",
                 {"TP=8 does not divide 52 heads (52 = 8*6 + 4)", "use TP=1, 2, 4, 13, 26, 52"});
}

// 28 heads at 131,072 tokens: Ulysses over 8 is refused (28 = 8*3 + 4), a ring of 8 is not (131072 % 16 = 0).
// https://github.com/InternLM/xtuner/issues/755
TEST_F(Cases, UlyssesBeyondTheHeadsRingNot) {
  model = find_model("qwen2.5-7b");
  ASSERT_EQ(model.kinds[0].attention.heads, 28);
  set({{"attention", "sp"}, {"attention_degree", "8"}, {"gpus", "8"}, {"seq_len", "128k"}});
  expect_refused(Target::kMsmoe, "heads % attention degree",
                 {"SP=8 does not divide 28 heads (28 = 8*3 + 4)", "1, 2, 4", "attention=cp"});
  set_plan_field(plan, "attention", "cp");
  expect_accepted();
  expect_accepted(Target::kMegatron);
  set({{"attention", "sp"}, {"attention_degree", "4"}, {"global_batch", "2"}});
  expect_accepted();
}

// 16 heads, CP4, 131,072 tokens: valid (131072 % 8 = 0); the danger is a dense mask of 131072^2 = 17.2e9 bytes.
// https://github.com/NVIDIA/Megatron-LM/issues/1025
TEST_F(Cases, DenseMaskAt128k) {
  model = sample_dense_model(24, 16, 16);
  set({{"attention", "cp"}, {"attention_degree", "4"}, {"gpus", "4"}, {"seq_len", "128k"}});
  expect_accepted(Target::kMegatron);
  EXPECT_TRUE(warns("131072 x 131072 is 17.2 GB"));
  EXPECT_TRUE(warns("--no-create-attention-mask-in-dataloader"));
  set_plan_field(plan, "seq_len", "64k");
  expect_accepted(Target::kMegatron);
  EXPECT_FALSE(warns("mask"));
}

// 50016 = 4*12504 passes; the length that arrives, 50341 = 4*12585 + 1, does not.
// https://github.com/NVIDIA/Megatron-LM/issues/743
TEST_F(Cases, LengthsThatTensorRanksDoNotDivide) {
  set({{"attention_degree", "4"}, {"gpus", "4"}, {"seq_len", "50016"}});
  expect_accepted(Target::kMegatron);
  EXPECT_TRUE(warns("must be padded to a multiple of 4 tokens"));
  set_plan_field(plan, "seq_len", "50341");
  expect_refused(Target::kMegatron, "seq_len % attention ranks",
                 {"50341 is not a multiple of TP=4 (50341 = 4*12585 + 1)", "use 50340 or 50344"});
}

// DeepSeek-V3, 61 layers on PP16 x VPP2 = 32 slots. Et|(tt|)*30L: 1 + 60 = 61, and the last slot holds the loss alone.
// https://github.com/NVIDIA/Megatron-LM/issues/1852
TEST_F(Cases, LayoutWithALossOnlySlot) {
  model = find_model("deepseek-v3");
  ASSERT_EQ(model.num_layers(), 61);
  set({{"pp", "16"},
       {"vpp", "2"},
       {"schedule", "interleaved"},
       {"ep", "8"},
       {"gpus", "128"},
       {"global_batch", "256"},
       {"overlap", "inter"},
       {"layout", "Et|(tt|)*30L"}});
  expect_accepted(Target::kMegatron);
  expect_accepted();
  EXPECT_EQ(plan.layers_of(31, 61), 0);
  EXPECT_FALSE(warns("an odd number"));
  // 31 slots: no multiple of PP.
  set_plan_field(plan, "layout", "Ett|(tt|)*29tL");
  expect_refused(Target::kMegatron, "layout entries", {"31 virtual stages, and PP=16 x VPP=2 = 32"});
  // 1 + 58 + 1 = 60 layers on 32 slots.
  set_plan_field(plan, "layout", "Et|(tt|)*29t|L");
  expect_refused(Target::kMegatron, "layout sum", {"holds 60 layers, and the model has 61; use 1 more"});
  // The first three layers are dense, so the second slot holds one MoE layer.
  set_plan_field(plan, "layout", "Ett|(tt|)*28t|tt|L");
  expect_accepted(Target::kMegatron);
  EXPECT_TRUE(warns("virtual stage 1 holds 1 MoE layers: an odd number"));
}

// 61 layers on PP4 with 13 on the last stage: 16/16/16/13, so the last stage has fewer layers, not more.
// https://github.com/radixark/miles/pull/1102
TEST_F(Cases, LastStageWithFewerLayers) {
  model = find_model("deepseek-v3");
  set({{"pp", "4"}, {"ep", "8"}, {"gpus", "32"}, {"global_batch", "32"}, {"layout", "16/16/16/13"}});
  expect_accepted(Target::kMegatron);
  EXPECT_EQ(stage_layers(), (std::vector<std::int64_t>{16, 16, 16, 13}));
}

// PP4 EP16 on nodes of 8 H100: allowed, and its dispatch crosses nodes; PP8 EP8 stays inside.
// https://github.com/NVIDIA-NeMo/Automodel/pull/2546
TEST_F(Cases, ExpertGroupAcrossNodes) {
  model = sample_moe_model(80, 64, 8, 192);
  set({{"pp", "4"}, {"ep", "16"}, {"gpus", "64"}, {"global_batch", "64"}});
  expect_accepted();
  EXPECT_TRUE(warns("EP=16 x ETP=1 spans 2 nodes of 8 GPUs"));
  set({{"pp", "8"}, {"ep", "8"}});
  expect_accepted();
  EXPECT_FALSE(warns("spans"));
}

// DeepSeek-V2, 60 layers and 160 experts, EP8, first and last stage of 2: 2 + 14*4 + 2 = 60 on PP16.
// https://github.com/NVIDIA/Megatron-LM/issues/1445
TEST_F(Cases, LightFirstAndLastStage) {
  model = find_model("deepseek-v2");
  set({{"pp", "16"}, {"ep", "8"}, {"gpus", "128"}, {"global_batch", "128"}, {"layout", "Ett|(tttt|)*14ttL"}});
  expect_accepted(Target::kMegatron);
}

// Qwen3-30B-A3B on 64 GH200 in nodes of 4: EP4 stays on a node, EP16 crosses four.
// https://github.com/NVIDIA/Megatron-LM/issues/6491
TEST_F(Cases, NodesOfFour) {
  model = find_model("qwen3-30b-a3b");
  cluster = find_cluster("gh200");
  ASSERT_EQ(cluster.gpus_per_node, 4);
  set({{"ep", "16"}, {"gpus", "64"}, {"global_batch", "64"}});
  expect_accepted();
  EXPECT_TRUE(warns("spans 4 nodes of 4 GPUs"));
  set_plan_field(plan, "ep", "4");
  expect_accepted();
  EXPECT_FALSE(warns("spans"));
}

// Qwen3-30B-A3B (4 KV heads) at 131,072 tokens on 64 GPUs: CP8 and CP16 divide it (131072 % 32 = 0); TP4 splits its
// KV heads, TP8 replicates them, and a trainer that does not replicate stops at 4.
// https://github.com/NVIDIA-NeMo/RL/issues/883
TEST_F(Cases, LongContextOfQwen3) {
  model = find_model("qwen3-30b-a3b");
  set({{"gpus", "64"}, {"seq_len", "128k"}, {"global_batch", "64"}, {"ep", "8"}});
  for (const char* degree : {"8", "16"}) {
    set_plan_field(plan, "cp", degree);
    expect_accepted(Target::kMegatron);
    EXPECT_TRUE(warns("packed sequences"));
  }
  set({{"cp", "8"}, {"attention_degree", "8"}});
  expect_accepted(Target::kMegatron);
  expect_refused(Target::kTorchtitan, "kv heads % tp", {"4 KV heads are not a multiple of TP=8", "use TP=1, 2, 4"});
}

// A hybrid of linear and full attention: no context parallelism, and no plan of msmoe's.
// https://github.com/modelscope/ms-swift/issues/8169
TEST_F(Cases, HybridModelsHaveNoContextParallelism) {
  model = find_model("qwen3-next-80b-a3b");
  set({{"gpus", "8"}, {"attention_degree", "2"}, {"seq_len", "128k"}, {"global_batch", "8"}});
  expect_refused(Target::kMsmoe, "layer kinds", {"36 of 48 layers are linear attention"});
  set_plan_field(plan, "cp", "2");
  const std::vector<Violation> violations = check_plan(model, cluster, plan, Target::kMegatron);
  ASSERT_EQ(violations.size(), 2u) << all_messages(violations);
  EXPECT_NE(violations[1].message.find("CP=2 splits a sequence along which 36 of 48 layers carry a state; use CP=1"),
            std::string::npos)
      << violations[1].message;
}

// Packing with CP2: each packed sequence padded to 2*CP = 4; with TP8 beside it to 2 * lcm(2, 8) = 16.
// https://github.com/NVIDIA-NeMo/Megatron-Bridge/issues/1292
TEST_F(Cases, PackedSequencesWithContextParallelism) {
  set({{"cp", "2"}, {"gpus", "16"}, {"global_batch", "8"}});
  EXPECT_TRUE(warns("packed sequences each of them must be padded to a multiple of 4 tokens"));
  set_plan_field(plan, "attention_degree", "8");
  EXPECT_TRUE(warns("must be padded to a multiple of 16 tokens"));
  set_plan_field(plan, "cp", "1");
  EXPECT_FALSE(warns("packed"));
}

// Llama-3.1-70B, 80 layers, TP4 PP8 VPP5 on 64 GPUs: 2 layers everywhere, or a lighter last stage by a layout.
// https://github.com/NVIDIA-NeMo/Megatron-Bridge/pull/5391
TEST_F(Cases, LighterLastStageByLayout) {
  model = find_model("llama-3.1-70b");
  set({{"attention_degree", "4"},
       {"pp", "8"},
       {"vpp", "5"},
       {"schedule", "interleaved"},
       {"gpus", "64"},
       {"global_batch", "128"}});
  expect_accepted(Target::kMegatron);
  EXPECT_EQ(stage_layers(), std::vector<std::int64_t>(40, 2));
  // 2 + 2*37 + 3 + 1 = 80 on 40 slots.
  set_plan_field(plan, "layout", "Ett|(tt|)*37ttt|tL");
  expect_accepted(Target::kMegatron);
  EXPECT_EQ(plan.layers_of(39, 80), 1);
}

}  // namespace
}  // namespace msmoe
