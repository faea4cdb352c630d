// The cost model against what one H100 measured: reports/validation/h100-microbenchmarks.json, by
// profiler/microbenchmarks/probe.py.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/lowering/module_builder.h"
#include "core/text_file.h"
#include "simulator/cost_model.h"
#include "simulator/fluid_rates.h"

namespace msmoe::simulator {
namespace {

class Microbenchmarks : public testing::Test {
 protected:
  Microbenchmarks()
      : measured(nlohmann::json::parse(
            read_text_file(std::string(MSMOE_SOURCE_DIR) + "/reports/validation/h100-microbenchmarks.json"))) {
    plan.software = {};
  }
  OperatorCost cost(const Compute& work) const {
    Operator op;
    op.compute = work;
    return CostModel(cluster, plan).cost(op);
  }
  double seconds_of(const Compute& work) const { return to_seconds(cost(work).alone); }

  nlohmann::json measured;
  Cluster cluster = find_cluster("h100");
  Plan plan;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}
double ratio_error(double predicted, double found) { return std::abs(predicted / found - 1); }

TEST_F(Microbenchmarks, Gemm) {
  std::vector<double> errors;
  for (const auto& row : measured["gemm"])
    errors.push_back(ratio_error(seconds_of(gemm(row["m"], row["n"], row["k"])), row["seconds"]));
  ASSERT_EQ(errors.size(), 20u);
  EXPECT_LT(median(errors), 0.06);
  EXPECT_LT(*std::max_element(errors.begin(), errors.end()), 0.35);
}

TEST_F(Microbenchmarks, GroupedGemm) {
  std::vector<double> errors;
  for (const auto& row : measured["grouped_gemm"]) {
    const double groups = row["groups"], rows = row["rows"];
    errors.push_back(ratio_error(seconds_of(grouped_gemm(groups, groups * rows, row["n"], row["k"], Precision::kBf16)),
                                 row["seconds"]));
  }
  ASSERT_EQ(errors.size(), 14u);
  EXPECT_LT(median(errors), 0.10);
  EXPECT_LT(*std::max_element(errors.begin(), errors.end()), 0.25);
}

TEST_F(Microbenchmarks, Attention) {
  std::vector<double> errors;
  for (const auto& row : measured["attention"]) {
    const double tokens = row["tokens"], heads = row["heads"], batch = row["batch"], width = row["width"];
    for (const bool backward : {false, true}) {
      Compute work{.kind = backward ? ComputeKind::kAttentionBackward : ComputeKind::kAttention};
      work.m = static_cast<std::int64_t>(tokens * batch);
      work.n = static_cast<std::int64_t>(tokens / 2);
      work.k = static_cast<std::int64_t>(width);
      work.groups = static_cast<std::int64_t>(heads);
      work.flops = {2 * tokens * batch * tokens / 2 * heads * 2 * width * (backward ? 2.5 : 1)};
      errors.push_back(ratio_error(seconds_of(work), row[backward ? "backward_seconds" : "forward_seconds"]));
    }
  }
  ASSERT_EQ(errors.size(), 10u);
  EXPECT_LT(median(errors), 0.06);
  EXPECT_LT(*std::max_element(errors.begin(), errors.end()), 0.20);
}

// Beside a kernel that holds some SMs a GEMM slows by waves: all 24 cases within two fifths, half of them within an
// eighth.
TEST_F(Microbenchmarks, GemmBesideHeldSms) {
  std::vector<double> errors;
  for (const auto& row : measured["gemm_beside_held_sms"]) {
    const OperatorCost alone = cost(gemm(row["m"], row["n"], row["k"]));
    Demand work{.share = alone.share, .holder = false, .tiles_per_sm = alone.tiles_per_sm},
        held{.share = {}, .holder = true};
    held.share[kSm] = row["held_sms"].get<float>() / static_cast<float>(cluster.gpu.sms);
    const Demand* both[] = {&work, &held};
    double rates[2];
    fluid_rates(both, 2, rates);
    const double slowdown = row["seconds"].get<double>() / row["alone_seconds"].get<double>();
    EXPECT_GT(slowdown, 1.05);
    errors.push_back(ratio_error(1 / rates[0], slowdown));
  }
  ASSERT_EQ(errors.size(), 24u);
  EXPECT_LT(median(errors), 0.125);
  EXPECT_LT(*std::max_element(errors.begin(), errors.end()), 0.40);
}

}  // namespace
}  // namespace msmoe::simulator
