#include <gtest/gtest.h>

#include "core/error.h"
#include "core/plan.h"
#include "core/text_file.h"
#include "tests/core/plan_samples.h"

namespace msmoe {
namespace {

UserError refusal(const std::string& key, const std::string& value, Plan plan = {}) {
  try {
    set_plan_field(plan, key, value);
  } catch (const UserError& error) {
    return error;
  }
  ADD_FAILURE() << key << "=" << value << " was taken";
  return {"", "", ""};
}

// One value of every field, none of them the default.
TEST(PlanFields, EveryFieldIsSetAndReadBack) {
  const std::vector<std::pair<std::string, std::string>> values = {{"attention", "sp"},
                                                                   {"attention_degree", "8"},
                                                                   {"cp", "2"},
                                                                   {"ffn", "ep"},
                                                                   {"ep", "4"},
                                                                   {"etp", "2"},
                                                                   {"dispatch", "ag_rs"},
                                                                   {"capacity", "1.25"},
                                                                   {"pp", "15"},
                                                                   {"vpp", "2"},
                                                                   {"schedule", "interleaved"},
                                                                   {"merge_passes", "on"},
                                                                   {"delay_weight_gradients", "on"},
                                                                   {"layout", "4/4/3"},
                                                                   {"dp", "12"},
                                                                   {"gpus", "1440"},
                                                                   {"global_batch", "720"},
                                                                   {"seq_len", "131072"},
                                                                   {"zero", "2"},
                                                                   {"micro_batch", "3"},
                                                                   {"recompute", "norm+activation"},
                                                                   {"overlap", "intra"},
                                                                   {"overlap_grad_reduce", "off"},
                                                                   {"overlap_param_gather", "off"},
                                                                   {"overlap_p2p", "off"},
                                                                   {"communication_sms", "12"},
                                                                   {"launch_queues", "1"},
                                                                   {"cuda_graphs", "on"},
                                                                   {"grad_wire", "fp32"},
                                                                   {"act_wire", "fp8"},
                                                                   {"precision", "fp8"},
                                                                   {"loss", "full"},
                                                                   {"optimizer_offload", "on"},
                                                                   {"grad_bytes", "2"},
                                                                   {"moment_bytes", "2"},
                                                                   {"master_bytes", "0"},
                                                                   {"software", "megatron-lm"}};
  std::vector<std::string> names;
  for (const auto& [key, value] : values) {
    Plan plan;
    set_plan_field(plan, key, value);
    EXPECT_EQ(plan_field(plan, key), value) << key;
    names.push_back(key);
  }
  EXPECT_EQ(plan_field_names(), names);
}

TEST(PlanFields, WhatIsReadCanBeSetAgain) {
  for (const char* name : {"megascale-moe-352b", "megatron-lm-352b", "deepseek-v3-2048"}) {
    const Plan plan = find_plan(name);
    Plan copy = plan;
    for (const std::string& key : plan_field_names()) set_plan_field(copy, key, plan_field(plan, key));
    EXPECT_EQ(copy, plan);
  }
}

TEST(PlanFields, SequenceLengthsAreBinaryThousands) {
  Plan plan;
  set_plan_field(plan, "seq_len", "128k");
  EXPECT_EQ(plan.seq_len, 131072);
}

// 12 replicas of 8 x 15 ranks; the batch stays.
TEST(PlanFields, ReplicasSetTheGpus) {
  Plan plan = find_plan("megascale-moe-352b");
  set_plan_field(plan, "dp", "6");
  EXPECT_EQ(plan.gpus, 720);
  EXPECT_EQ(plan.global_batch, 720);
  EXPECT_NE(refusal("dp", "100000", plan).message().find("100000 replicas of 120 ranks"), std::string::npos);
  EXPECT_NE(refusal("dp", "0", plan).message().find("'0' is not allowed"), std::string::npos);
}

TEST(PlanFields, FeedForwardMovesTheWholeDegree) {
  Plan plan;
  plan.ep = 4;
  plan.etp = 2;
  EXPECT_EQ(plan_field(plan, "ffn"), "etp");
  set_plan_field(plan, "ffn", "tp");
  EXPECT_EQ(plan.ep, 1);
  EXPECT_EQ(plan.etp, 8);
  EXPECT_EQ(plan_field(plan, "ffn"), "tp");
  EXPECT_NE(refusal("ffn", "etp", plan).message().find("ep=1 etp=8"), std::string::npos);
  set_plan_field(plan, "ffn", "ep");
  EXPECT_EQ(plan.ep, 8);
  EXPECT_EQ(plan.etp, 1);
}

TEST(PlanFields, NamedSetsAndSumsOfRecomputation) {
  Plan plan;
  set_plan_field(plan, "recompute", "norm+activation+dispatch+attention_out");
  EXPECT_EQ(plan.recompute, kRecomputeSelective);
  EXPECT_EQ(plan_field(plan, "recompute"), "selective");
  for (const char* bad : {"", "norm+", "+norm", "norm,expert", "selective+expert"})
    EXPECT_NE(refusal("recompute", bad).hint().find("attention_out"), std::string::npos) << bad;
}

TEST(PlanFields, LayoutsOfBothForms) {
  Plan plan;
  set_plan_field(plan, "layout", "4,4,3");
  EXPECT_EQ(plan.layout, (std::vector<std::int64_t>{4, 4, 3}));
  set_plan_field(plan, "layout", "Et|tL");
  EXPECT_EQ(plan_field(plan, "layout"), "1/1");
  set_plan_field(plan, "layout", "even");
  EXPECT_TRUE(plan.layout.empty());
}

TEST(PlanFields, UnknownKeysNameTheNearest) {
  EXPECT_EQ(refusal("micro_bach", "1").hint(), "did you mean 'micro_batch'?");
  EXPECT_EQ(refusal("micro_bach", "1").place(), "micro_bach");
  EXPECT_NE(refusal("colour", "red").hint().find("attention_degree"), std::string::npos);
}

TEST(PlanFields, BadValuesNameWhatIsAllowed) {
  EXPECT_EQ(refusal("attention", "dp").hint(), "allowed: tp|sp|cp");
  EXPECT_EQ(refusal("attention", "dp").place(), "attention");
  EXPECT_EQ(refusal("pp", "0").hint(), "allowed: 1 to 1000000");
  EXPECT_EQ(refusal("pp", "2M").hint(), "allowed: 1 to 1000000");
  EXPECT_EQ(refusal("zero", "4").hint(), "allowed: 0, 1, 2, 3");
  EXPECT_EQ(refusal("zero", "").hint(), "allowed: 0, 1, 2, 3");
  EXPECT_EQ(refusal("overlap_p2p", "yes").hint(), "allowed: on|off");
  EXPECT_EQ(refusal("moment_bytes", "3").hint(), "allowed: 4, 2, 1");
  for (const char* bad : {"", "x", "1.5", "-1", "1e99", "nan", "999999999999999999999"})
    EXPECT_EQ(refusal("gpus", bad).place(), "gpus") << bad;
}

// A refused value leaves the plan as it was.
TEST(PlanFields, RefusalChangesNothing) {
  const Plan before = find_plan("megascale-moe-352b");
  for (const std::string& key : plan_field_names()) {
    Plan plan = before;
    EXPECT_THROW(set_plan_field(plan, key, "no such value"), UserError) << key;
    EXPECT_EQ(plan, before) << key;
  }
}

TEST(PlanFields, DocumentedAndHelped) {
  const std::string documentation = read_text_file(MSMOE_SOURCE_DIR "/docs/plan.md");
  for (const std::string& key : plan_field_names()) {
    EXPECT_NE(documentation.find("`" + key + "`"), std::string::npos) << key << " is missing in docs/plan.md";
    EXPECT_NE(plan_fields_help().find("  " + key + " "), std::string::npos) << key;
  }
}

}  // namespace
}  // namespace msmoe
