// Workload: an operation that is run over and over on one GPU, several copies of its operands in turn, so that none is
// still in L2 when its turn comes.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <vector>

#include "kernels/kernels.h"
#include "profiler/cuda/arena.h"

namespace msmoe::profiler {

class Workload {
 public:
  // make builds the operation on fresh memory. On the current device, which has to be the current one in launch(), too.
  // kernels must outlive this. Every copy has run once when this returns.
  Workload(kernels::Kernels& kernels, const std::function<kernels::Operation(Arena&)>& make);
  ~Workload();
  Workload(const Workload&) = delete;
  Workload& operator=(const Workload&) = delete;

  // The next copy.
  void launch(cudaStream_t stream);
  // Every copy as often, a few launches at least; how many there were.
  int launch_all(cudaStream_t stream);
  cudaStream_t stream() const { return stream_; }  // one of its own
  // Of one launch, roughly, the host's share included.
  double estimated_seconds() const { return estimated_seconds_; }

 private:
  void run(const kernels::Operation& operation, cudaStream_t stream);

  kernels::Kernels& kernels_;
  Arena arena_;
  std::vector<kernels::Operation> copies_;
  void* workspace_ = nullptr;
  std::size_t workspace_bytes_ = 0;
  cudaStream_t stream_ = nullptr;
  std::size_t next_ = 0;
  double estimated_seconds_ = 0;
};

}  // namespace msmoe::profiler
