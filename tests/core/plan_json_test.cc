#include <gtest/gtest.h>

#include <random>

#include "core/data_files.h"
#include "core/error.h"
#include "core/plan.h"
#include "core/text_file.h"
#include "tests/core/mutations.h"
#include "tests/core/plan_samples.h"

namespace msmoe {
namespace {

constexpr const char* kSmallest = R"({"schema_version": 1, "model": "m", "cluster": "c", "gpus": 8,
                                      "global_batch": 16, "seq_len": 4096 EXTRA})";

std::string smallest_with(const std::string& extra) {
  std::string text = kSmallest;
  return text.replace(text.find("EXTRA"), 5, extra.empty() ? "" : ", " + extra);
}

UserError refusal(const std::string& text) {
  try {
    parse_plan("p.json", text);
  } catch (const UserError& error) {
    return error;
  }
  ADD_FAILURE() << text << " was taken";
  return {"", "", ""};
}

TEST(PlanJson, MissingOptionalFieldsTakeTheDefaultsOfPlan) {
  Plan expected;
  expected.model = "m";
  expected.cluster = "c";
  expected.gpus = 8;
  expected.global_batch = 16;
  expected.seq_len = 4096;
  EXPECT_EQ(parse_plan("p.json", smallest_with("")), expected);
}

TEST(PlanJson, EveryFieldIsRead) {
  const Plan plan = parse_plan("p.json", R"({
    "schema_version": 1, "notes": "why", "model": "m", "cluster": "c",
    "gpus": 96, "global_batch": 48, "seq_len": 8192, "micro_batch": 2,
    "attention": {"parallelism": "sp", "degree": 4, "cp": 2},
    "ffn": {"parallelism": "etp", "ep": 2, "etp": 3, "dispatch": "ag_rs"},
    "pipeline": {"pp": 3, "vpp": 2, "schedule": "interleaved", "layout": [1, 2, 3, 3, 2, 1]},
    "optimizer": {"zero": 2, "offload": true, "grad_bytes": 2, "moment_bytes": 1, "master_bytes": 0},
    "recompute": ["norm", "attention"],
    "overlap": {"in_layer": "none", "grad_reduce": false, "param_gather": false, "p2p": false,
                "communication_sms": 12, "launch_queues": 1, "cuda_graphs": true},
    "wire": {"gradients": "fp32", "activations": "fp8"},
    "precision": "fp8", "loss": "full",
    "software": {"name": "ours", "kernel_time_scale": 1.25, "attention_time_scale": 1.8, "memory_time_scale": 1.3,
                 "routing_seconds": 3e-4, "source": "measured"}})");
  Plan expected;
  expected.notes = "why";
  expected.model = "m";
  expected.cluster = "c";
  expected.gpus = 96;
  expected.global_batch = 48;
  expected.seq_len = 8192;
  expected.micro_batch = 2;
  expected.attention = AttentionParallelism::kSequence;
  expected.attention_degree = 4;
  expected.context_degree = 2;
  expected.ep = 2;
  expected.etp = 3;
  expected.dispatch = Dispatch::kAllGather;
  expected.pp = 3;
  expected.vpp = 2;
  expected.schedule = PipelineSchedule::kInterleaved;
  expected.layout = {1, 2, 3, 3, 2, 1};
  expected.zero = 2;
  expected.optimizer_offload = true;
  expected.grad_bytes = 2;
  expected.moment_bytes = 1;
  expected.master_bytes = 0;
  expected.recompute = Recompute::kNorm | Recompute::kAttention;
  expected.in_layer_overlap = InLayerOverlap::kNone;
  expected.overlap_grad_reduce = expected.overlap_param_gather = expected.overlap_p2p = false;
  expected.communication_sms = 12;
  expected.grad_wire = WireFormat::kFp32;
  expected.act_wire = WireFormat::kFp8;
  expected.precision = Precision::kFp8;
  expected.loss = LossKind::kFull;
  expected.launch_queues = 1;
  expected.cuda_graphs = true;
  expected.software = {"ours", 1.25, 1.8, 1.3, 3e-4, "measured"};
  EXPECT_EQ(plan, expected);
  EXPECT_EQ(parse_plan("again", plan_to_json(plan)), plan);
}

