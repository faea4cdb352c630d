// The router: a warp a token, expert i * 32 + lane in register i of a lane. All fp32.
#include "kernels/cuda/check.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/operators.h"
#include "kernels/cuda/requirements.h"
#include "kernels/cuda/workspace.h"

namespace msmoe::kernels {
namespace {

constexpr int kMaxExperts = 512;
constexpr int kBackwardThreads = 128, kBackwardBlocksPerSm = 12;
constexpr int kSumThreads = 1024, kSumGroups = 16;
// Few large blocks, one for each SM: each leaves partial sums, and one block adds up what all of them left. With more
// than 8 experts a lane the registers do for half as many threads.
constexpr int threads_of(int each) { return each <= 8 ? 1024 : 512; }
// Keeps the gates of a token finite when all its scores vanish, as the CPU's kernel does.
constexpr float kTinySum = 1e-20F;

struct Shape {
  std::int64_t tokens;
  int experts, top_k, groups, top_groups;
  bool is_sigmoid, normalizes;
  float scale;
};

__device__ inline float number_or_lowest(float value) { return isnan(value) ? -INFINITY : value; }

// Unsigned numbers in the order of the floats. 0 is below all of them: out of the choice.
__device__ inline unsigned key_of(float value) {
  const unsigned bits = __float_as_uint(number_or_lowest(value));
  return bits >> 31 ? ~bits : bits | 0x80000000U;
}

// The index that goes with the largest key of the warp; of equals the lowest index.
__device__ inline int best_of_warp(unsigned key, int index) {
  const unsigned best = __reduce_max_sync(0xffffffffU, key);
  return __reduce_min_sync(0xffffffffU, key == best ? index : kMaxExperts);
}

template <int kEach>
__device__ inline int best_of_keys(const unsigned (&keys)[kEach]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  unsigned best = keys[0];
  int at = 0;
#pragma unroll
  for (int i = 1; i < kEach; ++i) {
    if (keys[i] <= best) continue;
    best = keys[i];
    at = i;
  }
  return best_of_warp(best, at * kWarp + lane);
}

// What a group is as good as: its best value, or the sum of its two best.
__device__ inline float group_value(const float* values, int size, bool counts_two) {
  float first = -INFINITY, second = -INFINITY;
  for (int expert = 0; expert < size; ++expert) {
    second = fmaxf(second, fminf(first, values[expert]));
    first = fmaxf(first, values[expert]);
  }
  return counts_two && size > 1 ? first + second : first;
}

// Takes the experts outside of the best groups out of the choice. values: of all experts of the token.
template <int kEach>
__device__ inline void limit_groups(unsigned (&keys)[kEach], const float* values, const Shape& shape) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, size = shape.experts / shape.groups;
  unsigned key = lane < shape.groups ? key_of(group_value(values + lane * size, size, shape.is_sigmoid)) : 0;
  unsigned allowed = 0;
  for (int round = 0; round < shape.top_groups; ++round) {
    const int best = best_of_warp(key, lane);
    allowed |= 1U << best;
    if (lane == best) key = 0;
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i)
    if (!((allowed >> ((i * kWarp + lane) / size % kWarp)) & 1)) keys[i] = 0;
}

// What a block leaves: its sums of the normalized scores and of the squared log sum exp, and its count of each expert.
struct Partial {
  float* sums;  // [blocks, experts + 1]
  int* counts;  // [blocks, experts]
};

template <int kEach>
__global__ void __launch_bounds__(threads_of(kEach))
    route(const float* logits, const float* bias, float* scores, int* experts, float* gates, const Partial partial,
          const Shape shape) {
  constexpr int kThreads = threads_of(kEach), kWarps = kThreads / kWarp;
  __shared__ float of_warps[kWarps][kEach * kWarp + 1];
  __shared__ int counts[kEach * kWarp];
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  for (int expert = static_cast<int>(threadIdx.x); expert < shape.experts; expert += kThreads) counts[expert] = 0;
  __syncthreads();
  float probability_sums[kEach] = {}, squares = 0;
  for (std::int64_t token = std::int64_t{blockIdx.x} * kWarps + warp; token < shape.tokens;
       token += std::int64_t{gridDim.x} * kWarps) {
    float score[kEach];
    float largest = -INFINITY;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int expert = i * kWarp + lane;
      score[i] = expert < shape.experts ? __ldg(logits + token * shape.experts + expert) : -INFINITY;
      largest = fmaxf(largest, score[i]);
    }
    largest = warp_max(largest);
    float exp_sum = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const float power = expf(score[i] - largest);
      exp_sum += power;
      score[i] = shape.is_sigmoid ? 1 / (1 + expf(-score[i])) : power;
    }
    exp_sum = warp_sum(exp_sum);
    const float normalizer = largest + logf(exp_sum), factor = shape.is_sigmoid ? 1.0F : 1 / exp_sum;
    squares += normalizer * normalizer;
    unsigned keys[kEach];
    float score_sum = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int expert = i * kWarp + lane;
      keys[i] = 0;
      if (expert >= shape.experts) continue;
      score[i] *= factor;
      score_sum += score[i];
      scores[token * shape.experts + expert] = score[i];
      const float value = number_or_lowest(score[i] + (bias == nullptr ? 0.0F : bias[expert]));
      keys[i] = key_of(value);
      if (shape.top_groups < shape.groups) of_warps[warp][expert] = value;
    }
    const float inverse_sum = 1 / (warp_sum(score_sum) + kTinySum);
