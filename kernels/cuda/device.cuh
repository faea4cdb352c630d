// What the kernels of ours share: 16-byte accesses, sums over warps and blocks, and how a grid is sized.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/view.h"

namespace msmoe::kernels {

inline constexpr int kWarp = 32;

// Eight neighbouring elements as fp32, moved by one access of 16 bytes (two for fp32). Addresses are multiples of 16.
struct Vector8 {
  float value[8];

  // Through the read-only path: for what this kernel does not write.
  __device__ static Vector8 load(const __nv_bfloat16* from) { return of(__ldg(reinterpret_cast<const uint4*>(from))); }
  __device__ static Vector8 load_written(const __nv_bfloat16* from) {
    return of(*reinterpret_cast<const uint4*>(from));
  }
  __device__ static Vector8 of(const uint4& raw) {
    const auto* pairs = reinterpret_cast<const __nv_bfloat162*>(&raw);
    Vector8 result;
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) {
      const float2 two = __bfloat1622float2(pairs[pair]);
      result.value[2 * pair] = two.x;
      result.value[2 * pair + 1] = two.y;
    }
    return result;
  }
  __device__ static Vector8 load(const float* from) {
    Vector8 result;
    reinterpret_cast<float4*>(result.value)[0] = __ldg(reinterpret_cast<const float4*>(from));
    reinterpret_cast<float4*>(result.value)[1] = __ldg(reinterpret_cast<const float4*>(from) + 1);
    return result;
  }
  __device__ static Vector8 load_written(const float* from) {
    Vector8 result;
    reinterpret_cast<float4*>(result.value)[0] = reinterpret_cast<const float4*>(from)[0];
    reinterpret_cast<float4*>(result.value)[1] = reinterpret_cast<const float4*>(from)[1];
    return result;
  }
  __device__ Vector8 times(float factor) const {
    Vector8 result;
#pragma unroll
    for (int element = 0; element < 8; ++element) result.value[element] = value[element] * factor;
    return result;
  }
  __device__ uint4 as_bf16() const {
    uint4 raw;
    auto* pairs = reinterpret_cast<__nv_bfloat162*>(&raw);
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) pairs[pair] = __floats2bfloat162_rn(value[2 * pair], value[2 * pair + 1]);
    return raw;
  }
  __device__ void store(__nv_bfloat16* to) const { *reinterpret_cast<uint4*>(to) = as_bf16(); }
  // For what nobody reads soon: it should not push out of L2 what is read again.
  __device__ void stream(__nv_bfloat16* to) const { __stcs(reinterpret_cast<uint4*>(to), as_bf16()); }
  __device__ void store(float* to) const {
    reinterpret_cast<float4*>(to)[0] = reinterpret_cast<const float4*>(value)[0];
    reinterpret_cast<float4*>(to)[1] = reinterpret_cast<const float4*>(value)[1];
  }
};

__device__ inline float warp_sum(float value) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffU, value, offset);
  return value;
}
__device__ inline float warp_max(float value) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    value = fmaxf(value, __shfl_xor_sync(0xffffffffU, value, offset));
  return value;
}

// of_warp's reduction over the whole block, in every thread; the order of its terms is fixed. Threads: a multiple
// of 32. May be called again at once.
template <class OfWarp>
__device__ inline float block_reduction(float value, float neutral, const OfWarp& of_warp) {
  __shared__ float of_warps[kWarp];
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  value = of_warp(value);
  __syncthreads();
  if (lane == 0) of_warps[warp] = value;
  __syncthreads();
  return of_warp(lane < static_cast<int>(blockDim.x) / kWarp ? of_warps[lane] : neutral);
}
__device__ inline float block_sum(float value) {
  return block_reduction(value, 0.0F, [](float of_thread) { return warp_sum(of_thread); });
}
__device__ inline float block_max(float value) {
  return block_reduction(value, -INFINITY, [](float of_thread) { return warp_max(of_thread); });
}

// The elements of a view that may be missing, or null.
template <class T>
T* optional_data(const View& view) {
  return view ? view.as<T>() : nullptr;
}

// Blocks for `items` of work where one does items_per_block: no more than fill the device `waves` times; the rest is a
// loop in the kernel.
inline unsigned num_blocks(std::int64_t items, std::int64_t items_per_block, int sms, int blocks_per_sm) {
  const std::int64_t needed = (items + items_per_block - 1) / items_per_block;
  return static_cast<unsigned>(std::min<std::int64_t>(needed, std::int64_t{sms} * blocks_per_sm));
}

}  // namespace msmoe::kernels
