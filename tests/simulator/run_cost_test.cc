#include "simulator/run_cost.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "simulator/what_if.h"

namespace msmoe::simulator {
namespace {

// 10 GPUs, 1,000 tokens/s: 1e9 parameters of 2 + 4 + 2 x 4 = 14 bytes. One failure of the job in 1,000 s.
struct Job {
  Job() {
    prediction.plan.gpus = 10;
    prediction.plan.global_batch = 10;
    prediction.plan.seq_len = 100;
    prediction.step = seconds(1);
    prediction.parameters.total = 1'000'000'000;
    cluster.gpus_per_node = 5;
    cluster.failures_per_gpu_day = 8.64;
    cluster.restart_time = seconds(20);
    cluster.checkpoint_bandwidth = BytesPerSecond{1e9};
  }
  Goodput good() const { return goodput(prediction, cluster).value(); }

  Prediction prediction;
  Cluster cluster;
};

// 3.6e9 tokens take 3.6e6 s = 1,000 h = 41.67 days; on 10 GPUs 10,000 GPU-hours, $20,000 at $2.
TEST(RunCost, WithoutFailures) {
  Job job;
  job.cluster.failures_per_gpu_day.reset();
  RunCost cost = run_cost(job.prediction, job.cluster, 3.6e9);
  EXPECT_NEAR(cost.days, 1000.0 / 24, 1e-9);
  EXPECT_NEAR(cost.gpu_hours, 10'000, 1e-6);
  EXPECT_FALSE(cost.usd.has_value());
  EXPECT_FALSE(cost.goodput.has_value());
  EXPECT_FALSE(cost.days_with_failures.has_value());
  EXPECT_FALSE(cost.energy_mwh.has_value());
  job.cluster.price_per_gpu_hour = 2;
  EXPECT_NEAR(run_cost(job.prediction, job.cluster, 3.6e9).usd.value(), 20'000, 1e-6);
}

// 14e9 bytes over 2 nodes at 1 GB/s are 7 s. The best interval is sqrt(2 x 7 x 1000)(1 + sqrt(0.0035) / 3 + 0.0035 / 9)
// - 7 = 113.70 s. Of T = 1000 exp(0.027)(exp(0.1207) - 1) = 131.80 s it is 0.8627.
TEST(RunCost, GoodputByHand) {
  const Goodput good = Job().good();
  EXPECT_EQ(good.checkpoint, Bytes{14e9});
  EXPECT_NEAR(good.write_seconds, 7, 1e-9);
  EXPECT_NEAR(good.mtbf_seconds, 1000, 1e-6);
  EXPECT_NEAR(good.interval_seconds, 113.70, 0.01);
  EXPECT_NEAR(good.goodput, 0.8627, 0.0002);
  EXPECT_NEAR(good.goodput + good.checkpoint_share + good.rework_share + good.restart_share, 1, 1e-12);
}

// 4 + 0 + 2 x 4 = 12 bytes, beside 14 in bf16.
TEST(RunCost, Fp32CheckpointsHaveNoMasters) {
  Job job;
  set_precision(job.prediction.plan, Precision::kFp32);
  EXPECT_DOUBLE_EQ(job.good().checkpoint.count, 12e9);
}

TEST(RunCost, FailuresStretchEverything) {
  Job job;
  job.cluster.price_per_gpu_hour = 2;
  const RunCost cost = run_cost(job.prediction, job.cluster, 3.6e9);
  const double longer = 1 / cost.goodput->goodput;
  EXPECT_NEAR(cost.days_with_failures.value(), cost.days * longer, 1e-9);
  EXPECT_NEAR(cost.gpu_hours_with_failures.value(), cost.gpu_hours * longer, 1e-6);
  EXPECT_NEAR(cost.usd_with_failures.value(), *cost.usd * longer, 1e-6);
}

// While failures are rare each costs half an interval of rework and one restart.
TEST(RunCost, RareFailuresCostHalfAnInterval) {
  Job job;
  job.cluster.failures_per_gpu_day = 8.64e-4;  // one in 1e7 s
  job.cluster.checkpoint_interval = seconds(1000);
  const Goodput good = job.good();
  const double failures = (good.interval_seconds + good.write_seconds) / good.mtbf_seconds;
  const double wall = good.interval_seconds / good.goodput;
  EXPECT_NEAR(good.rework_share * wall / failures, (1000 + 7) / 2.0, 0.5);
  EXPECT_NEAR(good.restart_share * wall / failures, 20 + 7, 0.1);
}

// No interval is better than the best by more than the estimate is off: Daly gives it below 0.1 % where w < M / 2.
TEST(RunCost, TheBestIntervalIsTheBest) {
  std::mt19937 random(1);
  std::uniform_real_distribution<double> exponent(-2, 3);
  for (int round = 0; round < 200; ++round) {
    Job job;
    job.prediction.step = seconds(1e-3);
    job.cluster.failures_per_gpu_day = 0.0864 * std::pow(10, exponent(random));
    const double best = job.good().goodput, interval = job.good().interval_seconds;
    for (double factor = 0.1; factor < 10; factor *= 1.2) {
      job.cluster.checkpoint_interval = seconds(interval * factor);
      EXPECT_LE(job.good().goodput, best * 1.001) << factor << " " << job.good().mtbf_seconds;
    }
  }
}

TEST(RunCost, GoodputFallsWithEachOfItsCauses) {
  const double base = Job().good().goodput;
  Job worse;
  worse.cluster.failures_per_gpu_day = 20;
  EXPECT_LT(worse.good().goodput, base);
  worse = Job();
  worse.cluster.restart_time = seconds(60);
  EXPECT_LT(worse.good().goodput, base);
  worse = Job();
  worse.cluster.checkpoint_bandwidth = BytesPerSecond{1e8};
  EXPECT_LT(worse.good().goodput, base);
  worse = Job();
  worse.prediction.plan.moment_bytes = 1;  // 2 + 4 + 2 x 1 bytes
  EXPECT_GT(worse.good().goodput, base);
}

TEST(RunCost, ExtremesAreNumbers) {
  Job never;
  never.cluster.failures_per_gpu_day = 0;
  EXPECT_NEAR(never.good().goodput, 1, 1e-3);
  Job always;
  always.cluster.failures_per_gpu_day = 1000;
  always.cluster.restart_time = seconds(1e6);
  EXPECT_EQ(always.good().goodput, 0);
  const RunCost cost = run_cost(always.prediction, always.cluster, 1e12);
  EXPECT_FALSE(cost.days_with_failures.has_value());
  EXPECT_FALSE(cost.energy_mwh.has_value());
}

// Llama 3 405B on 16,384 H100: 419 failures in 54 days, and an "effective training time" of more than 90 %
// (arXiv 2407.21783, section 3.3.4). MegaScale (arXiv 2402.15627) states more than 90 % as well. With ten minutes a
// restart and 1 GB/s a node, which are assumed, both come out; a restart of half an hour would contradict them.
TEST(RunCost, Llama3) {
  Scenario scenario = load_scenario("megascale-moe-352b");
  apply_changes(scenario, {{"cluster", "h100"}});
  Prediction prediction;
  prediction.plan.gpus = 16384;
  prediction.plan.global_batch = 2048;
  prediction.plan.seq_len = 8192;
  prediction.parameters.total = 405'000'000'000;
  prediction.step = seconds(2048 * 8192 / (16384 * 380.0));
  const Goodput good = goodput(prediction, scenario.cluster).value();
  EXPECT_NEAR(good.mtbf_seconds, 54 * 86400 / 419.0, 20);
  EXPECT_GT(good.goodput, 0.90);
  EXPECT_LT(good.goodput, 0.97);
  scenario.cluster.restart_time = seconds(1800);
  EXPECT_LT(goodput(prediction, scenario.cluster)->goodput, 0.90);
}

// 10 GPUs of 700 W in 2 nodes of 1 kW beside them: 9 kW, 9.9 kW with PUE 1.1; 1,000 h are 9.9 MWh. Half of the step
// computes: 7 / 9.9 / 2 of it.
TEST(RunCost, Energy) {
  Job job;
  job.cluster.failures_per_gpu_day.reset();
  job.cluster.gpu.watts = 700;
  job.cluster.node_overhead_watts = 1000;
  job.cluster.pue = 1.1;
  job.prediction.parts[static_cast<std::size_t>(TimePart::kGemm)] = seconds(0.5);
  job.prediction.parts[static_cast<std::size_t>(TimePart::kBubble)] = seconds(0.5);
  const RunCost cost = run_cost(job.prediction, job.cluster, 3.6e9);
  EXPECT_NEAR(cost.energy_mwh.value(), 9.9, 1e-9);
  EXPECT_NEAR(cost.energy_compute_share.value(), 7 / 9.9 / 2, 1e-9);
}

}  // namespace
}  // namespace msmoe::simulator