#pragma unroll
    for (int i = 0; i < kEach; ++i)
      if (i * kWarp + lane < shape.experts) probability_sums[i] += score[i] * inverse_sum;
    if (shape.top_groups < shape.groups) {
      __syncwarp();
      limit_groups(keys, of_warps[warp], shape);
      __syncwarp();
    }

    // Choice c ends up in lane c.
    int my_expert = 0;
    for (int choice = 0; choice < shape.top_k; ++choice) {
      const int best = best_of_keys(keys);
      if (lane == choice) my_expert = best;
#pragma unroll
      for (int i = 0; i < kEach; ++i)
        if (i * kWarp + lane == best) keys[i] = 0;
    }
    float my_score = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const float of_owner = __shfl_sync(0xffffffffU, score[i], my_expert % kWarp);
      if (my_expert / kWarp == i) my_score = of_owner;
    }
    const bool chooses = lane < shape.top_k;
    const float chosen_sum = warp_sum(chooses ? my_score : 0.0F) + kTinySum;
    if (chooses) {
      experts[token * shape.top_k + lane] = my_expert;
      gates[token * shape.top_k + lane] = my_score * (shape.scale / (shape.normalizes ? chosen_sum : 1));
      atomicAdd(&counts[my_expert], 1);
    }
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kEach; ++i)
    if (i * kWarp + lane < shape.experts) of_warps[warp][i * kWarp + lane] = probability_sums[i];
  if (lane == 0) of_warps[warp][shape.experts] = squares;
  __syncthreads();
  for (int column = static_cast<int>(threadIdx.x); column <= shape.experts; column += kThreads) {
    float sum = 0;
    for (int other = 0; other < kWarps; ++other) sum += of_warps[other][column];
    partial.sums[std::int64_t{blockIdx.x} * (shape.experts + 1) + column] = sum;
    if (column < shape.experts) partial.counts[std::int64_t{blockIdx.x} * shape.experts + column] = counts[column];
  }
}

// Adds up what the blocks left, always in the same order: each group of as many threads as there are columns adds some
// of the blocks, then the first group adds the groups.
__global__ void __launch_bounds__(kSumThreads)
    add_partials(const Partial partial, int* counts, float* losses, int blocks, const Shape shape) {
  __shared__ float sums_of[kSumThreads];
  __shared__ int counts_of[kSumThreads];
  const int thread = static_cast<int>(threadIdx.x), columns = shape.experts + 1;
  const int groups = min(kSumThreads / columns, kSumGroups);
  const int column = thread % columns, group = thread / columns;
  float sum = 0;
  int count = 0;
#pragma unroll 8
  for (int block = group; block < (group < groups ? blocks : 0); block += groups) {
    sum += partial.sums[block * columns + column];
    if (column < shape.experts) count += partial.counts[block * shape.experts + column];
  }
  sums_of[thread] = sum;
  counts_of[thread] = count;
  __syncthreads();
  if (group == 0) {
    for (int other = 1; other < groups; ++other) {
      sum += sums_of[other * columns + column];
      count += counts_of[other * columns + column];
    }
  }
  const bool is_expert = thread < shape.experts;
  if (is_expert) counts[thread] = count;
  if (losses == nullptr) return;
  const float balance = block_sum(is_expert ? sum * static_cast<float>(count) : 0.0F);
  if (thread != shape.experts) return;  // the one whose column is that of the squares
  const auto tokens = static_cast<float>(max(shape.tokens, std::int64_t{1}));
  losses[0] = static_cast<float>(shape.experts) / (static_cast<float>(shape.top_k) * tokens) * (balance / tokens);
  losses[1] = sum / tokens;
}

