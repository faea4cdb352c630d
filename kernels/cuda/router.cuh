// What the router's kernels share. All is fp32. A warp works on a token, with the experts in the registers of its
// lanes; a thread does where there are few experts.
#pragma once

#include <limits>
#include <type_traits>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/requirements.h"
#include "kernels/kernels.h"

namespace msmoe::kernels {

inline constexpr int kMaxExperts = 512, kFewExperts = 32;
inline constexpr unsigned kAllLanes = 0xffffffffU;
inline constexpr float kLog2E = 1.44269504F, kLn2 = 0.693147181F;
// Keeps the gates of a token finite when all its scores vanish, as the CPU's kernel does.
inline constexpr float kTinySum = 1e-20F;

struct RoutingSizes {
  std::int64_t tokens;
  int experts, top_k, groups, top_groups;
  bool is_sigmoid, normalizes;
  float scale;
};

// The special function unit's: good to about 2e-7, and 0 instead of a denormal number.
__device__ inline float fast_exp2(float value) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
  return result;
}
__device__ inline float fast_log2(float value) {
  float result;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
  return result;
}
__device__ inline float fast_inverse(float value) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
  return result;
}

// Signed numbers in the order of the floats, and back: a function that is its own inverse.
__device__ inline int ordered(int bits) { return bits ^ ((bits >> 31) & 0x7fffffff); }
__device__ inline int order_of(float value) { return ordered(__float_as_int(value)); }
// The largest of the warp, in one instruction where warp_max needs ten. No value is NaN.
__device__ inline float fast_warp_max(float value) {
  return __int_as_float(ordered(__reduce_max_sync(kAllLanes, order_of(value))));
}

// A lane's experts: kEach in registers, of which up to four neighbours are moved by one access. kIsFull: all lanes'
// make up the row, and rows are aligned; else some registers may stand for no expert.
template <int kEach, bool kIsFull>
struct Lane {
  static constexpr int kVector = std::min(kEach, 4);
  struct alignas(sizeof(float) * kVector) Vector {
    float values[kVector];
  };

  // Of register 0; and how far from there that of another register is.
  __device__ static int first_expert() { return static_cast<int>(threadIdx.x % kWarp) * kVector; }
  __device__ static constexpr int distance(int i) { return i / kVector * kVector * kWarp + i % kVector; }
  __device__ static bool has(int i, int experts) { return kIsFull || first_expert() < experts - distance(i); }

  // row: from first_expert() on, of a row of `experts` values. Registers beyond them stay as they are.
  __device__ static void load(float (&values)[kEach], const float* row, int experts, bool is_aligned) {
#pragma unroll
    for (int i = 0; i < kEach; i += kVector) {
      if (kIsFull || is_aligned) {
        if (!has(i, experts)) continue;
        const Vector vector = *reinterpret_cast<const Vector*>(row + distance(i));
#pragma unroll
        for (int j = 0; j < kVector; ++j) values[i + j] = vector.values[j];
      } else {
#pragma unroll
        for (int j = 0; j < kVector; ++j)
          if (has(i + j, experts)) values[i + j] = row[distance(i + j)];
      }
    }
  }
  __device__ static void store(const float (&values)[kEach], float* row, int experts, bool is_aligned) {
#pragma unroll
    for (int i = 0; i < kEach; i += kVector) {
      if (kIsFull || is_aligned) {
        if (!has(i, experts)) continue;
        Vector vector;
#pragma unroll
        for (int j = 0; j < kVector; ++j) vector.values[j] = values[i + j];
        *reinterpret_cast<Vector*>(row + distance(i)) = vector;
      } else {
#pragma unroll
        for (int j = 0; j < kVector; ++j)
          if (has(i + j, experts)) row[distance(i + j)] = values[i + j];
      }
    }
  }
};

// A thread's row, moved four at a time if it is aligned. Registers beyond it stay as they are.
template <int kExperts>
__device__ inline void load_row(float (&values)[kExperts], const float* row, int experts, bool is_aligned) {
#pragma unroll
  for (int e = 0; e < kExperts; e += 4) {
    if (is_aligned) {
      if (e >= experts) continue;
      const float4 four = *reinterpret_cast<const float4*>(row + e);
      values[e] = four.x, values[e + 1] = four.y, values[e + 2] = four.z, values[e + 3] = four.w;
    } else {
#pragma unroll
      for (int i = e; i < e + 4; ++i)
        if (i < experts) values[i] = row[i];
    }
  }
}
template <int kExperts>
__device__ inline void store_row(const float (&values)[kExperts], float* row, int experts, bool is_aligned) {
#pragma unroll
  for (int e = 0; e < kExperts; e += 4) {
    if (is_aligned) {
      if (e < experts) *reinterpret_cast<float4*>(row + e) = {values[e], values[e + 1], values[e + 2], values[e + 3]};
    } else {
#pragma unroll
      for (int i = e; i < e + 4; ++i)
        if (i < experts) row[i] = values[i];
    }
  }
}

// Calls function(experts a thread holds at most).
template <class Function>
void with_few(int experts, const Function& function) {
  if (experts <= 8) return function(std::integral_constant<int, 8>());
  if (experts <= 16) return function(std::integral_constant<int, 16>());
  function(std::integral_constant<int, kFewExperts>());
}

// Calls function(experts a lane, whether Lane is full).
template <class Function>
void with_lanes(int experts, bool is_aligned, const Function& function) {
  const auto with = [&](auto each) {
    if (is_aligned && experts == each * kWarp) return function(each, std::true_type());
    function(each, std::false_type());
  };
  if (experts <= 2 * kWarp) return with(std::integral_constant<int, 2>());
  if (experts <= 4 * kWarp) return with(std::integral_constant<int, 4>());
  if (experts <= 8 * kWarp) return with(std::integral_constant<int, 8>());
  with(std::integral_constant<int, 16>());
}

inline RoutingSizes sizes_of(const RouterShape& shape, const View& logits, const char* operation) {
  require(logits.element == Element::kFp32 && logits.columns >= 1 && logits.columns <= kMaxExperts, operation,
          "logits are fp32, of 1 to 512 experts");
  require(shape.groups >= 1 && shape.groups <= kWarp && logits.columns % shape.groups == 0, operation,
          "1 to 32 groups of equally many experts");
  require(shape.top_groups >= 1 && shape.top_groups <= shape.groups, operation, "1 to `groups` top groups");
  require(shape.top_k >= 1 && shape.top_k <= kWarp && shape.top_k <= logits.columns / shape.groups * shape.top_groups,
          operation, "top_k is 1 to 32, and no more than there are experts to choose from");
  require(logits.rows * shape.top_k <= std::numeric_limits<std::int32_t>::max(), operation,
          "assignments of tokens to experts are numbered by int32");
  return {logits.rows,      static_cast<int>(logits.columns),   shape.top_k,     shape.groups,
          shape.top_groups, shape.scoring == Scoring::kSigmoid, shape.normalize, static_cast<float>(shape.scale)};
}

inline void require_size(const View& view, Element element, std::int64_t size, const char* operation,
                         const char* what) {
  require(view.element == element && view.size() == size, operation, what);
}

// Whether rows of this matrix may be moved 16 bytes at a time.
inline bool has_aligned_rows(const View& view) {
  return view.columns % 4 == 0 && reinterpret_cast<std::uintptr_t>(view.data) % 16 == 0;
}

}  // namespace msmoe::kernels
