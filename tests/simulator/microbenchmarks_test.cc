// The cost model against what was measured: the points of clusters/NAME.profile.json, each on the cluster that uses it,
// and GEMMs beside held SMs, reports/validation/h100-microbenchmarks.json, by profiler/microbenchmarks/probe.py.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "core/lowering/module_builder.h"
#include "core/text_file.h"
#include "simulator/cost_model.h"
#include "simulator/fluid_rates.h"

namespace msmoe::simulator {
namespace {

// What the lowering makes of a case of the profiler.
struct Asked {
  Compute work;
  Pass pass = Pass::kForward;
};
Asked asked_for(const std::string& what, const nlohmann::json& shape) {
  const auto size = [&](const char* name) { return shape.at(name).get<double>(); };
  const Pass pass = what.ends_with("weight_gradient")  ? Pass::kBackwardWeight
                    : what.ends_with("input_gradient") ? Pass::kBackwardInput
                                                       : Pass::kForward;
  if (what.starts_with("attention")) {
    const bool backward = what == "attention_backward";
    const double tokens = size("sequences") * size("length"), widths = size("width") + size("value_width");
    Compute work{.kind = backward ? ComputeKind::kAttentionBackward : ComputeKind::kAttention};
    work.m = static_cast<std::int64_t>(tokens);
    work.n = static_cast<std::int64_t>(size("length") / 2);
    work.k = static_cast<std::int64_t>(widths / 2);
    work.groups = shape.at("heads");
    work.flops = {2 * tokens * size("length") / 2 * size("heads") * widths * (backward ? 2.5 : 1)};
    work.hbm = {2 * tokens * (size("heads") + size("kv_heads")) * widths * (backward ? 2 : 1)};
    return {work, pass};
  }
  const bool grouped = what.starts_with("grouped");
  const double experts = grouped ? size("experts") : 1, rows = size(grouped ? "rows" : "tokens");
  double n = size("out"), k = size("in");
  constexpr double kFp32Bytes = 4;
  if (pass == Pass::kBackwardWeight)
    return {weight_gradient_gemm(experts, rows, n, k, kFp32Bytes, Precision::kBf16), pass};
  if (pass == Pass::kBackwardInput) std::swap(n, k);
  return {grouped ? grouped_gemm(experts, rows, n, k, Precision::kBf16) : gemm(rows, n, k, Precision::kBf16), pass};
}

bool is_alone(const nlohmann::json& point) {
  const std::string what = point.at("case");
  const bool is_product = what.find("gemm_") != std::string::npos || what.starts_with("attention");
  return is_product && what.find(' ') == std::string::npos && !point.at("shape").contains("sms");
}

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

  nlohmann::json measured;
  Cluster cluster = find_cluster("h100");
  Plan plan;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}
double ratio_error(double predicted, double found) { return std::abs(predicted / found - 1); }

// Of all points, those that were fitted to among them.
TEST_F(Microbenchmarks, ProductsAndAttentionTakeWhatTheProfilesMeasured) {
  plan.software = {};
  for (const char* name : {"h100", "h200"}) {
    const Cluster measured_cluster = find_cluster(name);
    const CostModel costs(measured_cluster, plan);
    const auto profile =
        nlohmann::json::parse(read_text_file(std::string(MSMOE_SOURCE_DIR) + "/clusters/" + name + ".profile.json"));
    std::vector<double> errors;
    for (const auto& point : profile["points"]) {
      if (!is_alone(point)) continue;
      const Asked asked = asked_for(point["case"], point["shape"]);
      Operator op;
      op.compute = asked.work;
      op.pass = asked.pass;
      errors.push_back(ratio_error(to_seconds(costs.cost(op).alone), point["seconds"]));
    }
    ASSERT_GT(errors.size(), 500u) << name;
    EXPECT_LT(median(errors), 0.04) << name;
    std::sort(errors.begin(), errors.end());
    EXPECT_LT(errors[errors.size() * 95 / 100], 0.12) << name;
  }
}

// Beside a kernel that holds some SMs a GEMM slows by waves: all 24 cases within two fifths, half of them within an
// eighth.
TEST_F(Microbenchmarks, GemmBesideHeldSms) {
  std::vector<double> errors;
  for (const auto& row : measured["gemm_beside_held_sms"]) {
    const OperatorCost alone = cost(gemm(row["m"], row["n"], row["k"], Precision::kBf16));
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