// The equations stand beside the CPU's kernel (kernels/cpu/router.cc).
template <int kEach>
__global__ void __launch_bounds__(kBackwardThreads)
    route_backward(const float* logits, const float* scores, const int* experts, const int* counts,
                   const float* gate_gradient, float* logit_gradient, float aux_scale, float z_scale,
                   const Shape shape) {
  constexpr int kWarps = kBackwardThreads / kWarp;
  __shared__ float reaches[kWarps][kMaxExperts];  // what comes to each score through the gates
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const auto tokens = static_cast<float>(shape.tokens);
  const float balance_scale =
      aux_scale * static_cast<float>(shape.experts) / (static_cast<float>(shape.top_k) * tokens * tokens);
  for (std::int64_t token = std::int64_t{blockIdx.x} * kWarps + warp; token < shape.tokens;
       token += std::int64_t{gridDim.x} * kWarps) {
    for (int expert = lane; expert < shape.experts; expert += kWarp) reaches[warp][expert] = 0;
    __syncwarp();
    const bool chooses = lane < shape.top_k;
    const int chosen = chooses ? experts[token * shape.top_k + lane] : 0;
    const float gradient = chooses ? gate_gradient[token * shape.top_k + lane] : 0.0F;
    const float chosen_score = chooses ? scores[token * shape.experts + chosen] : 0.0F;
    const float sum = warp_sum(chosen_score) + kTinySum, weighted = warp_sum(gradient * chosen_score);
    if (chooses)
      reaches[warp][chosen] =
          shape.normalizes ? shape.scale / sum * (gradient - weighted / sum) : shape.scale * gradient;
    __syncwarp();

    float score[kEach], logit[kEach], d[kEach];
    float largest = -INFINITY, score_sum = 0, balance = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int expert = i * kWarp + lane;
      const bool is_there = expert < shape.experts;
      score[i] = is_there ? scores[token * shape.experts + expert] : 0.0F;
      logit[i] = is_there ? logits[token * shape.experts + expert] : -INFINITY;
      d[i] = is_there ? balance_scale * static_cast<float>(counts[expert]) : 0.0F;
      largest = fmaxf(largest, logit[i]);
      score_sum += score[i];
      balance += d[i] * score[i];
    }
    largest = warp_max(largest);
    score_sum = warp_sum(score_sum) + kTinySum;
    balance = warp_sum(balance) / score_sum;
    float exp_sum = 0, passed = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int expert = i * kWarp + lane;
      if (expert >= shape.experts) continue;
      exp_sum += expf(logit[i] - largest);
      d[i] = (d[i] - balance) / score_sum + reaches[warp][expert];
      passed += d[i] * score[i];
    }
    const float normalizer = largest + logf(warp_sum(exp_sum));
    passed = warp_sum(passed);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int expert = i * kWarp + lane;
      if (expert >= shape.experts) continue;
      const float through_scores = shape.is_sigmoid ? d[i] * score[i] * (1 - score[i]) : score[i] * (d[i] - passed);
      logit_gradient[token * shape.experts + expert] =
          through_scores + z_scale * 2 * normalizer / tokens * expf(logit[i] - normalizer);
    }
    __syncwarp();
  }
}

Shape shape_of(const RouterShape& shape, const View& logits, const char* operation) {
  require(logits.element == Element::kFp32 && logits.columns >= 1 && logits.columns <= kMaxExperts, operation,
          "logits are fp32, of 1 to 512 experts");
  require(shape.groups >= 1 && shape.groups <= kWarp && logits.columns % shape.groups == 0, operation,
          "1 to 32 groups of equally many experts");
  require(shape.top_groups >= 1 && shape.top_groups <= shape.groups, operation, "1 to `groups` top groups");
  require(shape.top_k >= 1 && shape.top_k <= kWarp && shape.top_k <= logits.columns / shape.groups * shape.top_groups,
          operation, "top_k is 1 to 32, and no more than there are experts to choose from");
  return {logits.rows,      static_cast<int>(logits.columns),   shape.top_k,     shape.groups,
          shape.top_groups, shape.scoring == Scoring::kSigmoid, shape.normalize, static_cast<float>(shape.scale)};
}
void require_size(const View& view, Element element, std::int64_t size, const char* operation, const char* what) {
  require(view.element == element && view.size() == size, operation, what);
}

