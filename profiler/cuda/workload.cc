#include "profiler/cuda/workload.h"

#include <algorithm>
#include <chrono>

#include "kernels/cuda/check.h"

namespace msmoe::profiler {
namespace {

constexpr std::size_t kPastL2 = std::size_t{192} << 20;  // the L2 of a Hopper GPU is 50 or 60 MB
constexpr std::size_t kMostCopies = 24, kFewestCopies = 2;
constexpr int kFewestLaunches = 8;

}  // namespace

Workload::Workload(kernels::Kernels& kernels, const std::function<kernels::Operation(Arena&)>& make)
    : kernels_(kernels) {
  copies_.push_back(make(arena_));
  const std::size_t wanted = kPastL2 / std::max<std::size_t>(arena_.taken(), 1) + 1;
  while (copies_.size() < std::clamp(wanted, kFewestCopies, kMostCopies)) copies_.push_back(make(arena_));
  workspace_bytes_ = kernels_.workspace_bytes(copies_.front());
  workspace_ = arena_.bytes(workspace_bytes_);
  MSMOE_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  MSMOE_CHECK(cudaDeviceSynchronize());  // operands are filled on the default stream
  run(copies_.front(), stream_);         // a library chooses its kernel here
  MSMOE_CHECK(cudaStreamSynchronize(stream_));
  const auto start = std::chrono::steady_clock::now();
  for (const kernels::Operation& copy : copies_) run(copy, stream_);
  MSMOE_CHECK(cudaStreamSynchronize(stream_));
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  estimated_seconds_ = elapsed.count() / static_cast<double>(copies_.size());
}

Workload::~Workload() {
  if (stream_ == nullptr) return;
  cudaStreamSynchronize(stream_);
  cudaStreamDestroy(stream_);
}

void Workload::launch(cudaStream_t stream) {
  run(copies_[next_], stream);
  next_ = (next_ + 1) % copies_.size();
}

int Workload::launch_all(cudaStream_t stream) {
  const auto copies = static_cast<int>(copies_.size());
  const int launches = (kFewestLaunches + copies - 1) / copies * copies;
  for (int i = 0; i < launches; ++i) launch(stream);
  return launches;
}

void Workload::run(const kernels::Operation& operation, cudaStream_t stream) {
  kernels_.run(operation, {.stream = stream, .workspace = workspace_, .workspace_bytes = workspace_bytes_});
}

}  // namespace msmoe::profiler
