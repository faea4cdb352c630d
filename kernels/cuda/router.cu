// The router: a warp a token, expert i * 32 + lane in register i of a lane. All fp32.
#include "kernels/cuda/check.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/libraries.h"
#include "kernels/cuda/workspace.h"

namespace msmoe::kernels {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / kWarp;
constexpr int kBlocksPerSm = 4;
constexpr int kMaxExperts = 512;
// Keeps the gates of a token finite when all its scores vanish, as the CPU's kernel does.
constexpr float kTinySum = 1e-20F;

struct Shape {
  std::int64_t tokens;
  int experts, top_k, groups, top_groups;
  bool is_sigmoid, normalizes;
  float scale;
};

// The largest over the warp; of equals the lowest index.
struct Best {
  float value;
  int index;
};
__device__ inline Best best_of_warp(Best best) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const float value = __shfl_xor_sync(0xffffffffU, best.value, offset);
    const int index = __shfl_xor_sync(0xffffffffU, best.index, offset);
    if (value > best.value || (value == best.value && index < best.index)) best = {value, index};
  }
  return best;
}

template <int kEach>
__device__ inline Best best_of_values(const float (&values)[kEach], int experts) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  Best best{-INFINITY, kMaxExperts};
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int expert = i * kWarp + lane;
    if (expert < experts && values[i] > best.value) best = {values[i], expert};
  }
  return best_of_warp(best);
}

// Sets the values of experts outside of the best groups to minus infinity. `shared`: as many floats as experts.
template <int kEach>
__device__ inline void limit_groups(float (&values)[kEach], float* shared, const Shape& shape) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, size = shape.experts / shape.groups;
#pragma unroll
  for (int i = 0; i < kEach; ++i)
    if (i * kWarp + lane < shape.experts) shared[i * kWarp + lane] = values[i];
  __syncwarp();
  float group_value = -INFINITY;
  if (lane < shape.groups) {
    float first = -INFINITY, second = -INFINITY;
    for (int expert = lane * size; expert < (lane + 1) * size; ++expert) {
      const float value = shared[expert];
      if (value > first) {
        second = first;
        first = value;
      } else if (value > second) {
        second = value;
      }
    }
    group_value = shape.is_sigmoid && size > 1 ? first + second : first;
  }
  __syncwarp();
  unsigned allowed = 0;
  for (int round = 0; round < shape.top_groups; ++round) {
    const Best best = best_of_warp({(allowed >> lane) & 1 ? -INFINITY : group_value, lane});
    allowed |= 1U << best.index;
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i)
    if (!((allowed >> ((i * kWarp + lane) / size % kWarp)) & 1)) values[i] = -INFINITY;
}

// partial [blocks, experts + 1]: sums of the normalized scores, and of the squared log sum exp.
template <int kEach>
__global__ void __launch_bounds__(kThreads) route(const float* logits, const float* bias, float* scores, int* experts,
                                                  float* gates, int* counts, float* partial, const Shape shape) {
  __shared__ float of_warps[kWarps][kMaxExperts + 1];
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  float probability_sums[kEach] = {}, squares = 0;
  for (std::int64_t token = std::int64_t{blockIdx.x} * kWarps + warp; token < shape.tokens;
       token += std::int64_t{gridDim.x} * kWarps) {
    float score[kEach], value[kEach];
    float largest = -INFINITY;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int expert = i * kWarp + lane;
      score[i] = expert < shape.experts ? logits[token * shape.experts + expert] : -INFINITY;
      largest = fmaxf(largest, score[i]);
    }
    largest = warp_max(largest);
    float exp_sum = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) exp_sum += expf(score[i] - largest);
    const float normalizer = largest + logf(warp_sum(exp_sum));
    squares += normalizer * normalizer;
    float score_sum = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int expert = i * kWarp + lane;
      score[i] = shape.is_sigmoid ? 1 / (1 + expf(-score[i])) : expf(score[i] - normalizer);
      value[i] = -INFINITY;
      if (expert >= shape.experts) continue;
      score_sum += score[i];
      scores[token * shape.experts + expert] = score[i];
      value[i] = score[i] + (bias == nullptr ? 0.0F : bias[expert]);
    }
    score_sum = warp_sum(score_sum) + kTinySum;
