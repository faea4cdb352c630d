#include "profiler/cuda/operator_timer.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <vector>

#include "kernels/cuda/check.h"
#include "profiler/cuda/graph_timer.h"
#include "profiler/cuda/operations.h"
#include "profiler/cuda/push.h"
#include "profiler/cuda/workload.h"
#include "profiler/grids.h"

namespace msmoe::profiler {
namespace {

constexpr std::int64_t kPsPerNs = 1000;
// Clocks follow the load of the last tenths of a second, by up to 20 % and not at once: on one H100 a GEMM ran at 783,
// 702, 680 and 720 TFLOP/s in four successive 50 ms after a second of rest, and at 575 at the end of its first second.
// Operators are measured in short bursts between passes of a layer therefore, at the clocks of training.
constexpr double kHotSeconds = 0.06, kBurstSeconds = 1e-3, kMeasuredSeconds = 0.06;
constexpr int kFewestBursts = 5, kMostBursts = 12, kMostLaunches = 10;

int launches_for(double seconds) {
  return static_cast<int>(std::clamp(kBurstSeconds / seconds, 1.0, double{kMostLaunches}));
}
int bursts_for(double seconds) {
  return static_cast<int>(
      std::clamp(kMeasuredSeconds / (seconds * launches_for(seconds)), double{kFewestBursts}, double{kMostBursts}));
}

}  // namespace

// The operators of a layer, ready to run.
class OperatorTimer::Layer {
 public:
  Layer(const Case& of, kernels::Kernels& kernels) : kernels_(kernels) {
    for (const Case& one : operators_of_layer(of)) {
      operations_.push_back(make_operation(one, arena_));
      workspace_bytes_ = std::max(workspace_bytes_, kernels_.workspace_bytes(operations_.back()));
    }
    workspace_ = arena_.bytes(workspace_bytes_);
    run(nullptr);  // libraries choose their kernels
    MSMOE_CHECK(cudaDeviceSynchronize());
    const auto start = std::chrono::steady_clock::now();
    run(nullptr);
    MSMOE_CHECK(cudaDeviceSynchronize());
    seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  void run(cudaStream_t stream) {
    for (const kernels::Operation& operation : operations_)
      kernels_.run(operation, {.stream = stream, .workspace = workspace_, .workspace_bytes = workspace_bytes_});
  }
  double seconds() const { return seconds_; }

 private:
  kernels::Kernels& kernels_;
  Arena arena_;
  std::vector<kernels::Operation> operations_;
  void* workspace_ = nullptr;
  std::size_t workspace_bytes_ = 0;
  double seconds_ = 0;
};

OperatorTimer::OperatorTimer(KernelTrace& trace) : trace_(trace) {}
OperatorTimer::~OperatorTimer() = default;

Point OperatorTimer::measure(const Case& of) {
  Workload workload(*kernels_, [&](Arena& arena) { return make_operation(of, arena); });
  const double seconds = workload.estimated_seconds();
  const int bursts = bursts_for(seconds), launches = launches_for(seconds), repeats = bursts * launches;
  heat(kHotSeconds, workload.stream());
  for (int repeat = 0; repeat < repeats; ++repeat) {
    if (repeat % launches == 0) {
      heat(0, workload.stream());
      workload.launch(workload.stream());  // does not count: the layer's last kernel has left L2 full
    }
    const KernelTrace::Tag tag(static_cast<std::uint64_t>(repeat) + 1, of.what.c_str());
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
  constexpr std::size_t kLongestName = 100;  // a template's can fill pages
  point.kernel = longest->name.substr(0, kLongestName);
  return point;
}

Point OperatorTimer::measure_layer(const Case& of) {
  const KernelTrace::Paused paused(trace_);
  Layer layer(of, *kernels_);
  constexpr int kReplays = 60;  // up to two seconds: past the first swing of the clocks
  return summarize(of, replay(kReplays, [&](cudaStream_t stream) { layer.run(stream); }));
}

void OperatorTimer::heat(double seconds, cudaStream_t stream) {
  if (!heater_) heater_ = std::make_unique<Layer>(cases_of_kind("layers", 1, true).back(), *kernels_);
  double hot = 0;
  do {
    heater_->run(stream);
    hot += heater_->seconds();
  } while (hot < seconds);
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
