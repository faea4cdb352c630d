#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>

#include "core/error.h"
#include "core/plan.h"
#include "tests/core/plan_samples.h"

namespace msmoe {
namespace {

// 8 layers, 32 heads, 8 KV heads, 32 experts 2048 wide, dense width 16384 where dense.
class PlanRules : public testing::Test {
 protected:
  // The only violation of this plan; its rule and a part of its sentence.
  void expect_broken(const std::string& rule, const std::string& part, Target target = Target::kMsmoe) {
    const std::vector<Violation> violations = check_plan(model, cluster, plan, target);
    ASSERT_EQ(violations.size(), 1u) << all_messages(violations);
    EXPECT_EQ(violations[0].rule, rule) << violations[0].message;
    EXPECT_NE(violations[0].message.find(part), std::string::npos) << violations[0].message;
    if (target == Target::kMsmoe) {
      EXPECT_FALSE(is_valid(model, cluster, plan));
    }
  }
  void expect_valid(Target target = Target::kMsmoe) {
    EXPECT_EQ(all_messages(check_plan(model, cluster, plan, target)), "");
    if (target == Target::kMsmoe) {
      EXPECT_TRUE(is_valid(model, cluster, plan));
    }
  }
  FeedForward& ffn() { return model.kinds[0].feed_forward; }

