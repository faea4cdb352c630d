// Collectives flow by flow on two tiers of network: nodes of 8 GPUs on 400 GB/s NVLink, 50 GB/s of NIC for each GPU.
//
//   NineCollectives   two MoE layers there and back, 8 all-to-alls of 1 MB for each pair of ranks with compute between,
//                     and an all-reduce of 1 GB. Alike flows are one class; every flow is in one.
//   SkewedCollectives the same where each GPU of a node has a load of its own.
//   EveryFlow         one all-to-all with each flow on its own, as far as that is handy.
//
// x_ASTRA: beside ASTRA-sim's analytical, congestion-unaware backend on such a chain of nine collectives for 1,024
// NPUs: 22.75 s on a core of 2.1 GHz (https://github.com/astra-sim/astra-sim, commit 518bd51).
#include <benchmark/benchmark.h>

#include <cstdint>
#include <vector>

#include "simulator/flows.h"

namespace msmoe::simulator {
namespace {

constexpr double kAstraSeconds = 22.75;
constexpr std::int64_t kAstraRanks = 1024;

FlowNetwork network_of(std::int64_t gpus) {
  return {.gpus = gpus, .gpus_per_node = 8, .nvlink = {400e9}, .nic = {50e9}};
}

void run_nine(benchmark::State& state, double skew) {
  const FlowNetwork network = network_of(state.range(0));
  std::vector<double> loads;
  for (std::int64_t gpu = 0; gpu < network.gpus; ++gpu)
    loads.push_back(1 + skew * (static_cast<double>(gpu % 8) - 3.5) / 3.5);
  const Bytes payload{1e6 * static_cast<double>(network.gpus)};
  const Duration compute = seconds(1e-3);
  Duration step{};
  double flows = 0;
  for (auto _ : state) {
    step = {};
    flows = 0;
    const auto run = [&](const FlowJob& job) {
      step += run_flows(job).makespan;
      for (const FlowClass& alike : job.classes) flows += alike.count;
    };
    for (int exchange = 0; exchange < 8; ++exchange) {
      step += compute;
      run(all_to_all_flows(network, payload, loads, exchange % 2 == 0 ? LoadedEnd::kDestination : LoadedEnd::kSource));
    }
    run(ring_all_reduce_flows(network, {1e9}));
    benchmark::DoNotOptimize(step);
  }
  state.counters["flows"] = flows;
  state.counters["simulated_s"] = to_seconds(step);
  if (network.gpus != kAstraRanks) return;
  state.counters["x_ASTRA"] =
      benchmark::Counter(kAstraSeconds * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

void NineCollectives(benchmark::State& state) { run_nine(state, 0); }
BENCHMARK(NineCollectives)->ArgName("ranks")->Arg(64)->Arg(1024)->Arg(16384)->Unit(benchmark::kMicrosecond);

void SkewedCollectives(benchmark::State& state) { run_nine(state, 0.5); }
BENCHMARK(SkewedCollectives)->ArgName("ranks")->Arg(64)->Arg(1024)->Arg(16384)->Unit(benchmark::kMicrosecond);

void EveryFlow(benchmark::State& state) {
  const FlowNetwork network = network_of(state.range(0));
  const auto gpus = static_cast<std::size_t>(network.gpus);
  const std::vector<std::vector<double>> bytes(gpus, std::vector<double>(gpus, 1e6));
  for (auto _ : state) benchmark::DoNotOptimize(run_flows(all_to_all_flows(network, bytes)).makespan);
  state.counters["flows"] = static_cast<double>(gpus * (gpus - 1));
}
BENCHMARK(EveryFlow)->ArgName("ranks")->Arg(64)->Arg(1024)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace msmoe::simulator
