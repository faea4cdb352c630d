// The router's backward pass: a warp a token, or a thread a token where there are few experts. The equations stand
// beside the CPU's kernel (kernels/cpu/router.cc). Softmax spares two sums over all experts: those of (a_e - mean) s_e
// are 0, so that
//
//   sum_e d_e s_e = sum over C of d/ds_c s_c = scale / D sum over C of G_c s_c, times kTinySum / D with normalization;
//
// and the scores are the softmax that the z loss asks for, so l* = max l - log(max s).
#include "kernels/cuda/check.h"
#include "kernels/cuda/operators.h"
#include "kernels/cuda/router.cuh"

namespace msmoe::kernels {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / kWarp, kBlocksPerSm = 12;

struct Scales {
  float balance, z;  // d/dp_e by the count of e; d/dl_e by log sum exp(l) softmax(l)_e
};

// How the gradient of a gate reaches its score. sum: of the chosen scores, and kTinySum. weighted: of G_c s_c.
struct Reach {
  float factor, common, through_softmax;

  __device__ Reach(float sum, float weighted, const RoutingSizes& sizes) {
    const float inverse = sizes.normalizes ? fast_inverse(sum) : 1.0F;
    factor = sizes.scale * inverse;
    common = sizes.normalizes ? weighted * inverse : 0.0F;
    through_softmax = factor * (sizes.normalizes ? weighted * (kTinySum * inverse) : weighted);
  }
  __device__ float of(float gate_gradient) const { return factor * (gate_gradient - common); }
};

template <int kEach, bool kIsFull>
__global__ void __launch_bounds__(kThreads)
    route_backward(const float* logits, const float* scores, const int* chosen, const int* counts,
                   const float* gate_gradient, float* logit_gradient, const Scales scales, bool is_aligned,
                   const RoutingSizes sizes) {
  using Mine = Lane<kEach, kIsFull>;
  constexpr int kSlots = kEach * kWarp;
  __shared__ alignas(16) float reaches[kWarps][kSlots];  // 0 but for the chosen experts of a warp's token
  const int lane = static_cast<int>(threadIdx.x % kWarp), warp = static_cast<int>(threadIdx.x / kWarp);
  const int first = Mine::first_expert(), experts = kIsFull ? kSlots : sizes.experts;
  const bool chooses = lane < sizes.top_k;
  float balance[kEach], score[kEach] = {}, logit[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    reaches[warp][first + Mine::distance(i)] = 0;
    balance[i] = Mine::has(i, experts) ? scales.balance * static_cast<float>(counts[first + Mine::distance(i)]) : 0.0F;
    logit[i] = -INFINITY;
  }
  const unsigned stride = gridDim.x * kWarps;
  for (unsigned token = blockIdx.x * kWarps + static_cast<unsigned>(warp); token < sizes.tokens; token += stride) {
    const std::int64_t row = std::int64_t{token} * experts;
    Mine::load(score, scores + row + first, experts, is_aligned);
    Mine::load(logit, logits + row + first, experts, is_aligned);
    const unsigned assignment = token * static_cast<unsigned>(sizes.top_k) + static_cast<unsigned>(lane);
    const int expert = chooses ? chosen[assignment] : 0;
    const float gradient = chooses ? gate_gradient[assignment] : 0.0F;
    const float chosen_score = chooses ? scores[row + expert] : 0.0F;
    const float sum = sizes.normalizes ? warp_sum(chosen_score) + kTinySum : 1.0F;
    const Reach reach(sum, warp_sum(gradient * chosen_score), sizes);
    __syncwarp();
    if (chooses) reaches[warp][expert] = reach.of(gradient);
    __syncwarp();

    float largest = -INFINITY, mean = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      largest = fmaxf(largest, logit[i]);
      mean = fmaf(balance[i], score[i], mean);
    }
    largest = fast_warp_max(largest);
    mean = warp_sum(mean);
    float result[kEach];
    if (sizes.is_sigmoid) {
      float score_sum = 0, exp_sum = 0;
      const float shift = -largest * kLog2E;
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        score_sum += score[i];
        result[i] = fast_exp2(fmaf(logit[i], kLog2E, shift));
        exp_sum += result[i];
      }
      const float inverse_sum = fast_inverse(warp_sum(score_sum) + kTinySum);
      exp_sum = warp_sum(exp_sum);
      const float z = scales.z * fmaf(fast_log2(exp_sum), kLn2, largest) * fast_inverse(exp_sum);
      mean *= inverse_sum;
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        const float d = fmaf(balance[i] - mean, inverse_sum, reaches[warp][first + Mine::distance(i)]);
        result[i] = fmaf(z, result[i], d * score[i] * (1 - score[i]));
      }
    } else {
      float largest_score = 0;
#pragma unroll
      for (int i = 0; i < kEach; ++i) largest_score = fmaxf(largest_score, score[i]);
      const float normalizer = fmaf(fast_log2(fast_warp_max(largest_score)), -kLn2, largest);
      const float rest = scales.z * normalizer - mean - reach.through_softmax;
#pragma unroll
      for (int i = 0; i < kEach; ++i)
        result[i] = score[i] * (balance[i] + reaches[warp][first + Mine::distance(i)] + rest);
    }
    Mine::store(result, logit_gradient + row + first, experts, is_aligned);
    __syncwarp();
    if (chooses) reaches[warp][expert] = 0;
  }
}