// Where a file says fp32 and no more, nothing is rounded and no master lies beside a weight; what it says counts.
TEST(PlanJson, Fp32HasItsOwnDefaults) {
  const Plan plan = parse_plan("p.json", smallest_with(R"("precision": "fp32")"));
  EXPECT_EQ(plan.precision, Precision::kFp32);
  EXPECT_EQ(plan.act_wire, WireFormat::kFp32);
  EXPECT_EQ(plan.grad_wire, WireFormat::kFp32);
  EXPECT_EQ(plan.master_bytes, 0);
  EXPECT_EQ(plan.grad_bytes, 4);
  EXPECT_EQ(parse_plan("again", plan_to_json(plan)), plan);

  const Plan stated =
      parse_plan("p.json", smallest_with(R"("wire": {"activations": "fp8", "gradients": "bf16"}, "precision": "fp32",
                                 "optimizer": {"master_bytes": 2})"));
  EXPECT_EQ(stated.act_wire, WireFormat::kFp8);
  EXPECT_EQ(stated.grad_wire, WireFormat::kBf16);
  EXPECT_EQ(stated.master_bytes, 2);
  EXPECT_EQ(parse_plan("again", plan_to_json(stated)), stated);
  EXPECT_EQ(parse_plan("p.json", smallest_with(R"("precision": "fp8")")).act_wire, WireFormat::kBf16);
}

TEST(PlanJson, SetsOfRecomputationHaveNames) {
  const auto recompute = [](const std::string& json) {
    return parse_plan("p.json", smallest_with("\"recompute\": " + json)).recompute;
  };
  EXPECT_EQ(recompute("\"none\""), kRecomputeNone);
  EXPECT_EQ(recompute("\"selective\""), kRecomputeSelective);
  EXPECT_EQ(recompute("\"full\""), kRecomputeFull);
  EXPECT_EQ(recompute("[]"), kRecomputeNone);
  EXPECT_EQ(recompute(R"(["norm", "activation", "dispatch", "attention_out"])"), kRecomputeSelective);
  Plan plan;
  plan.recompute = kRecomputeSelective;
  EXPECT_NE(plan_to_json(plan).find("\"recompute\": \"selective\""), std::string::npos);
}

TEST(PlanJson, LayoutMayBeMegatronsText) {
  const Plan plan = parse_plan("p.json", smallest_with(R"("pipeline": {"pp": 3, "layout": "Et|(tt|)*1L"})"));
  EXPECT_EQ(plan.layout, (std::vector<std::int64_t>{1, 2, 0}));
}

TEST(PlanJson, UnknownKeysAreRefusedWithTheNearestKnownOne) {
  const UserError top = refusal(smallest_with("\"mico_batch\": 2"));
  EXPECT_EQ(top.file(), "p.json");
  EXPECT_EQ(top.place(), "mico_batch");
  EXPECT_NE(std::string(top.what()).find("micro_batch"), std::string::npos) << top.what();
  const UserError nested = refusal(smallest_with(R"("attention": {"degre": 2})"));
  EXPECT_EQ(nested.place(), "attention.degre");
  EXPECT_NE(std::string(nested.what()).find("degree"), std::string::npos) << nested.what();
}

TEST(PlanJson, BadValuesAreRefusedWithTheirPlaceAndWhatIsAllowed) {
  const struct {
    const char* extra;
    const char* place;
    const char* hint;
  } cases[] = {
      {R"("attention": {"parallelism": "dp"})", "attention.parallelism", "tp, sp, cp"},
      {R"("attention": {"degree": 0})", "attention.degree", "1"},
      {R"("attention": {"degree": "8"})", "attention.degree", "integer"},
      {R"("attention": {"degree": 1000001})", "attention.degree", "1000000"},
      {R"("ffn": {"parallelism": "tp", "ep": 8})", "ffn.parallelism", "these make \"ep\""},
      {R"("pipeline": {"layout": [4, -1]})", "pipeline.layout", ""},
      {R"("pipeline": {"layout": "t|tL"})", "pipeline.layout", "Et|(tt|)*30L"},
      {R"("optimizer": {"zero": 4})", "optimizer.zero", "3"},
      {R"("optimizer": {"grad_bytes": 3})", "optimizer.grad_bytes", "allowed: 4, 2"},
      {R"("recompute": "some")", "recompute", "none, selective, full"},
      {R"("recompute": ["norms"])", "recompute", "norm, activation"},
      {R"("wire": {"gradients": "fp8"})", "wire.gradients", "fp32, bf16"},
      {R"("software": "nemo")", "software", "megatron-lm"},
      {R"("software": {"name": "x", "kernel_time_scale": 0})", "software.kernel_time_scale", "0.001"},
      {R"("precision": 16)", "precision", ""},
  };
  for (const auto& bad : cases) {
    const UserError error = refusal(smallest_with(bad.extra));
    EXPECT_TRUE(error.place().starts_with(bad.place)) << error.what();
    EXPECT_NE(std::string(error.what()).find(bad.hint), std::string::npos) << error.what();
  }
}

TEST(PlanJson, VersionsAndRequiredKeys) {
  EXPECT_EQ(refusal(R"({"schema_version": 2})").place(), "schema_version");
  EXPECT_NE(refusal(R"({"schema_version": 2})").message().find("is 2, and this msmoe reads 1"), std::string::npos);
  EXPECT_EQ(refusal("{}").place(), "schema_version");
  EXPECT_EQ(refusal(R"({"schema_version": 1, "model": "m", "cluster": "c"})").place(), "gpus");
}

TEST(PlanJson, ShippedPlansAreWrittenAsMsmoeWritesThem) {
  for (const std::string& name : shipped_names("plans")) {
    const std::string path = find_data_file("plans", name);
    EXPECT_EQ(plan_to_json(read_plan(path)), read_text_file(path)) << name;
  }
}

// Every field set at random, one after the other, by the values that its own description allows.
TEST(PlanJson, RoundTripIsExactForRandomPlans) {
  std::mt19937 random(7);
  const auto pick = [&](std::initializer_list<const char*> values) {
    return std::string(values.begin()[random() % values.size()]);
  };
  for (int round = 0; round < 500; ++round) {
    Plan plan;
    plan.model = pick({"megascale-352b", "a \"quoted\" name", "caf\xc3\xa9/config.json", ""});
    plan.notes = pick({"", "two\nlines", "tab\there"});
    for (const char* field : {"gpus", "global_batch", "seq_len", "micro_batch", "attention_degree", "cp", "ep", "etp",
                              "pp", "vpp", "communication_sms"})
      set_plan_field(plan, field, pick({"1", "2", "7", "96", "512", "1000"}));
    set_plan_field(plan, "attention", pick({"tp", "sp", "cp"}));
    set_plan_field(plan, "dispatch", pick({"a2a", "ag_rs"}));
    set_plan_field(plan, "schedule", pick({"1f1b", "interleaved", "zb_h1", "zb_v", "dualpipe"}));
    set_plan_field(plan, "layout", pick({"even", "4/4/3", "Et|(tt|)*30L"}));
    set_plan_field(plan, "zero", pick({"0", "1", "2", "3"}));
    set_plan_field(plan, "recompute", pick({"none", "selective", "full", "norm", "norm+expert", "up_projection"}));
    set_plan_field(plan, "overlap", pick({"none", "inter", "intra"}));
    for (const char* field : {"overlap_grad_reduce", "overlap_param_gather", "overlap_p2p", "optimizer_offload",
                              "merge_passes", "delay_weight_gradients"})
      set_plan_field(plan, field, pick({"on", "off"}));
    set_plan_field(plan, "grad_wire", pick({"fp32", "bf16"}));
    set_plan_field(plan, "act_wire", pick({"bf16", "fp8"}));
    set_plan_field(plan, "precision", pick({"bf16", "fp8"}));
    set_plan_field(plan, "loss", pick({"full", "chunked"}));
    set_plan_field(plan, "grad_bytes", pick({"2", "4"}));
    set_plan_field(plan, "moment_bytes", pick({"1", "2", "4"}));
    set_plan_field(plan, "master_bytes", pick({"0", "2", "4"}));
    set_plan_field(plan, "software", pick({"megascale-moe", "megatron-lm", "kernels"}));
    if (round % 3 == 0) plan.software.kernel_time_scale = 0.1 + 1e-3 * static_cast<double>(random() % 1000);
    const std::string text = plan_to_json(plan);
    const Plan read = parse_plan("p.json", text);
    ASSERT_EQ(read, plan) << text;
    ASSERT_EQ(plan_to_json(read), text);
  }
}

TEST(PlanJson, SurvivesMutationsOfTheShippedPlans) {
  for (const std::string& name : shipped_names("plans")) {
    const Survival survival =
        expect_survives(read_text_file(find_data_file("plans", name)), [](const std::string& text) {
          const Plan plan = parse_plan("mutant", text);
          EXPECT_EQ(parse_plan("again", plan_to_json(plan)), plan);
          check_plan(sample_moe_model(8, 32, 8, 32), sample_cluster(), plan);
        });
    EXPECT_GT(survival.accepted, 10) << name;
    EXPECT_GT(survival.refused, 1000) << name;
  }
}

}  // namespace
}  // namespace msmoe
