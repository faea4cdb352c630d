// How the router chooses the experts of a token: the largest values win, of equals the lowest expert.
//
// The k-th largest of the lanes' best values bounds the k-th largest of all from below, so only the few values that
// reach it are candidates. They move to one lane each, and a lane's place among the chosen is how many others beat it.
// Tokens that this does not fit (more candidates than lanes, or fewer lanes with a finite value than choices) are
// chosen for one expert after the other.
#pragma once

#include <climits>

#include "kernels/cuda/router.cuh"

namespace msmoe::kernels {

// Where an expert's value is kept in shared memory: groups of 32 experts start four banks apart.
__device__ constexpr unsigned slot_of(unsigned expert) { return expert + expert / kWarp * 4; }

__device__ inline float number_or_lowest(float value) { return fmaxf(value, -INFINITY); }

// Unsigned numbers in the order of the floats. 0 is below all of them: out of the choice.
__device__ inline unsigned key_of(float value) {
  return static_cast<unsigned>(order_of(number_or_lowest(value))) ^ 0x80000000U;
}

// The index that goes with the largest key of the warp; of equals the lowest index.
__device__ inline int best_of_warp(unsigned key, int index) {
  const unsigned best = __reduce_max_sync(kAllLanes, key);
  return __reduce_min_sync(kAllLanes, key == best ? index : kMaxExperts);
}

// Of one token, in shared memory. scores: by slot. bias: of every expert.
struct Token {
  const float *scores, *bias;

  __device__ float score(int expert) const { return scores[slot_of(expert)]; }
  __device__ float value(int expert) const { return score(expert) + bias[expert]; }
};

// The groups of a token: bit g of what is allowed stands for group g.
struct Groups {
  // Multiplied by an expert and shifted, gives its group: exact for all experts and sizes up to kMaxExperts.
  static constexpr int kShift = 20;
  int size, inverse_size;

  __device__ explicit Groups(const RoutingSizes& sizes)
      : size(sizes.experts / sizes.groups), inverse_size(((1 << kShift) + size - 1) / size) {}
  __device__ bool allows(unsigned allowed, int expert) const {
    return (allowed >> ((expert * inverse_size >> kShift) % kWarp)) & 1;
  }
};

// A group is as good as its best value, or the sum of its two best with sigmoid scores. Several lanes share a group.
static __device__ __noinline__ unsigned best_groups(const Token token, int groups, int size, int top_groups,
                                                    bool counts_two) {
  const int lanes_log2 = __clz(groups - 1) - 27, lanes = 1 << lanes_log2;  // a group's, of 32
  const int lane = static_cast<int>(threadIdx.x % kWarp), group = lane >> lanes_log2, part = lane & (lanes - 1);
  float first = -INFINITY, second = -INFINITY;
#pragma unroll 2
  for (int i = part; i < (group < groups ? size : 0); i += lanes) {
    const float value = number_or_lowest(token.value(group * size + i));
    second = fmaxf(second, fminf(first, value));
    first = fmaxf(first, value);
  }
#pragma unroll 1
  for (int offset = 1; offset < lanes; offset *= 2) {
    const float other_first = __shfl_xor_sync(kAllLanes, first, offset);
    const float other_second = __shfl_xor_sync(kAllLanes, second, offset);
    second = fmaxf(fmaxf(second, other_second), fminf(first, other_first));
    first = fmaxf(first, other_first);
  }
  unsigned key = part == 0 && group < groups ? key_of(counts_two && size > 1 ? first + second : first) : 0;
  unsigned allowed = 0;
#pragma unroll 1
  for (int round = 0; round < top_groups; ++round) {
    const int best = best_of_warp(key, lane);
    allowed |= 1U << (best >> lanes_log2);
    if (lane == best) key = 0;
  }
  return allowed;
}

// One expert after the other, whatever the values are. Choice c is what lane c returns.
static __device__ __noinline__ int choose_one_by_one(const Token token, const Groups groups, unsigned allowed,
                                                     int experts, int top_k) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  unsigned taken = 0;  // of the lane's experts
  int mine = 0;
#pragma unroll 1
  for (int choice = 0; choice < top_k; ++choice) {
    unsigned best = 0;
    int best_expert = 0;
#pragma unroll 2
    for (int expert = lane; expert < experts; expert += kWarp) {
      if ((taken >> (expert / kWarp)) & 1 || !groups.allows(allowed, expert)) continue;
      const unsigned key = key_of(token.value(expert));
      if (key <= best) continue;
      best = key;
      best_expert = expert;
    }
    const int chosen = best_of_warp(best, best_expert);
    if (chosen % kWarp == lane) taken |= 1U << (chosen / kWarp);
    if (lane == choice) mine = chosen;
  }
  return mine;
}