// A thread a token, of at most kExperts.
template <int kExperts>
__global__ void __launch_bounds__(kThreads)
    route_backward_few(const float* logits, const float* scores, const int* chosen, const int* counts,
                       const float* gate_gradient, float* logit_gradient, const Scales scales, bool is_aligned,
                       const RoutingSizes sizes) {
  __shared__ float balance[kExperts];
  const int experts = sizes.experts;
  if (threadIdx.x < kExperts)
    balance[threadIdx.x] =
        static_cast<int>(threadIdx.x) < experts ? scales.balance * static_cast<float>(counts[threadIdx.x]) : 0.0F;
  __syncthreads();
  for (unsigned token = blockIdx.x * kThreads + threadIdx.x; token < sizes.tokens; token += gridDim.x * kThreads) {
    const std::int64_t row = std::int64_t{token} * experts;
    float score[kExperts] = {}, logit[kExperts], d[kExperts] = {};
#pragma unroll
    for (int e = 0; e < kExperts; ++e) logit[e] = -INFINITY;
    load_row(score, scores + row, experts, is_aligned);
    load_row(logit, logits + row, experts, is_aligned);
    const unsigned assignment = token * static_cast<unsigned>(sizes.top_k);
    float sum = kTinySum, weighted = 0;
    for (int choice = 0; choice < sizes.top_k; ++choice) {
      const float chosen_score = scores[row + chosen[assignment + choice]];
      sum += chosen_score;
      weighted = fmaf(gate_gradient[assignment + choice], chosen_score, weighted);
    }
    const Reach reach(sum, weighted, sizes);
    for (int choice = 0; choice < sizes.top_k; ++choice) {
      const int expert = chosen[assignment + choice];
      const float reaches = reach.of(gate_gradient[assignment + choice]);
#pragma unroll
      for (int e = 0; e < kExperts; ++e)
        if (e == expert) d[e] = reaches;
    }
    float largest = -INFINITY, mean = 0, score_sum = kTinySum, exp_sum = 0, passed = 0;
#pragma unroll
    for (int e = 0; e < kExperts; ++e) {
      largest = fmaxf(largest, logit[e]);
      mean = fmaf(balance[e], score[e], mean);
      score_sum += score[e];
    }
    const float inverse_sum = fast_inverse(score_sum), shift = -largest * kLog2E;
    mean *= inverse_sum;
#pragma unroll
    for (int e = 0; e < kExperts; ++e) {
      logit[e] = fast_exp2(fmaf(logit[e], kLog2E, shift));
      exp_sum += logit[e];
      d[e] = fmaf(balance[e] - mean, inverse_sum, d[e]);
    }
    if (!sizes.is_sigmoid) passed = reach.through_softmax;
    const float z = scales.z * fmaf(fast_log2(exp_sum), kLn2, largest) * fast_inverse(exp_sum);
#pragma unroll
    for (int e = 0; e < kExperts; ++e)
      d[e] = fmaf(z, logit[e], score[e] * (sizes.is_sigmoid ? d[e] * (1 - score[e]) : d[e] - passed));
    store_row(d, logit_gradient + row, experts, is_aligned);
  }
}

}  // namespace

void launch(const RouterBackward& op, const DeviceLaunch& on) {
  const RoutingSizes sizes = sizes_of(op.shape, op.logits, "router_backward");
  const std::int64_t assignments = sizes.tokens * sizes.top_k;
  for (const View& view : {op.scores, op.logit_gradient})
    require_size(view, Element::kFp32, op.logits.size(), "router_backward",
                 "scores and logit_gradient are fp32 [tokens, experts]");
  require_size(op.experts, Element::kInt32, assignments, "router_backward", "experts are int32 [tokens, k]");
  require_size(op.gate_gradient, Element::kFp32, assignments, "router_backward", "gate_gradient is fp32 [tokens, k]");
  require_size(op.counts, Element::kInt32, sizes.experts, "router_backward", "counts are int32 [1, experts]");
  if (sizes.tokens == 0) return;
  const auto tokens = static_cast<double>(sizes.tokens);
  const Scales scales{static_cast<float>(op.aux_scale * sizes.experts / (sizes.top_k * tokens * tokens)),
                      static_cast<float>(op.z_scale * 2 / tokens)};
  const bool is_aligned =
      has_aligned_rows(op.logits) && has_aligned_rows(op.scores) && has_aligned_rows(op.logit_gradient);
  const auto start = [&](auto kernel, int tokens_per_block) {
    const unsigned blocks = num_blocks(sizes.tokens, tokens_per_block, on.sms, kBlocksPerSm);
    kernel<<<blocks, kThreads, 0, on.stream>>>(op.logits.as<float>(), op.scores.as<float>(), op.experts.as<int>(),
                                               op.counts.as<int>(), op.gate_gradient.as<float>(),
                                               op.logit_gradient.as<float>(), scales, is_aligned, sizes);
  };
  if (sizes.experts <= kFewExperts) {
    with_few(sizes.experts, [&](auto most) { start(route_backward_few<decltype(most)::value>, kThreads); });
  } else {
    with_lanes(sizes.experts, is_aligned, [&](auto each, auto is_full) {
      start(route_backward<decltype(each)::value, decltype(is_full)::value>, kWarps);
    });
  }
  MSMOE_CHECK(cudaGetLastError());
}

}  // namespace msmoe::kernels