  Model model = sample_moe_model(8, 32, 8, 32);
  Cluster cluster = sample_cluster();
  Plan plan = sample_plan();
};

TEST_F(PlanRules, OneGpuIsValidForEveryTrainer) {
  for (const Target target : {Target::kMsmoe, Target::kMegatron, Target::kTorchtitan}) expect_valid(target);
}

TEST_F(PlanRules, World) {
  plan.gpus = 100;
  plan.attention_degree = 8;
  plan.pp = 2;
  plan.global_batch = 6;
  expect_broken("gpus % model ranks", "TP=8 x PP=2 = 16 ranks do not divide 100 GPUs (100 = 16*6 + 4); use 96 or 112");
  plan.gpus = 8;
  expect_broken("gpus % model ranks", "TP=8 x PP=2 = 16 ranks, and there are 8 GPUs; use 16 GPUs");
  plan.attention = AttentionParallelism::kSequence;
  plan.context_degree = 2;
  expect_broken("gpus % model ranks", "SP=8 x CP=2 x PP=2 = 32 ranks");
}

// 12 = 8 + 4: EP8 does not fit, EP4 does; with PP1 there is no smaller PP; 8 or 16 GPUs would do.
TEST_F(PlanRules, ExpertWorld) {
  plan.gpus = plan.global_batch = 12;
  plan.ep = 8;
  expect_broken("gpus % expert ranks",
                "ETP=1 x EP=8 x PP=1 = 8 ranks do not divide 12 GPUs; use EP=4 with PP=1, or 8 or 16 GPUs");
}

TEST_F(PlanRules, Experts) {
  plan.gpus = plan.global_batch = 12;
  plan.ep = 12;
  expect_broken("experts % ep", "EP=12 does not divide 32 experts (32 = 12*2 + 8); use EP=8 or EP=16");
  plan.ep = 1;
  plan.etp = 3;
  expect_broken("expert width % etp", "ETP=3 does not divide the expert width 2048 (2048 = 3*682 + 2); use ETP=2");
}

TEST_F(PlanRules, DenseModelsHaveNoExperts) {
  model = sample_dense_model(8, 32, 8);
  plan.gpus = plan.global_batch = 8;
  plan.ep = 8;
  expect_broken("experts need a MoE model", "no experts to spread over EP=8 x ETP=1; use EP=1 and ETP=1");
}

// 32 experts in 8 groups are 4 a group: 2 groups hold a top-k of 8, not one of 9.
TEST_F(PlanRules, GroupLimitedRouting) {
  ffn().expert_groups = 8;
  ffn().groups_per_token = 2;
  ffn().top_k = 8;
  expect_valid();
  ffn().top_k = 9;
  expect_broken("expert groups per token",
                "2 of 8 expert groups of 4 experts cannot give a token its top-k of 9; use 3");
  ffn().top_k = 2;
  ffn().expert_groups = 6;
  expect_broken("experts % expert groups", "6 expert groups do not divide 32 experts (32 = 6*5 + 2)");
  ffn().expert_groups = ffn().groups_per_token = 8;
  expect_valid();
  expect_broken("expert groups per token < groups", "not 8 of 8; use 1 to 7", Target::kMegatron);
  ffn().expert_groups = 1;
  ffn().top_k = 33;
  expect_broken("top_k <= experts", "33 of 32 experts");
}

TEST_F(PlanRules, Heads) {
  plan.gpus = plan.attention_degree = 6;
  plan.seq_len = 6144;
  model.kinds[0].attention.kv_heads = 2;  // divides 6, so that only the heads are wrong
  ffn().shared_width = 0;
  expect_broken("heads % attention degree", "TP=6 does not divide 32 heads (32 = 6*5 + 2); use TP=1, 2, 4, 8, 16, 32");
  plan.attention = AttentionParallelism::kContext;
  expect_valid();
}

// 24 heads over 12 ranks; 8 KV heads neither divide by 12 nor divide it.
TEST_F(PlanRules, KvHeadsAreAMultipleOrADivisor) {
  model.kinds[0].attention.heads = 24;
  plan.attention = AttentionParallelism::kSequence;
  plan.gpus = plan.attention_degree = 12;
  plan.seq_len = 12288;
  expect_broken("kv heads and attention degree",
                "8 KV heads are neither a multiple nor a divisor of SP=12; use SP=1, 2, 4, 8, 24");
  model.kinds[0].attention.kv_heads = 4;
  expect_valid();
  expect_broken("kv heads % sp", "4 KV heads are not a multiple of SP=12", Target::kMegatron);
  model.kinds[0].attention.kind = AttentionKind::kLatent;  // has no KV heads to split
  expect_valid(Target::kMegatron);
}

TEST_F(PlanRules, TensorParallelismCutsDenseAndSharedWidths) {
  plan.gpus = plan.attention_degree = 8;
  ffn().shared_width = 1412;
  expect_broken("dense width % tp", "TP=8 does not divide the shared-expert width 1412 (1412 = 8*176 + 4); use TP=4");
  plan.attention = AttentionParallelism::kSequence;
  expect_valid();
}

TEST_F(PlanRules, ContextParallelism) {
  plan.attention = AttentionParallelism::kContext;
  plan.gpus = 8;
  plan.attention_degree = 4;
  plan.context_degree = 2;
  expect_broken("one context degree", "use attention_degree=8 with cp=1");
  plan.context_degree = 1;
  plan.seq_len = 4100;  // divides by 4, not by 8
  plan.global_batch = 2;
  expect_broken("seq_len % (2 * cp)", "sequence length 4100 is not a multiple of 2*CP=8 (4100 = 8*512 + 4); use 4096");
}

// CP2 x TP8: multiples of 2 * lcm(2, 8) = 16.
TEST_F(PlanRules, SequenceSplitsOverTensorAndContextRanks) {
  plan.gpus = 16;
  plan.attention_degree = 8;
  plan.context_degree = 2;
  plan.seq_len = 4104;
  expect_broken("seq_len % attention ranks",
                "4104 is not a multiple of TP*CP=16 (4104 = 16*256 + 8); use 4096 or 4112");
  plan.seq_len = 4112;
  expect_valid();
}

TEST_F(PlanRules, MegatronSlicesUlyssesSequencesTwice) {
  plan.attention = AttentionParallelism::kSequence;
  plan.gpus = plan.attention_degree = 8;
  plan.seq_len = 4104;  // 8 * 513
  expect_valid();
  expect_broken("seq_len % (2 * sp)", "4104 is not a multiple of 16", Target::kMegatron);
}

TEST_F(PlanRules, Schedules) {
  plan.gpus = 4;
  plan.pp = 4;
  plan.vpp = 2;
  plan.global_batch = 8;
  expect_broken("schedule and vpp", "schedule=1f1b runs one chunk a stage, not VPP=2");
  plan.schedule = PipelineSchedule::kInterleaved;
  expect_valid();
  plan.vpp = 1;
  expect_broken("schedule and vpp", "needs more than VPP=1");
  plan.vpp = 2;
  plan.global_batch = 3;
  expect_broken("interleaved needs micro-batches >= pp",
                "at least PP=4 micro-batches, and global_batch=3 / (micro_batch=1 x DP=1) = 3; use global_batch=4");
  plan.global_batch = 6;
  expect_valid();
  expect_broken("interleaved needs micro-batches % pp", "6 micro-batches are not a multiple of PP=4 (6 = 4*1 + 2)",
                Target::kMegatron);
  plan.gpus = 1;
  plan.pp = 1;
  expect_broken("interleaved needs pp > 1", "more than PP=1 stage");
  plan.gpus = plan.pp = 2;
  plan.overlap_p2p = false;
  expect_valid();
  expect_broken("interleaved pp = 2 needs overlap_p2p", "overlap_p2p=on", Target::kMegatron);
}

TEST_F(PlanRules, SchedulesThatPartTheBackward) {
  plan.gpus = plan.pp = 4;
  plan.global_batch = 8;
  plan.schedule = PipelineSchedule::kZbH1;
  expect_valid();
  expect_broken("schedule of Megatron", "Megatron has no schedule=zb_h1; use schedule=1f1b", Target::kMegatron);
  expect_broken("schedule of torchtitan", "torchtitan has no schedule=zb_h1; use schedule=1f1b", Target::kTorchtitan);
  plan.vpp = 2;
  expect_broken("schedule and vpp", "schedule=zb_h1 runs one chunk a stage, not VPP=2");
  plan.schedule = PipelineSchedule::kZbV;
  expect_valid();
  expect_valid(Target::kTorchtitan);
  plan.vpp = 1;
  expect_broken("schedule and vpp", "schedule=zb_v runs two chunks a stage, not VPP=1; use VPP=2");
  plan.schedule = PipelineSchedule::kDualPipe;
  expect_valid();
  plan.global_batch = 9;
  expect_broken("dualpipe needs even micro-batches >= 2 * pp", "= 9; use global_batch=10");
  plan.global_batch = 6;
  expect_broken("dualpipe needs even micro-batches >= 2 * pp", "at least 2 x PP=8");
  plan.gpus = plan.pp = 3;
  plan.global_batch = 8;
  expect_broken("dualpipe needs an even pp", "PP=3 is odd; use PP=2 or PP=4");
  plan.gpus = plan.pp = 1;
  plan.schedule = PipelineSchedule::kZbH1;
  expect_broken("parted backward needs pp > 1", "schedule=zb_h1 needs more than PP=1 stage");
}

TEST_F(PlanRules, MergedPasses) {
  plan.gpus = plan.pp = 2;
  plan.global_batch = 8;
  plan.delay_weight_gradients = true;
  expect_broken("delay_weight_gradients needs merged passes", "use merge_passes=on or schedule=dualpipe");
  plan.merge_passes = true;
  plan.in_layer_overlap = InLayerOverlap::kInterOperator;
  expect_broken("merge_passes and schedule", "not schedule=1f1b with PP=2; use schedule=interleaved with VPP=2");
  plan.schedule = PipelineSchedule::kInterleaved;
  plan.vpp = 2;
  expect_valid();
  expect_broken("schedule of torchtitan", "use merge_passes=off", Target::kTorchtitan);
  plan.in_layer_overlap = InLayerOverlap::kNone;
  expect_broken("merge_passes needs overlap", "use overlap=inter");
  plan.in_layer_overlap = InLayerOverlap::kInterOperator;
  plan.schedule = PipelineSchedule::kDualPipe;
  plan.vpp = 1;
  expect_broken("merge_passes and schedule", "merges its passes by itself; use merge_passes=off");
  plan.merge_passes = false;
  expect_valid();
  plan.schedule = PipelineSchedule::k1F1B;
  plan.merge_passes = true;
  plan.gpus = plan.pp = 1;
  expect_valid();
}

TEST_F(PlanRules, VirtualStagesNeedLayers) {
  plan.gpus = plan.pp = 4;
  plan.vpp = 3;
  plan.schedule = PipelineSchedule::kInterleaved;
  plan.global_batch = 4;
  expect_broken("layers >= virtual stages", "PP=4 x VPP=3 = 12 virtual stages are more than 8 layers; use VPP=2");
  plan.layout = {1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0};
  expect_valid();
}

TEST_F(PlanRules, Layouts) {
  plan.gpus = plan.pp = 2;
  plan.layout = {3, 5};
  expect_valid();
  expect_valid(Target::kMegatron);
  plan.layout = {3, 4};
  expect_broken("layout sum", "the layout holds 7 layers, and the model has 8; use 1 more");
  plan.layout = {2, 2, 2, 2};
  expect_broken("layout entries", "the layout has 4 virtual stages, and PP=2 x VPP=1 = 2; use VPP=2");
  plan.layout = {4, 2, 2};
  expect_broken("layout entries", "use 2 virtual stages");
  plan.layout = {9, -1};
  expect_broken("layout in range", "-1 layers");
}

TEST_F(PlanRules, WireFormatsAndHardware) {
  plan.grad_wire = WireFormat::kFp8;
  expect_broken("grad_wire", "grad_wire=fp32 or grad_wire=bf16");
  plan.grad_wire = WireFormat::kBf16;
  plan.act_wire = WireFormat::kFp32;
  expect_broken("act_wire", "act_wire=bf16 or act_wire=fp8");
  plan.act_wire = WireFormat::kFp8;
  expect_valid();
  cluster.gpu.fp8_peak = {};
  cluster.gpu.name = "A100";
  expect_broken("fp8 on this GPU", "A100 has no FP8");
  plan.act_wire = WireFormat::kBf16;
  plan.communication_sms = 132;
  expect_broken("communication_sms", "communication_sms=132 leaves none of 132 SMs to compute; use 0 to 131");
}

TEST_F(PlanRules, Fp32) {
  plan.precision = Precision::kFp32;
  cluster.gpu.name = "EPYC core";
  expect_broken("precision on this GPU", "precision=fp32 needs a device with fp32_peak");
  cluster.gpu.fp32_peak = {78e9};
  for (const WireFormat wire : {WireFormat::kFp32, WireFormat::kBf16, WireFormat::kFp8}) {
    plan.act_wire = wire;
    expect_valid();
  }
  // A CPU quantizes for the wire, whatever else it lacks.
  cluster.gpu.bf16_peak = cluster.gpu.fp8_peak = {};
  expect_valid();
  plan.act_wire = WireFormat::kBf16;
  plan.precision = Precision::kBf16;
  expect_broken("precision on this GPU", "EPYC core has no bf16_peak; use precision=fp32");
  // Beside FP8 products there is attention, in bf16.
  plan.precision = Precision::kFp8;
  cluster.gpu.fp8_peak = {1979e12};
  expect_broken("precision on this GPU", "EPYC core has no bf16_peak");
  // One core has no SM to give away.
  plan.precision = Precision::kFp32;
  cluster.gpu.sms = 1;
  expect_broken("communication_sms", "use 0 to 0");
  plan.communication_sms = 0;
  expect_valid();
}

TEST_F(PlanRules, MegatronExpertOverlap) {
  plan.gpus = plan.global_batch = 16;
  plan.ep = 8;
  plan.pp = 2;
  plan.in_layer_overlap = InLayerOverlap::kInterOperator;
  plan.dispatch = Dispatch::kAllGather;
  plan.recompute = kRecomputeFull;
  model.predict_layers = 2;
  expect_broken("EP overlap",
                "only with no full recomputation, dispatch=a2a or deepep, one prediction layer, not 2, VPP above 1 "
                "with PP=2; use",
                Target::kMegatron);
  expect_valid();
}

TEST_F(PlanRules, NumbersOutOfRangeAreReportedAlone) {
  plan.gpus = 0;
  plan.attention_degree = std::numeric_limits<std::int64_t>::max();
  plan.zero = 7;
  plan.grad_bytes = 3;
  plan.software.kernel_time_scale = std::numeric_limits<double>::quiet_NaN();
  const std::vector<Violation> violations = check_plan(model, cluster, plan);
  ASSERT_EQ(violations.size(), 5u) << all_messages(violations);
  EXPECT_EQ(violations[0].message, "gpus=0 is out of range; use 1 to 1000000");
  EXPECT_EQ(violations[1].rule, "attention_degree in range");
  EXPECT_EQ(violations[2].message, "grad_bytes=3 is not allowed; use 4, 2");
  EXPECT_EQ(violations[3].message, "zero=7 is out of range; use 0 to 3");
  EXPECT_FALSE(is_valid(model, cluster, plan));
}

TEST_F(PlanRules, RequireValidNamesTheFirst) {
  plan.gpus = plan.global_batch = 12;
  plan.ep = 12;
  try {
    require_valid(model, cluster, plan, "p.json");
    ADD_FAILURE();
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(),
                 "p.json: experts % ep: EP=12 does not divide 32 experts (32 = 12*2 + 8); use EP=8 or EP=16");
  }
  plan.ep = 4;
  EXPECT_NO_THROW(require_valid(model, cluster, plan, "p.json"));
}

// Two models and many plans: small ones of which a good part is valid, and ones with wild numbers.
class RandomPlans {
 public:
  Plan next() {
    Plan plan;
    plan.attention = static_cast<AttentionParallelism>(below(3));
    plan.attention_degree = power(4);
    plan.context_degree = power(2);
    plan.ep = power(4);
    plan.etp = power(2);
    plan.pp = 1 + below(6);
    plan.vpp = 1 + below(3);
    plan.schedule = plan.vpp > 1 ? PipelineSchedule::kInterleaved : PipelineSchedule::k1F1B;
    plan.gpus = plan.attention_degree * plan.context_degree * plan.pp * power(4);
    plan.micro_batch = 1 + below(2);
    plan.global_batch = plan.gpus * (1 + below(8));
    plan.seq_len = 1024 * (1 + below(8));
    plan.zero = static_cast<int>(below(4));
    plan.recompute = below(2) == 0 ? kRecomputeNone : kRecomputeFull;
    plan.in_layer_overlap = static_cast<InLayerOverlap>(below(3));
    plan.act_wire = below(8) == 0 ? WireFormat::kFp32 : WireFormat::kBf16;
    if (below(4) == 0)
      for (std::int64_t stage = 0; stage < plan.virtual_stages(); ++stage) plan.layout.push_back(below(4));
    if (below(3) == 0) make_wild(plan);
    return plan;
  }