template <class Function>
void with_each(int experts, const Function& function) {
  if (experts <= kWarp) return function(std::integral_constant<int, 1>());
  if (experts <= 2 * kWarp) return function(std::integral_constant<int, 2>());
  if (experts <= 4 * kWarp) return function(std::integral_constant<int, 4>());
  if (experts <= 8 * kWarp) return function(std::integral_constant<int, 8>());
  function(std::integral_constant<int, 16>());
}

}  // namespace

std::size_t router_workspace_bytes(const Router& op, int sms) {
  return static_cast<std::size_t>(sms) *
         (static_cast<std::size_t>(op.logits.columns + 1) * sizeof(float) + op.counts.bytes());
}

void launch(const Router& op, const DeviceLaunch& on) {
  const Shape shape = shape_of(op.shape, op.logits, "router");
  const std::int64_t assignments = shape.tokens * shape.top_k;
  require_size(op.scores, Element::kFp32, op.logits.size(), "router", "scores are fp32 [tokens, experts]");
  require_size(op.experts, Element::kInt32, assignments, "router", "experts are int32 [tokens, k]");
  require_size(op.gates, Element::kFp32, assignments, "router", "gates are fp32 [tokens, k]");
  require_size(op.counts, Element::kInt32, shape.experts, "router", "counts are int32 [1, experts]");
  if (op.bias) require_size(op.bias, Element::kFp32, shape.experts, "router", "bias is fp32 [1, experts]");
  if (op.losses) require_size(op.losses, Element::kFp32, 2, "router", "losses are fp32 [1, 2]");
  auto* sums = static_cast<float*>(on.workspace);
  const Partial partial{sums, reinterpret_cast<int*>(sums + on.sms * (shape.experts + 1))};
  with_each(shape.experts, [&](auto each) {
    constexpr int kEach = decltype(each)::value, kThreads = threads_of(kEach);
    const unsigned blocks = std::max(1U, num_blocks(shape.tokens, kThreads / kWarp, on.sms, 1));
    route<kEach><<<blocks, kThreads, 0, on.stream>>>(op.logits.as<float>(), optional_data<float>(op.bias),
                                                     op.scores.as<float>(), op.experts.as<int>(), op.gates.as<float>(),
                                                     partial, shape);
    MSMOE_CHECK(cudaGetLastError());
    add_partials<<<1, kSumThreads, 0, on.stream>>>(partial, op.counts.as<int>(), optional_data<float>(op.losses),
                                                   static_cast<int>(blocks), shape);
  });
  MSMOE_CHECK(cudaGetLastError());
}

void launch(const RouterBackward& op, const DeviceLaunch& on) {
  const Shape shape = shape_of(op.shape, op.logits, "router_backward");
  const std::int64_t assignments = shape.tokens * shape.top_k;
  for (const View& view : {op.scores, op.logit_gradient})
    require_size(view, Element::kFp32, op.logits.size(), "router_backward",
                 "scores and logit_gradient are fp32 [tokens, experts]");
  require_size(op.experts, Element::kInt32, assignments, "router_backward", "experts are int32 [tokens, k]");
  require_size(op.gate_gradient, Element::kFp32, assignments, "router_backward", "gate_gradient is fp32 [tokens, k]");
  require_size(op.counts, Element::kInt32, shape.experts, "router_backward", "counts are int32 [1, experts]");
  if (shape.tokens == 0) return;
  const unsigned blocks = num_blocks(shape.tokens, kBackwardThreads / kWarp, on.sms, kBackwardBlocksPerSm);
  with_each(shape.experts, [&](auto each) {
    route_backward<decltype(each)::value><<<blocks, kBackwardThreads, 0, on.stream>>>(
        op.logits.as<float>(), op.scores.as<float>(), op.experts.as<int>(), op.counts.as<int>(),
        op.gate_gradient.as<float>(), op.logit_gradient.as<float>(), static_cast<float>(op.aux_scale),
        static_cast<float>(op.z_scale), shape);
  });
  MSMOE_CHECK(cudaGetLastError());
}

}  // namespace msmoe::kernels
