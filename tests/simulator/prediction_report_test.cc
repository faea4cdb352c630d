#include "simulator/prediction_report.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "simulator/what_if.h"

namespace msmoe::simulator {
namespace {

struct Case {
  Scenario scenario;
  Prediction prediction;
  nlohmann::ordered_json json() const { return to_json(prediction, scenario.model, scenario.cluster, 1e12); }
  std::string text() const { return to_text(prediction, scenario.model, scenario.cluster, 1e12, {}); }
};

Case predicted(const std::string& plan, const std::vector<Change>& changes = {}) {
  Scenario scenario = load_scenario(plan);
  apply_changes(scenario, changes);
  return {scenario, simulate(scenario)};
}

TEST(Report, JsonHasTheSharedNames) {
  const auto json = predicted("megascale-moe-352b").json();
  for (const char* name : {"schema_version", "version", "step_seconds", "tokens_per_second",
                           "tokens_per_second_per_gpu", "model_tflops_per_gpu", "mfu", "memory_bytes_per_gpu",
                           "exposed_communication_seconds", "bubble_seconds", "step_seconds_low", "step_seconds_high",
                           "evidence", "time_parts_seconds", "model", "cluster", "plan", "warnings", "training"})
    EXPECT_TRUE(json.contains(name)) << name;
  for (const char* name : {"total", "parameters", "gradients", "optimizer", "activations", "communication", "workspace",
                           "reserved", "logits", "gathered_parameters", "slack", "resume_peak", "usable", "margin"})
    EXPECT_TRUE(json["memory_bytes_per_gpu"].contains(name)) << name;
  for (const char* name : {"tokens", "days", "gpu_hours", "usd", "goodput", "days_with_failures", "usd_with_failures",
                           "gpu_hours_with_failures", "energy_mwh", "energy_compute_share", "checkpoint_share"})
    EXPECT_TRUE(json["training"].contains(name)) << name;
  for (int part = 0; part < kNumTimeParts; ++part)
    EXPECT_TRUE(json["evidence"]["time"].contains(time_part_key(static_cast<TimePart>(part)))) << part;
  for (int row = 0; row < kNumMemoryRows; ++row)
    EXPECT_TRUE(json["evidence"]["memory"].contains(memory_row_key(static_cast<MemoryRow>(row)))) << row;
  for (const char* name : {"name", "parameters", "active_parameters", "flops_per_token", "defaulted"})
    EXPECT_TRUE(json["model"].contains(name)) << name;
  EXPECT_EQ(json["model"]["parameters"], 351'860'133'888);
  EXPECT_EQ(parse_plan("json", json["plan"].dump()), load_scenario("megascale-moe-352b").plan);
}

TEST(Report, RowsOfMemoryAddUpToTheTotal) {
  for (const char* plan : {"megascale-moe-352b", "megatron-lm-352b", "deepseek-v3-2048"}) {
    const auto memory = predicted(plan).json()["memory_bytes_per_gpu"];
    std::int64_t sum = 0;
    for (int row = 0; row < kNumMemoryRows; ++row)
      sum += memory[memory_row_key(static_cast<MemoryRow>(row))].get<std::int64_t>();
    EXPECT_EQ(memory["total"], sum) << plan;
  }
}

TEST(Report, PartsOfTimeAddUpToTheStep) {
  const auto json = predicted("megascale-moe-352b").json();
  double sum = 0;
  for (const auto& part : json["time_parts_seconds"]) sum += part.get<double>();
  EXPECT_NEAR(sum, json["step_seconds"].get<double>(), 1e-9);
  EXPECT_EQ(json["time_parts_seconds"]["bubble"], json["bubble_seconds"]);
}

TEST(Report, KeysAreDistinct) {
  std::set<std::string> keys;
  for (int part = 0; part < kNumTimeParts; ++part) keys.insert(time_part_key(static_cast<TimePart>(part)));
  EXPECT_EQ(keys.size(), static_cast<std::size_t>(kNumTimeParts));
  keys.clear();
  for (int row = 0; row < kNumMemoryRows; ++row) keys.insert(memory_row_key(static_cast<MemoryRow>(row)));
  EXPECT_EQ(keys.size(), static_cast<std::size_t>(kNumMemoryRows));
}

TEST(Report, WhatIsNotKnownIsNull) {
  Case one = predicted("megascale-moe-352b");
  one.scenario.cluster.failures_per_gpu_day.reset();
  one.scenario.cluster.gpu.watts = 0;
  const auto training = one.json()["training"];
  for (const char* name : {"goodput", "days_with_failures", "usd_with_failures", "energy_mwh"})
    EXPECT_TRUE(training[name].is_null()) << name;
  EXPECT_NE(one.text().find("not stated by the cluster"), std::string::npos) << one.text();
  one.scenario.cluster.failures_per_gpu_day = 1000;
  EXPECT_NE(one.text().find("with failures       never"), std::string::npos) << one.text();
}

TEST(Report, FitInWords) {
  MemoryReport memory;
  memory.usable = Bytes{80 * kGiB};
  memory.stages.resize(2);
  memory.worst_stage = 1;
  memory.stages[1][MemoryRow::kWeights] = Bytes{62.5 * kGiB};
  EXPECT_EQ(describe_fit(memory), "fits, 17.5 GiB to spare");
  memory.stages[1][MemoryRow::kActivations] = Bytes{20.6 * kGiB};
  EXPECT_EQ(describe_fit(memory), "does not fit: 3.1 GiB over on stage 1");
}

TEST(Report, TextSaysWhatItRestsOnAndLeavesZeroPartsOut) {
  const std::string text = predicted("megatron-lm-352b").text();
  for (const char* part :
       {"Where the time goes", "Where the memory goes", "fits, ", "kernel times: those of ", "megatron-lm", "1T tokens",
        "at $2 a GPU-hour", "with failures", "goodput", "MWh", "pipeline bubble", " (80 %: "})
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  EXPECT_EQ(text.find("parameter gather"), std::string::npos) << text;  // hidden beside the first forward passes
  EXPECT_EQ(text.find("gathered modules"), std::string::npos) << text;  // ZeRO-1 gathers none
}

TEST(Report, TextSaysWhatDoesNotFit) {
  const std::string text = predicted("megascale-moe-352b", {{"recompute", "none"}, {"memory", "40 GiB"}}).text();
  EXPECT_NE(text.find("does not fit: "), std::string::npos) << text;
}

// Offloaded states are on the host: 8 ranks a node.
TEST(Report, HostMemory) {
  const Case offloaded = predicted("megascale-moe-352b", {{"optimizer_offload", "on"}});
  const auto memory = offloaded.json()["memory_bytes_per_gpu"];
  EXPECT_EQ(memory["optimizer"], 0);
  Bytes largest;
  for (const StageMemory& stage : offloaded.prediction.memory.stages) largest = std::max(largest, stage.host);
  EXPECT_NEAR(memory["host_per_node"].get<double>(), 8 * largest.count, 1);
  EXPECT_NE(offloaded.text().find("host memory: "), std::string::npos);
}

}  // namespace
}  // namespace msmoe::simulator
