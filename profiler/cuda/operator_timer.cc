#include "profiler/cuda/operator_timer.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "kernels/cuda/check.h"
#include "profiler/cuda/graph_timer.h"
#include "profiler/cuda/operations.h"
#include "profiler/cuda/push.h"
#include "profiler/cuda/workload.h"
#include "profiler/grids.h"

namespace msmoe::profiler {
namespace {

constexpr std::int64_t kPsPerNs = 1000;
// Long enough for the clocks to settle under the load, few enough for a profile to end in minutes.
constexpr double kWarmSeconds = 0.03, kMeasuredSeconds = 0.04;
constexpr int kFewestRepeats = 6, kMostRepeats = 30;

int repeats_for(double seconds) {
  return static_cast<int>(std::clamp(kMeasuredSeconds / seconds, double{kFewestRepeats}, double{kMostRepeats}));
}

}  // namespace

OperatorTimer::OperatorTimer(KernelTrace& trace) : trace_(trace) {}

Point OperatorTimer::measure(const Case& of) {
  Workload workload(*kernels_, [&](Arena& arena) { return make_operation(of, arena); });
  const double seconds = workload.estimated_seconds();
  for (double warm = 0; warm < kWarmSeconds; warm += std::max(seconds, 1e-4)) workload.launch(workload.stream());
  MSMOE_CHECK(cudaStreamSynchronize(workload.stream()));
  trace_.collect();

  const int repeats = repeats_for(seconds);
  for (int repeat = 1; repeat <= repeats; ++repeat) {
    const KernelTrace::Tag tag(static_cast<std::uint64_t>(repeat), of.what.c_str());
    workload.launch(workload.stream());
  }
  MSMOE_CHECK(cudaStreamSynchronize(workload.stream()));
  std::map<std::uint64_t, std::int64_t> ps_of_repeat;
  const Activity* longest = nullptr;
  const std::vector<Activity> activities = trace_.collect();
  for (const Activity& activity : activities) {
    if (activity.tag == 0) continue;
    ps_of_repeat[activity.tag] += activity.length_ns() * kPsPerNs + gap_ps();
    if (longest == nullptr || activity.length_ns() > longest->length_ns()) longest = &activity;
  }
  if (ps_of_repeat.size() != static_cast<std::size_t>(repeats))
    throw TraceUnavailable(fmt::format("{}: {} of {} runs were traced", of.key(), ps_of_repeat.size(), repeats));
  std::vector<std::int64_t> picoseconds;
  for (const auto& [repeat, length] : ps_of_repeat) picoseconds.push_back(length);
  Point point = summarize(of, std::move(picoseconds));
  point.kernel = longest->name;
  return point;
}

Point OperatorTimer::measure_layer(const Case& of) {
  Arena arena;
  std::vector<kernels::Operation> operations;
  std::size_t workspace_bytes = 0;
  for (const Case& one : operators_of_layer(of)) {
    operations.push_back(make_operation(one, arena));
    workspace_bytes = std::max(workspace_bytes, kernels_->workspace_bytes(operations.back()));
  }
  void* workspace = arena.bytes(workspace_bytes);
  const auto run_all = [&](cudaStream_t stream) {
    for (const kernels::Operation& operation : operations)
      kernels_->run(operation, {.stream = stream, .workspace = workspace, .workspace_bytes = workspace_bytes});
  };
  const KernelTrace::Paused paused(trace_);
  run_all(nullptr);
  MSMOE_CHECK(cudaDeviceSynchronize());
  constexpr int kReplays = 12;
  return summarize(of, replay(kReplays, run_all));
}

Point OperatorTimer::measure_launch(const Case& of) { return {of, Duration{gap_ps()}, Duration{0}, 1}; }

// Kernels that do nothing follow each other in a graph: their period less their length.
std::int64_t OperatorTimer::gap_ps() {
  if (gap_ps_ >= 0) return gap_ps_;
  constexpr int kKernels = 200, kReplays = 9;
  std::int64_t period_ps = 0;
  {
    const KernelTrace::Paused paused(trace_);
    const Point all = summarize({"launch", {}}, replay(kReplays, [](cudaStream_t stream) {
                                  for (int i = 0; i < kKernels; ++i) launch_empty(stream);
                                }));
    period_ps = all.time.count() / kKernels;
  }
  MSMOE_CHECK(cudaDeviceSynchronize());
  trace_.collect();
  for (int i = 0; i < kKernels; ++i) {
    const KernelTrace::Tag tag(1, "launch");
    launch_empty(nullptr);
  }
  MSMOE_CHECK(cudaDeviceSynchronize());
  std::vector<std::int64_t> lengths;
  for (const Activity& activity : trace_.collect())
    if (activity.tag != 0) lengths.push_back(activity.length_ns() * kPsPerNs);
  if (lengths.empty()) throw TraceUnavailable("launch: no kernel was traced");
  gap_ps_ = std::max<std::int64_t>(period_ps - summarize({"launch", {}}, lengths).time.count(), 1);
  return gap_ps_;
}

}  // namespace msmoe::profiler
