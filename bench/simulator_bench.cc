// How long one prediction takes, fast and exact, lowering and job building included.
//
//   Fast        MegaScale-MoE's plan (arXiv 2505.11432) on 240 to 24,000 GPUs, 60 micro-batches each: the cost does not
//               depend on the number of GPUs.
//   FastBatch   the same on 1,440 GPUs with more micro-batches: what the composition adds.
//   Exact       every operator of every stage: items are events, alike per second where the cost is linear in them. The
//               first line, 60 micro-batches, is the job of Table 3.
//
// x_SimuMax and x_vTrain: predictions a second beside SimuMax's 7.6 (https://github.com/MooreThreads/SimuMax), events a
// second beside vTrain's 275,000 (arXiv 2312.12391), both measured on one core of 2.1 GHz.
#include <benchmark/benchmark.h>

#include "simulator/prediction.h"

namespace msmoe::simulator {
namespace {

constexpr double kSimuMaxPlans = 7.6, kVtrainEvents = 275e3;

Plan published(std::int64_t gpus, std::int64_t micro_batches) {
  Plan plan = find_plan("megascale-moe-352b");
  plan.gpus = gpus;
  plan.global_batch = micro_batches * plan.dp() * plan.micro_batch;
  return plan;
}

void run_fast(benchmark::State& state, const Plan& plan) {
  const Model model = find_model(plan.model);
  const Cluster cluster = find_cluster(plan.cluster);
  for (auto _ : state) benchmark::DoNotOptimize(predict(model, cluster, plan).step);
  const auto predictions = static_cast<double>(state.iterations());
  state.SetItemsProcessed(state.iterations());
  state.counters["x_SimuMax"] = benchmark::Counter(predictions / kSimuMaxPlans, benchmark::Counter::kIsRate);
}

void Fast(benchmark::State& state) { run_fast(state, published(state.range(0), 60)); }
BENCHMARK(Fast)->ArgName("gpus")->Arg(240)->Arg(720)->Arg(1440)->Arg(6000)->Arg(24000)->Unit(benchmark::kMicrosecond);

void FastBatch(benchmark::State& state) { run_fast(state, published(1440, state.range(0))); }
BENCHMARK(FastBatch)->ArgName("micro_batches")->Arg(60)->Arg(240)->Arg(960)->Unit(benchmark::kMicrosecond);

void Exact(benchmark::State& state) {
  const Plan plan = published(1440, state.range(0));
  const Model model = find_model(plan.model);
  const Cluster cluster = find_cluster(plan.cluster);
  std::int64_t events = 0;
  for (auto _ : state) events += predict(model, cluster, plan, {.exact = true}).events;
  state.SetItemsProcessed(events);
  state.counters["events"] = static_cast<double>(events) / static_cast<double>(state.iterations());
  state.counters["x_vTrain"] =
      benchmark::Counter(static_cast<double>(events) / kVtrainEvents, benchmark::Counter::kIsRate);
}
BENCHMARK(Exact)->ArgName("micro_batches")->Arg(60)->Arg(240)->Arg(960)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace msmoe::simulator
