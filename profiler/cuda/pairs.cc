#include "profiler/cuda/pairs.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "kernels/cuda/check.h"
#include "profiler/cuda/operations.h"
#include "profiler/cuda/workload.h"
#include "profiler/grids.h"

namespace msmoe::profiler {
namespace {

constexpr std::uint64_t kFirstTransferTag = 1'000'000;
constexpr double kTogetherSeconds = 0.05;
constexpr int kFewestRuns = 6, kMostRuns = 250, kAloneRuns = 10;

// All that one tag launched on one device.
struct Run {
  std::int64_t start_ns = std::numeric_limits<std::int64_t>::max(), end_ns = 0, busy_ns = 0;

  void add(const Activity& activity) {
    start_ns = std::min(start_ns, activity.start_ns);
    end_ns = std::max(end_ns, activity.end_ns);
    busy_ns += activity.length_ns();
  }
};
struct Span {
  std::int64_t start_ns = 0, end_ns = std::numeric_limits<std::int64_t>::max();

  bool contains(const Run& run) const { return run.start_ns >= start_ns && run.end_ns <= end_ns; }
};
using Runs = std::map<std::uint64_t, Run>;  // by tag

Span span_of(const Runs& runs) {
  Span span{std::numeric_limits<std::int64_t>::max(), 0};
  for (const auto& [tag, run] : runs) {
    span.start_ns = std::min(span.start_ns, run.start_ns);
    span.end_ns = std::max(span.end_ns, run.end_ns);
  }
  return span;
}
Span common(const Span& a, const Span& b) { return {std::max(a.start_ns, b.start_ns), std::min(a.end_ns, b.end_ns)}; }

}  // namespace

struct Pairs::Rank {
  std::unique_ptr<kernels::Kernels> kernels = kernels::cuda_kernels();
  std::unique_ptr<Workload> workload;
};

// Picoseconds of the runs that the other side lasted through, or of all where it did not run.
struct Pairs::Times {
  std::vector<std::int64_t> computes, transfers;
};

Pairs::Pairs(Links& links, KernelTrace& trace) : links_(links), trace_(trace) {
  for (int device = 0; device < links.ranks(); ++device) {
    MSMOE_CHECK(cudaSetDevice(device));
    ranks_.push_back(std::make_unique<Rank>());
  }
  MSMOE_CHECK(cudaSetDevice(0));
}
Pairs::~Pairs() = default;

std::vector<Point> Pairs::measure(const Case& of) {
  const Pair sides = sides_of(of);
  for (std::size_t device = 0; device < ranks_.size(); ++device) {
    MSMOE_CHECK(cudaSetDevice(static_cast<int>(device)));
    ranks_[device]->workload = std::make_unique<Workload>(
        *ranks_[device]->kernels, [&](Arena& arena) { return make_operation(sides.compute, arena); });
  }
  links_.launch(sides.link, 0);
  links_.synchronize();

  const Point compute_alone = summarize(of, run(sides.link, kAloneRuns, 0).computes);
  const Point link_alone = summarize(of, run(sides.link, 0, kAloneRuns).transfers);
  const double compute_seconds = to_seconds(compute_alone.time), link_seconds = to_seconds(link_alone.time);
  const auto runs = [](double seconds) {
    return static_cast<int>(std::clamp(std::ceil(kTogetherSeconds / seconds), double{kFewestRuns}, double{kMostRuns}));
  };
  const double lasts = std::min(runs(compute_seconds) * compute_seconds, runs(link_seconds) * link_seconds);
  const auto fill = [&](double seconds) { return std::max(4, static_cast<int>(std::ceil(lasts / seconds))); };
  const Times together = run(sides.link, fill(compute_seconds), fill(link_seconds));
  for (const auto& rank : ranks_) rank->workload.reset();
  MSMOE_CHECK(cudaSetDevice(0));
  if (together.computes.empty() || together.transfers.empty())
    throw kernels::DeviceError(fmt::format("{}: no run of one side fell within the other's", of.key()));

  Point compute = summarize(of, together.computes), link = summarize(partner_of(of), together.transfers);
  compute.alone = compute_alone.time;
  link.alone = link_alone.time;
  return {link, compute};
}

Pairs::Times Pairs::run(const Case& link, int computes, int transfers) {
  trace_.collect();
  // Both queues fill in step, the transfer's first.
  int computed = 0, transferred = 0;
  while (computed < computes || transferred < transfers) {
    const bool transfer_next =
        computed == computes || (transferred < transfers && transferred * computes <= computed * transfers);
    if (transfer_next) {
      links_.launch(link, kFirstTransferTag + static_cast<std::uint64_t>(transferred++));
      continue;
    }
    const KernelTrace::Tag tag(static_cast<std::uint64_t>(++computed), "compute");
    for (std::size_t device = 0; device < ranks_.size(); ++device) {
      MSMOE_CHECK(cudaSetDevice(static_cast<int>(device)));
      Workload& workload = *ranks_[device]->workload;
      workload.launch(workload.stream());
    }
  }
  links_.synchronize();
  for (const auto& rank : ranks_) MSMOE_CHECK(cudaStreamSynchronize(rank->workload->stream()));

  std::vector<Runs> computes_of(ranks_.size()), transfers_of(ranks_.size());
  std::map<std::uint64_t, std::vector<const Activity*>> joined;
  const std::vector<Activity> activities = trace_.collect();
  for (const Activity& activity : activities) {
    if (activity.tag == 0) continue;
    const auto device = static_cast<std::size_t>(activity.device);
    const bool is_transfer = activity.tag >= kFirstTransferTag;
    (is_transfer ? transfers_of : computes_of)[device][activity.tag].add(activity);
    if (is_transfer) joined[activity.tag].push_back(&activity);
  }

  constexpr std::int64_t kPsPerNs = 1000;
  Times times;
  Span all_compute;
  for (std::size_t device = 0; device < ranks_.size(); ++device) {
    const Span transferring = transfers > 0 ? span_of(transfers_of[device]) : Span{};
    if (computes > 0) all_compute = common(all_compute, span_of(computes_of[device]));
    for (const auto& [tag, one] : computes_of[device])
      if (transferring.contains(one)) times.computes.push_back(one.busy_ns * kPsPerNs);
  }
  for (const auto& [tag, of_ranks] : joined) {
    Run whole;
    for (const Activity* activity : of_ranks) whole.add(*activity);
    if (all_compute.contains(whole)) times.transfers.push_back(joined_ns(of_ranks) * kPsPerNs);
  }
  return times;
}

}  // namespace msmoe::profiler
