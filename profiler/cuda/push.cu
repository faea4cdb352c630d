#include "kernels/cuda/check.h"
#include "profiler/cuda/push.h"

namespace msmoe::profiler {
namespace {

constexpr int kThreads = 512, kInFlight = 4;

__global__ void __launch_bounds__(kThreads) push(uint4* to, const uint4* from, std::int64_t count) {
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  std::int64_t at = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  for (; at + (kInFlight - 1) * stride < count; at += kInFlight * stride) {
    uint4 values[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) values[i] = __ldcs(from + at + i * stride);
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) to[at + i * stride] = values[i];
  }
  for (; at < count; at += stride) to[at] = from[at];
}

__global__ void empty() {}

}  // namespace

void launch_push(void* to, const void* from, std::int64_t bytes, int blocks, cudaStream_t stream) {
  push<<<blocks, kThreads, 0, stream>>>(static_cast<uint4*>(to), static_cast<const uint4*>(from),
                                        bytes / static_cast<std::int64_t>(sizeof(uint4)));
  MSMOE_CHECK(cudaGetLastError());
}

void launch_empty(cudaStream_t stream) {
  empty<<<1, 32, 0, stream>>>();
  MSMOE_CHECK(cudaGetLastError());
}

}  // namespace msmoe::profiler