 private:
  std::int64_t below(std::int64_t bound) { return static_cast<std::int64_t>(random_() % static_cast<unsigned>(bound)); }
  std::int64_t power(std::int64_t most) { return std::int64_t{1} << below(most + 1); }

  std::int64_t wild_number() {
    constexpr std::int64_t kWild[] = {0,
                                      -1,
                                      3,
                                      1'000'000,
                                      999'983,
                                      1'000'001,
                                      1'000'000'000,
                                      std::int64_t{1} << 62,
                                      std::numeric_limits<std::int64_t>::max(),
                                      std::numeric_limits<std::int64_t>::min()};
    return kWild[below(std::size(kWild))];
  }
  void make_wild(Plan& plan) {
    constexpr std::int64_t Plan::*kMembers[] = {&Plan::gpus,
                                                &Plan::global_batch,
                                                &Plan::seq_len,
                                                &Plan::micro_batch,
                                                &Plan::attention_degree,
                                                &Plan::context_degree,
                                                &Plan::ep,
                                                &Plan::etp,
                                                &Plan::pp,
                                                &Plan::vpp,
                                                &Plan::communication_sms};
    for (std::int64_t count = 1 + below(4); count > 0; --count)
      plan.*kMembers[below(std::size(kMembers))] = wild_number();
    if (below(4) == 0) plan.layout.push_back(wild_number());
    if (below(8) == 0) plan.zero = static_cast<int>(below(100)) - 50;
    if (below(8) == 0) plan.moment_bytes = -0.5;
    if (below(8) == 0) plan.software.kernel_time_scale = std::numeric_limits<double>::infinity();
  }

