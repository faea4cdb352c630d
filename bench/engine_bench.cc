// How many task events the engine runs per second on one core, and in how much memory.
//
//   Overlapped   15 stages, 1F1B over some micro-batches; blocks of 160 tasks, every fourth a communication on a stream
//                of its own that shares SMs, HBM and NVLink with the computation; waits in both directions. The items
//                per second of the three sizes are alike where the cost is linear.
//   Serial       a graph of the size that vTrain (arXiv 2312.12391) builds for the 3,360 GPUs of MT-NLG 530B: 35 stages
//                of 3 layers, 24 forward and 48 backward kernels a layer, one stream a stage; 1.74 M tasks with 230
//                micro-batches. vTrain takes 6.3 s and 921 MB for its own.
//   Pipeline     one task a slot: what a composition of whole blocks costs.
//   EveryRank    the overlapped pipeline once for each of 96 ranks a stage: 1,440 devices.
//
// peak_MB is of the whole process so far: for one row alone, use --benchmark_filter.
#include <benchmark/benchmark.h>
#include <sys/resource.h>

#include <algorithm>
#include <vector>

#include "simulator/engine.h"

namespace msmoe::simulator {
namespace {

constexpr std::int32_t kForward = 0, kBackward = 1;  // indices of blocks

// Microseconds between 20 and 400, in picoseconds, spread without a pattern.
std::int64_t some_time(std::int64_t seed) { return 20'000'000 + seed * 7'919 % 381 * 1'000'000 + seed; }

Block serial_block(int num_tasks) {
  Block block;
  for (int t = 0; t < num_tasks; ++t) block.tasks.push_back({.alone_ps = some_time(t), .share = {1, 0.5f, 0, 0}});
  return block;
}

Block overlapped_block(int num_tasks) {
  Block block;
  block.waits.resize(num_tasks);
  for (int t = 0; t < num_tasks; ++t) {
    if (t % 4 == 3) {
      block.tasks.push_back(
          {.alone_ps = 2 * some_time(t), .share = {20.0f / 132, 0.2f, 1, 0}, .holder = true, .stream = 1});
      block.waits[t] = {t - 2};
    } else {
      block.tasks.push_back({.alone_ps = some_time(t), .share = {1, t % 3 == 0 ? 0.9f : 0.4f, 0, 0}});
      if (t % 4 == 0 && t >= 5) block.waits[t] = {t - 5};
    }
  }
  return block;
}

// Stage s runs its warm-up of stages - 1 - s forwards, then pairs of a forward and a backward, then the backwards left.
Job one_f_one_b(Block forward, Block backward, int num_stages, int micro_batches) {
  Job job{.blocks = {std::move(forward), std::move(backward)}, .devices = {}, .messages = {}};
  job.devices.resize(num_stages);
  std::vector<std::vector<std::int32_t>> slot_of[2];  // [pass][stage][micro-batch]
  for (int stage = 0; stage < num_stages; ++stage) {
    std::vector<std::int32_t> order[2];
    const auto push = [&](std::int32_t pass) {
      order[pass].push_back(static_cast<std::int32_t>(job.devices[stage].size()));
      job.devices[stage].push_back(pass);
    };
    const int warm_up = std::min(num_stages - 1 - stage, micro_batches);
    for (int i = 0; i < warm_up; ++i) push(kForward);
    for (int i = warm_up; i < micro_batches; ++i) {
      push(kForward);
      push(kBackward);
    }
    for (int i = 0; i < warm_up; ++i) push(kBackward);
    for (int pass : {kForward, kBackward}) slot_of[pass].push_back(order[pass]);
  }
  for (int pass : {kForward, kBackward}) {
    const auto last = static_cast<std::int32_t>(job.blocks[pass].tasks.size()) - 1;
    for (int stage = 0; stage + 1 < num_stages; ++stage) {
      const int from = pass == kForward ? stage : stage + 1, to = pass == kForward ? stage + 1 : stage;
      for (int i = 0; i < micro_batches; ++i) {
        job.messages.push_back({from, slot_of[pass][from][i], last, to, slot_of[pass][to][i], 10'000'000});
      }
    }
  }
  return job;
}

Job repeated(const Job& pipeline, int copies) {
  Job job{.blocks = pipeline.blocks, .devices = {}, .messages = {}};
  for (int copy = 0; copy < copies; ++copy) {
    const auto first = static_cast<std::int32_t>(job.devices.size());
    job.devices.insert(job.devices.end(), pipeline.devices.begin(), pipeline.devices.end());
    for (Message message : pipeline.messages) {
      message.from_device += first;
      message.to_device += first;
      job.messages.push_back(message);
    }
  }
  return job;
}

void run_job(benchmark::State& state, const Job& job) {
  std::int64_t events = 0;
  for (auto _ : state) {
    const RunResult result = run(job);
    events += result.events;
    benchmark::DoNotOptimize(result.makespan_ps);
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  state.SetItemsProcessed(events);
  state.counters["tasks"] = static_cast<double>(events) / static_cast<double>(state.iterations());
  state.counters["peak_MB"] = static_cast<double>(usage.ru_maxrss) / 1024;
}

void Overlapped(benchmark::State& state) {
  run_job(state, one_f_one_b(overlapped_block(160), overlapped_block(160), 15, static_cast<int>(state.range(0))));
}
BENCHMARK(Overlapped)->Arg(60)->Arg(240)->Arg(960)->Unit(benchmark::kMillisecond);

void Serial(benchmark::State& state) {
  run_job(state, one_f_one_b(serial_block(72), serial_block(144), 35, static_cast<int>(state.range(0))));
}
BENCHMARK(Serial)->Arg(60)->Arg(230)->Arg(920)->Unit(benchmark::kMillisecond);

void Pipeline(benchmark::State& state) {
  run_job(state, one_f_one_b(serial_block(1), serial_block(1), 15, static_cast<int>(state.range(0))));
}
BENCHMARK(Pipeline)->Arg(60)->Arg(240)->Unit(benchmark::kMicrosecond);

void EveryRank(benchmark::State& state) {
  const Job pipeline = one_f_one_b(overlapped_block(160), overlapped_block(160), 15, static_cast<int>(state.range(0)));
  run_job(state, repeated(pipeline, 96));
}
BENCHMARK(EveryRank)->Arg(15)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace msmoe::simulator
