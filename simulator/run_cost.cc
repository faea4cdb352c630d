#include "simulator/run_cost.h"

#include <algorithm>
#include <cmath>

namespace msmoe::simulator {
namespace {

constexpr double kSecondsPerDay = 86400;
// exp() beyond this is as good as never.
constexpr double kLargestExponent = 500;

double num_nodes(const Prediction& prediction, const Cluster& cluster) {
  return std::ceil(static_cast<double>(prediction.plan.gpus) / static_cast<double>(cluster.gpus_per_node));
}

// Gradients are not kept.
Bytes checkpoint_bytes(const Prediction& prediction) {
  const Plan& plan = prediction.plan;
  const double weight = weight_bytes(plan.precision);
  const auto parameters = static_cast<double>(prediction.parameters.total + prediction.parameters.predict_layers);
  return {parameters * (weight + plan.master_bytes + 2 * plan.moment_bytes)};
}

double computing_share(const Prediction& prediction) {
  Duration computing{};
  for (const TimePart part : {TimePart::kGemm, TimePart::kExpertGemm, TimePart::kAttention, TimePart::kElementwise,
                              TimePart::kRecompute, TimePart::kOptimizer})
    computing += prediction.part(part);
  return to_seconds(computing) / to_seconds(prediction.step);
}

void add_energy(RunCost& cost, const Prediction& prediction, const Cluster& cluster) {
  if (cluster.gpu.watts <= 0) return;
  const double gpus = static_cast<double>(prediction.plan.gpus) * cluster.gpu.watts;
  const double nodes = num_nodes(prediction, cluster) * cluster.node_overhead_watts;
  const double watts = (gpus + nodes) * cluster.pue;
  if (cost.goodput && !cost.days_with_failures) return;
  cost.energy_mwh = watts * cost.days_with_failures.value_or(cost.days) * 24 / 1e6;
  cost.energy_compute_share = gpus / watts * (cost.goodput ? cost.goodput->goodput : 1) * computing_share(prediction);
}

}  // namespace

double best_checkpoint_interval(double write_seconds, double mtbf_seconds) {
  const double ratio = write_seconds / (2 * mtbf_seconds);
  if (ratio >= 1) return mtbf_seconds;
  return std::sqrt(2 * write_seconds * mtbf_seconds) * (1 + std::sqrt(ratio) / 3 + ratio / 9) - write_seconds;
}

std::optional<Goodput> goodput(const Prediction& prediction, const Cluster& cluster) {
  if (!cluster.failures_per_gpu_day || !cluster.restart_time || cluster.checkpoint_bandwidth.count <= 0)
    return std::nullopt;
  Goodput result;
  result.checkpoint = checkpoint_bytes(prediction);
  const double write = result.checkpoint.count / (num_nodes(prediction, cluster) * cluster.checkpoint_bandwidth.count);
  const double failures_per_day = *cluster.failures_per_gpu_day * static_cast<double>(prediction.plan.gpus);
  // A job that never fails still writes checkpoints where it is told how often; otherwise none.
  constexpr double kNever = 1e9 * kSecondsPerDay;
  const double mtbf = failures_per_day > 0 ? std::min(kNever, kSecondsPerDay / failures_per_day) : kNever;
  const double given = to_seconds(cluster.checkpoint_interval);
  const double useful =
      std::max(to_seconds(prediction.step), given > 0 ? given : best_checkpoint_interval(write, mtbf));
  result.write_seconds = write;
  result.mtbf_seconds = mtbf;
  result.interval_seconds = useful;

  const double restart = to_seconds(*cluster.restart_time) + write;
  if ((useful + write + restart) / mtbf > kLargestExponent) {
    result.restart_share = 1;
    return result;
  }
  const double failures = std::expm1((useful + write) / mtbf);
  const double restarting = failures * mtbf * std::expm1(restart / mtbf);
  const double rework = std::max(0.0, failures * mtbf - (useful + write));
  const double wall = useful + write + rework + restarting;
  result.goodput = useful / wall;
  result.checkpoint_share = write / wall;
  result.rework_share = rework / wall;
  result.restart_share = restarting / wall;
  return result;
}

RunCost run_cost(const Prediction& prediction, const Cluster& cluster, double tokens) {
  RunCost cost;
  const double hours = tokens / prediction.tokens_per_second() / 3600;
  cost.days = hours / 24;
  cost.gpu_hours = hours * static_cast<double>(prediction.plan.gpus);
  if (cluster.price_per_gpu_hour) cost.usd = cost.gpu_hours * *cluster.price_per_gpu_hour;
  cost.goodput = goodput(prediction, cluster);
  if (cost.goodput && cost.goodput->goodput > 0) {
    const double longer = 1 / cost.goodput->goodput;
    cost.days_with_failures = cost.days * longer;
    cost.gpu_hours_with_failures = cost.gpu_hours * longer;
    if (cost.usd) cost.usd_with_failures = *cost.usd * longer;
  }
  add_energy(cost, prediction, cluster);
  return cost;
}

}  // namespace msmoe::simulator
