#include "simulator/grading.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>

#include "simulator/what_if.h"

namespace msmoe::simulator {
namespace {

Scenario changed(const std::string& plan, const std::string& changes = "") {
  Scenario scenario = load_scenario(plan);
  if (!changes.empty()) apply_changes(scenario, parse_changes(changes, "--what-if"));
  return scenario;
}

Evidence grade_of(const Prediction& prediction, TimePart part) {
  return prediction.evidence.time[static_cast<std::size_t>(part)].grade;
}

double width(const Prediction& prediction) { return to_seconds(prediction.step_high - prediction.step_low); }

TEST(Evidence, WeakerIsWider) {
  std::set<std::string> names, keys;
  for (int index = 0; index < kNumEvidences; ++index) {
    const auto grade = static_cast<Evidence>(index);
    names.insert(evidence_name(grade));
    keys.insert(evidence_key(grade));
    const double before = index > 0 ? uncertainty(static_cast<Evidence>(index - 1)) : 0;
    EXPECT_GT(uncertainty(grade), before);
  }
  EXPECT_EQ(names.size(), static_cast<std::size_t>(kNumEvidences));
  EXPECT_EQ(keys.size(), static_cast<std::size_t>(kNumEvidences));
}

TEST(Evidence, ASystemCalibratedOnAPublishedRunIsKnownBetter) {
  EXPECT_EQ(software_evidence(find_software("megascale-moe")).grade, Evidence::kDerived);
  EXPECT_EQ(software_evidence(find_software("kernels")).grade, Evidence::kAssumed);
  EXPECT_LT(uncertainty(find_software("megascale-moe")), uncertainty(find_software("kernels")));
}

TEST(Grading, EverythingHasASource) {
  for (const char* plan : {"megascale-moe-352b", "megatron-lm-352b", "deepseek-v3-2048"}) {
    const PredictionEvidence evidence = simulate(changed(plan)).evidence;
    for (const Graded& part : evidence.time) EXPECT_FALSE(part.source.empty()) << plan;
    for (const Graded& row : evidence.memory) EXPECT_FALSE(row.source.empty()) << plan;
    EXPECT_FALSE(evidence.software.source.empty()) << plan;
  }
}

// What msmoe-profile measured on the very GPU counts as measured, on a sibling or a changed one as derived.
TEST(Grading, FitsOfTheGpuItselfAreMeasured) {
  const auto grades = [](const std::string& changes) {
    const Prediction prediction = simulate(changed("megascale-moe-352b", changes));
    const Evidence gemm = grade_of(prediction, TimePart::kGemm);
    for (const TimePart part : {TimePart::kExpertGemm, TimePart::kAttention, TimePart::kElementwise})
      EXPECT_EQ(grade_of(prediction, part), gemm) << changes;
    return gemm;
  };
  EXPECT_EQ(grades("cluster=h100"), Evidence::kMeasured);
  EXPECT_EQ(grades("cluster=h200"), Evidence::kMeasured);
  EXPECT_EQ(grades("cluster=h800"), Evidence::kDerived);
  EXPECT_EQ(grades("cluster=gh200"), Evidence::kDerived);
  for (const char* change : {"bf16_peak=2000 TFLOPS", "hbm=5 TB/s", "sms=160"})
    EXPECT_EQ(grades("cluster=h100," + std::string(change)), Evidence::kDerived);
  EXPECT_EQ(grades("cluster=h100,nic=200G"), Evidence::kMeasured);
}

// A layer of this plan exchanges heads by all-to-all, and rows by all-gather and reduce-scatter, all over 8 ranks of a
// node. Two of the three tables are not enough.
TEST(Grading, TablesOfTheClusterMakeWiresMeasured) {
  Scenario scenario = changed("megascale-moe-352b");
  scenario.cluster.collectives.clear();
  for (const char* collective : {"all_gather", "reduce_scatter", "all_to_all"}) {
    EXPECT_EQ(grade_of(simulate(scenario), TimePart::kExposedCommunication), Evidence::kDerived) << collective;
    scenario.cluster.collectives.push_back({.collective = collective,
                                            .ranks = 8,
                                            .ranks_per_node = 8,
                                            .points = {{Bytes{1e6}, seconds(20e-6)}, {Bytes{1e9}, seconds(6e-3)}},
                                            .source = "this test"});
  }
  EXPECT_EQ(grade_of(simulate(scenario), TimePart::kExposedCommunication), Evidence::kMeasured);
}

TEST(Grading, UpperLevelsOfTheNetworkAreAssumed) {
  EXPECT_EQ(grade_of(simulate(changed("megascale-moe-352b")), TimePart::kGradReduce), Evidence::kDerived);
  const Prediction shared = simulate(changed("megascale-moe-352b", "oversubscription=2"));
  EXPECT_EQ(grade_of(shared, TimePart::kGradReduce), Evidence::kAssumed);
  EXPECT_EQ(grade_of(shared, TimePart::kExposedSend), Evidence::kAssumed);
  EXPECT_LT(grade_of(shared, TimePart::kExposedCommunication), Evidence::kAssumed);  // inside nodes
}

TEST(Grading, OffloadedOptimizersRestOnDataSheets) {
  EXPECT_EQ(grade_of(simulate(changed("megascale-moe-352b", "optimizer_offload=on")), TimePart::kOptimizer),
            Evidence::kDataSheet);
}

// Two parts of 3 s and 1 s, both derived, and a calibrated system behind the first alone:
// u = sqrt((3 u_d)^2 + (1 u_d)^2 + (3 u_s)^2) / 4.
TEST(Grading, TheIntervalByHand) {
  Scenario scenario = changed("megascale-moe-352b");
  scenario.cluster.collectives.clear();
  const Program program = lower(scenario.model, scenario.cluster, scenario.plan);
  Prediction prediction = simulate(scenario);
  prediction.parts = {};
  prediction.parts[static_cast<std::size_t>(TimePart::kGemm)] = seconds(3);
  prediction.parts[static_cast<std::size_t>(TimePart::kExposedCommunication)] = seconds(1);
  prediction.step = seconds(4);
  grade(prediction, program, scenario.cluster);
  const double part = uncertainty(Evidence::kDerived), system = uncertainty(scenario.plan.software);
  const double off = std::sqrt(10 * part * part + 9 * system * system) / 4;
  EXPECT_NEAR(to_seconds(prediction.step_high), 4 * (1 + off), 1e-9);
  EXPECT_NEAR(to_seconds(prediction.step_low), 4 / (1 + off), 1e-9);
}

// No step is shorter than its FLOPs at the GPUs' peak, and none longer than itself at the low end.
TEST(Grading, TheLowEndStaysAbovePeak) {
  const Scenario scenario = changed("megascale-moe-352b");
  const Program program = lower(scenario.model, scenario.cluster, scenario.plan);
  Prediction prediction = simulate(scenario);
  const double at_peak = to_seconds(prediction.step) * prediction.mfu();
  prediction.step = seconds(at_peak * 1.02);
  grade(prediction, program, scenario.cluster);
  EXPECT_NEAR(to_seconds(prediction.step_low), at_peak, 1e-9);
  EXPECT_GT(prediction.step_high, prediction.step);
}

TEST(Grading, IntervalsHoldTheStepAndWidenWithDoubt) {
  for (const char* changes : {"gpus=240", "nic=50G", "software=kernels", "precision=fp8", "pp=1,vpp=1,schedule=1f1b"}) {
    const Prediction prediction = simulate(changed("megascale-moe-352b", changes));
    EXPECT_LT(prediction.step_low, prediction.step) << changes;
    EXPECT_GT(prediction.step_high, prediction.step) << changes;
  }
  const Prediction calibrated = simulate(changed("megascale-moe-352b"));
  Scenario doubtful = changed("megascale-moe-352b");
  doubtful.plan.software.source.clear();
  EXPECT_GT(width(simulate(doubtful)), 1.5 * width(calibrated));
}

TEST(Grading, IntervalsFollowEveryRank) {
  const Prediction prediction = simulate(changed("megascale-moe-352b", "gpus=240,imbalance=1.5"), {.every_rank = true});
  EXPECT_LT(prediction.step_low, prediction.step);
  EXPECT_GT(prediction.step_high, prediction.step);
}

// Of the six steps that Table 3 of MegaScale-MoE (arXiv 2505.11432) publishes, at least 80 % lie in their intervals.
TEST(Grading, IntervalsCoverPublishedSteps) {
  struct Row {
    const char* plan;
    std::int64_t gpus;
    double seconds;
  };
  const Row rows[] = {{"megascale-moe-352b", 240, 21.61}, {"megascale-moe-352b", 720, 7.97},
                      {"megascale-moe-352b", 1440, 4.19}, {"megatron-lm-352b", 240, 39.94},
                      {"megatron-lm-352b", 720, 13.70},   {"megatron-lm-352b", 1440, 7.90}};
  const auto covered = std::count_if(std::begin(rows), std::end(rows), [](const Row& row) {
    const Prediction prediction = simulate(changed(row.plan, "gpus=" + std::to_string(row.gpus)));
    return row.seconds >= to_seconds(prediction.step_low) && row.seconds <= to_seconds(prediction.step_high);
  });
  EXPECT_GE(covered, 5);
}

}  // namespace
}  // namespace msmoe::simulator
