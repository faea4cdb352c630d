// Times what is launched on a stream as a CUDA graph, between events: the host is not measured.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace msmoe::profiler {

// Picoseconds of each of so many replays, after a few that do not count. Whatever a library does once, `launch` has
// done before.
std::vector<std::int64_t> replay(int replays, const std::function<void(cudaStream_t)>& launch);

// The same of what is launched on a stream, without a graph.
std::vector<std::int64_t> time_launches(int warm_launches, int launches,
                                        const std::function<void(cudaStream_t)>& launch);

}  // namespace msmoe::profiler