// What a warp uses in shared memory to choose.
struct Candidates {
  alignas(16) float values[kWarp];
  int experts[kWarp];
};

// What a lane brings to the choice. Places are 0 for the best to k - 1; k or more if the lane has none.
struct Choice {
  int expert, place;
  float score;
};

// Predicated instructions, which the compiler makes two or three of each.
__device__ inline void count_if_at_least(int& count, float value, float bound) {
  asm("{ .reg .pred p; setp.ge.f32 p, %1, %2; @p add.s32 %0, %0, 1; }" : "+r"(count) : "f"(value), "f"(bound));
}
__device__ inline void store_if_at_least(unsigned& to, int what, float value, float bound) {
  asm volatile("{ .reg .pred p; setp.ge.f32 p, %2, %3; @p st.shared.s32 [%0], %1; @p add.u32 %0, %0, 4; }"
               : "+r"(to)
               : "r"(what), "f"(value), "f"(bound)
               : "memory");
}

// Of this lane and those before it.
__device__ inline int sum_up_to_lane(int value) {
#pragma unroll
  for (int offset = 1; offset < kWarp; offset *= 2)
    asm volatile(
        "{ .reg .pred p; .reg .s32 before; shfl.sync.up.b32 before|p, %0, %1, 0, 0xffffffff;"
        " @p add.s32 %0, %0, before; }"
        : "+r"(value)
        : "r"(offset));
  return value;
}

// values: of the experts from `first` on, NaN for those that may not be chosen or are no numbers.
template <class Mine, int kEach>
__device__ inline Choice choose(const float (&values)[kEach], int first, const Token& token, const Groups& groups,
                                unsigned allowed, Candidates& candidates, int experts, int top_k) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  float best = -INFINITY;
#pragma unroll
  for (int i = 0; i < kEach; ++i) best = fmaxf(best, values[i]);
  int order = order_of(best), bound_order = 0;
#pragma unroll 4
  for (int choice = 0; choice < top_k; ++choice) {
    bound_order = __reduce_max_sync(kAllLanes, order);
    if (order == bound_order) order = INT_MIN;
  }
  const float bound = __int_as_float(ordered(bound_order));  // NaN once all lanes are used up

  int count = 0;
#pragma unroll
  for (int i = 0; i < kEach; ++i) count_if_at_least(count, values[i], bound);
  const int end = sum_up_to_lane(count), num_candidates = __shfl_sync(kAllLanes, end, kWarp - 1);
  if (!(bound > -INFINITY) || num_candidates > kWarp) {
    const int mine = choose_one_by_one(token, groups, allowed, experts, top_k);
    return {mine, lane, token.score(mine)};
  }

  auto to = static_cast<unsigned>(__cvta_generic_to_shared(candidates.experts + (end - count)));
#pragma unroll
  for (int i = 0; i < kEach; ++i) store_if_at_least(to, first + Mine::distance(i), values[i], bound);
  __syncwarp();
  const bool has_candidate = lane < num_candidates;
  const int expert = candidates.experts[has_candidate ? lane : 0];
  const float score = token.score(expert), value = has_candidate ? score + token.bias[expert] : -INFINITY;
  candidates.values[lane] = value;
  __syncwarp();
  int place = 0;
#pragma unroll 1
  for (int other = 0; other < num_candidates; other += 4) {
    const float4 four = *reinterpret_cast<const float4*>(candidates.values + other);
    count_if_at_least(place, four.x, value);
    count_if_at_least(place, four.y, value);
    count_if_at_least(place, four.z, value);
    count_if_at_least(place, four.w, value);
  }
  --place;  // itself
  // Equal candidates share a place, and places add up to more: then the lower expert goes first.
  if (__reduce_add_sync(kAllLanes, has_candidate ? place : 0) != num_candidates * (num_candidates - 1) / 2) {
#pragma unroll 1
    for (int other = 0; other < num_candidates; ++other)
      place -= static_cast<int>(candidates.values[other] == value && candidates.experts[other] > expert);
  }
  return {expert, has_candidate ? place : kWarp, score};
}

}  // namespace msmoe::kernels
