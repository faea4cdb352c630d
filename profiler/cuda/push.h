// Kernels that measurements need beside those of training.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace msmoe::profiler {

// Stores to a peer's memory from `blocks` multiprocessors. REQUIRES: bytes a multiple of 16, both aligned to it.
void launch_push(void* to, const void* from, std::int64_t bytes, int blocks, cudaStream_t stream);

// A kernel that does nothing.
void launch_empty(cudaStream_t stream);

}  // namespace msmoe::profiler