  std::mt19937 random_{20250511};
};

// What a valid plan means, said without the rules.
void expect_sound(const Model& model, const Plan& plan) {
  EXPECT_EQ(plan.attention_degree * plan.context_degree * plan.pp * plan.dp(), plan.gpus);
  EXPECT_EQ(plan.ep * plan.etp * plan.pp * plan.expert_dp(), plan.gpus);
  EXPECT_EQ(plan.micro_batches() * plan.micro_batch * plan.dp(), plan.global_batch);
  EXPECT_GE(plan.micro_batches(), 1);
  std::int64_t layers = 0;
  for (std::int64_t stage = 0; stage < plan.virtual_stages(); ++stage)
    layers += plan.layers_of(stage, model.num_layers());
  EXPECT_EQ(layers, model.num_layers());
  EXPECT_EQ(plan.seq_len % plan.attention_ranks(), 0);
  for (const LayerKind& kind : model.kinds) EXPECT_EQ(kind.feed_forward.experts % plan.ep, 0);
}

TEST(PlanRulesProperty, IsValidAgreesWithCheckPlan) {
  RandomPlans plans;
  const Model models[] = {sample_moe_model(12, 16, 4, 16), sample_dense_model(9, 16, 16)};
  const Cluster cluster = sample_cluster();
  int num_valid = 0;
  for (int round = 0; round < 20000; ++round) {
    const Model& model = models[round % 2];
    const Plan plan = plans.next();
    const std::vector<Violation> violations = check_plan(model, cluster, plan);
    ASSERT_EQ(is_valid(model, cluster, plan), violations.empty()) << all_messages(violations) << plan_to_json(plan);
    for (const Violation& violation : violations) {
      EXPECT_FALSE(violation.rule.empty());
      EXPECT_LT(violation.message.size(), 400u) << violation.message;
      EXPECT_NE(violation.message.find("use "), std::string::npos) << violation.message;
    }
    if (!violations.empty()) continue;
    ++num_valid;
    expect_sound(model, plan);
    for (const Target target : {Target::kMegatron, Target::kTorchtitan}) check_plan(model, cluster, plan, target);
    plan_warnings(model, cluster, plan);
  }
  EXPECT_GT(num_valid, 500);
}

class PlanWarnings : public PlanRules {
 protected:
  // How many warnings hold this text.
  int count(const std::string& part) {
    const std::vector<std::string> warnings = plan_warnings(model, cluster, plan, Target::kMegatron);
    return static_cast<int>(std::count_if(warnings.begin(), warnings.end(), [&](const std::string& warning) {
      return warning.find(part) != std::string::npos;
    }));
  }
};

TEST_F(PlanWarnings, NoneForOneGpu) { EXPECT_TRUE(plan_warnings(model, cluster, plan).empty()); }

TEST_F(PlanWarnings, NoneForInvalidPlans) {
  plan.gpus = 0;
  EXPECT_TRUE(plan_warnings(model, cluster, plan).empty());
}

TEST_F(PlanWarnings, GroupsAcrossNodes) {
  plan.gpus = plan.global_batch = 16;
  plan.ep = 8;
  EXPECT_EQ(count("spans"), 0);
  plan.ep = 16;
  EXPECT_EQ(count("EP=16 x ETP=1 spans 2 nodes of 8 GPUs"), 1);
  plan.attention_degree = 16;
  plan.global_batch = 1;
  EXPECT_EQ(count("the attention group of 16 ranks spans 2 nodes"), 1);
  plan = sample_plan();
  plan.gpus = plan.global_batch = 12;
  EXPECT_EQ(count("12 GPUs leave a node of 8 partly used; 8 or 16 fill theirs"), 1);
}

// 2048 / 4 = 512 columns.
TEST_F(PlanWarnings, NarrowExperts) {
  plan.gpus = plan.global_batch = 8;
  plan.etp = 2;
  EXPECT_EQ(count("too narrow"), 0);
  plan.etp = 4;
  EXPECT_EQ(count("ETP=4 cuts experts 2048 wide to 512 columns"), 1);
}

TEST_F(PlanWarnings, PipelineAndSharding) {
  plan.gpus = plan.pp = 4;
  plan.global_batch = 2;
  EXPECT_EQ(count("2 micro-batches on PP=4 stages"), 1);
  plan.global_batch = 4;
  EXPECT_EQ(count("micro-batches on"), 0);
  plan.zero = 2;
  EXPECT_EQ(count("ZeRO-2 with PP=4"), 1);
  plan.zero = 1;
  EXPECT_EQ(count("ZeRO"), 0);
}

TEST_F(PlanWarnings, VocabularyPadding) {
  model.vocab = 50257;  // 50257 / (128 * 2) = 196.3, so 197 * 256 = 50432
  plan.gpus = plan.attention_degree = 2;
  EXPECT_EQ(count("pads the vocabulary of 50257 to 50432, a multiple of 256"), 1);
}

TEST_F(PlanWarnings, Fp8OnTheWireAlone) {
  plan.act_wire = WireFormat::kFp8;
  EXPECT_EQ(count("act_wire=fp8 with precision=bf16"), 1);
  plan.precision = Precision::kFp8;
  EXPECT_EQ(count("act_wire"), 0);
}

TEST_F(PlanWarnings, Fp32WeightsBesideMasters) {
  cluster.gpu.fp32_peak = {67e12};
  plan.precision = Precision::kFp32;
  EXPECT_EQ(count("master_bytes=4 with precision=fp32 keeps every weight twice"), 1);
  EXPECT_EQ(count("act_wire"), 0);
  plan.master_bytes = 0;
  plan.act_wire = WireFormat::kFp8;
  EXPECT_EQ(count("master_bytes"), 0);
  EXPECT_EQ(count("act_wire=fp8 with precision=fp32"), 1);
}

TEST_F(PlanWarnings, LongerThanTheModelStates) {
  model.max_seq_len = 2048;
  EXPECT_EQ(count("4096 is beyond the 2048"), 1);
}

}  // namespace
}  // namespace msmoe
