// Times of operators on the current GPU, and of layers made of them.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>

#include "kernels/kernels.h"
#include "profiler/cuda/kernel_trace.h"
#include "profiler/point.h"

namespace msmoe::profiler {

class OperatorTimer {
 public:
  // trace must outlive this.
  explicit OperatorTimer(KernelTrace& trace);
  ~OperatorTimer();

  // What an operator adds to a busy stream: its kernels, by the device's clock, and the gap after each of them.
  Point measure(const Case& of);
  // A layer's operators one after another, in a CUDA graph and without tracing.
  Point measure_layer(const Case& of);
  // The gap between two kernels.
  Point measure_launch(const Case& of);

 private:
  class Layer;

  // Passes of a layer, for so long and one at least.
  void heat(double seconds, cudaStream_t stream);
  std::int64_t gap_ps();

  KernelTrace& trace_;
  std::unique_ptr<kernels::Kernels> kernels_ = kernels::cuda_kernels();
  std::unique_ptr<Layer> heater_;
  std::int64_t gap_ps_ = -1;  // not measured yet
};

}  // namespace msmoe::profiler