#pragma unroll
    for (int i = 0; i < kEach; ++i)
      if (i * kWarp + lane < shape.experts) probability_sums[i] += score[i] / score_sum;
    if (shape.top_groups < shape.groups) limit_groups(value, of_warps[warp], shape);

    // Choice c, with its score, ends up in lane c.
    int my_expert = 0;
    float my_score = 0, chosen_sum = kTinySum;
    for (int choice = 0; choice < shape.top_k; ++choice) {
      Best best = best_of_values(value, shape.experts);
      if (best.index >= shape.experts) best.index = choice;  // all that is left is not a number
      float chosen = 0;
#pragma unroll
      for (int i = 0; i < kEach; ++i)
        if (i * kWarp + lane == best.index) {
          chosen = score[i];
          value[i] = -INFINITY;
        }
      chosen = __shfl_sync(0xffffffffU, chosen, best.index % kWarp);
      chosen_sum += chosen;
      if (lane == choice) {
        my_expert = best.index;
        my_score = chosen;
      }
    }
    if (lane < shape.top_k) {
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
    partial[std::int64_t{blockIdx.x} * (shape.experts + 1) + column] = sum;
  }
}

__global__ void __launch_bounds__(kMaxExperts)
    add_losses(const float* partial, const int* counts, float* losses, int blocks, const Shape shape) {
  const int expert = static_cast<int>(threadIdx.x);
  float sum = 0, squares = 0;
  for (int block = 0; block < blocks; ++block) {
    const float* row = partial + std::int64_t{block} * (shape.experts + 1);
    if (expert < shape.experts) sum += row[expert];
    if (expert == 0) squares += row[shape.experts];
  }
  const float balance = block_sum(expert < shape.experts ? sum * static_cast<float>(counts[expert]) : 0.0F);
  if (expert != 0) return;
  const auto tokens = static_cast<float>(max(shape.tokens, std::int64_t{1}));
  losses[0] = static_cast<float>(shape.experts) / (static_cast<float>(shape.top_k) * tokens) * (balance / tokens);
  losses[1] = squares / tokens;
}

// The equations stand beside the CPU's kernel (kernels/cpu/router.cc).
template <int kEach>
__global__ void __launch_bounds__(kThreads)
    route_backward(const float* logits, const float* scores, const int* experts, const int* counts,
                   const float* gate_gradient, float* logit_gradient, float aux_scale, float z_scale,
                   const Shape shape) {
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

unsigned router_blocks(std::int64_t tokens, int sms) {
  return std::max(1U, num_blocks(tokens, kWarps, sms, kBlocksPerSm));
}

template <class Function>
void with_each(int experts, const Function& function) {
  if (experts <= 2 * kWarp) return function(std::integral_constant<int, 2>());
  if (experts <= 4 * kWarp) return function(std::integral_constant<int, 4>());
  if (experts <= 8 * kWarp) return function(std::integral_constant<int, 8>());
  function(std::integral_constant<int, 16>());
}

}  // namespace

std::size_t router_workspace_bytes(const Router& op, int sms) {
  return router_blocks(op.logits.rows, sms) * static_cast<std::size_t>(op.logits.columns + 1) * sizeof(float);
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
  MSMOE_CHECK(cudaMemsetAsync(op.counts.data, 0, op.counts.bytes(), on.stream));
  const unsigned blocks = router_blocks(shape.tokens, on.sms);
  auto* partial = static_cast<float*>(on.workspace);
  with_each(shape.experts, [&](auto each) {
    route<decltype(each)::value><<<blocks, kThreads, 0, on.stream>>>(
        op.logits.as<float>(), optional_data<float>(op.bias), op.scores.as<float>(), op.experts.as<int>(),
        op.gates.as<float>(), op.counts.as<int>(), partial, shape);
  });
  MSMOE_CHECK(cudaGetLastError());
  if (!op.losses) return;
  add_losses<<<1, kMaxExperts, 0, on.stream>>>(partial, op.counts.as<int>(), op.losses.as<float>(),
                                               static_cast<int>(blocks), shape);
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
  with_each(shape.experts, [&](auto each) {
    route_backward<decltype(each)::value><<<router_blocks(shape.tokens, on.sms), kThreads, 0, on.stream>>>(
        op.logits.as<float>(), op.scores.as<float>(), op.experts.as<int>(), op.counts.as<int>(),
        op.gate_gradient.as<float>(), op.logit_gradient.as<float>(), static_cast<float>(op.aux_scale),
        static_cast<float>(op.z_scale), shape);
  });
  MSMOE_CHECK(cudaGetLastError());
}

}  // namespace msmoe::kernels
