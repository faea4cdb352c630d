// Times what is launched on a stream: CUDA events around replays of a CUDA graph, so that the host is not measured.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>

#include "kernels/kernels.h"
#include "profiler/cuda/arena.h"

namespace msmoe::bench {

using profiler::Arena;

// Seconds of one call of run(copy, stream), the median of many replays. run is given the copies in turn, as many as it
// takes for none of them to be still in L2.
double median_seconds(int copies, const std::function<void(int copy, cudaStream_t stream)>& run);

// The same for an operation; make() builds one on fresh memory each time.
double median_seconds(kernels::Kernels& kernels, const std::function<kernels::Operation(Arena&)>& make);

}  // namespace msmoe::bench
