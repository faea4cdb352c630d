// The router's forward pass: a warp a token, or a thread a token where there are few experts. Each block leaves its
// partial sums of the losses and counts, and one cluster of blocks adds up what all of them left.
#include <cooperative_groups.h>

#include "kernels/cuda/check.h"
#include "kernels/cuda/operators.h"
#include "kernels/cuda/router_choice.cuh"
#include "kernels/cuda/workspace.h"

namespace msmoe::kernels {
namespace {

namespace cg = cooperative_groups;

constexpr int kSumThreads = 1024, kSumBlocks = 8, kSumGroups = 16;
constexpr int kFewThreads = 256, kFewWarps = kFewThreads / kWarp;
// Few large blocks, one for each SM. With more than 8 experts a lane the registers do for half as many threads.
constexpr int threads_of(int each) { return each <= 8 ? 1024 : 512; }

// What a block leaves: its sums of the normalized scores and of the squared log sum exp, and its count of each expert.
struct Partial {
  float* sums;  // [blocks, experts + 1]
  int* counts;  // [blocks, experts]
};

template <int kEach, bool kIsFull>
__global__ void __launch_bounds__(threads_of(kEach))
    route(const float* logits, const float* bias, float* scores, int* chosen, float* gates, const Partial partial,
          bool is_aligned, const RoutingSizes sizes) {
  using Mine = Lane<kEach, kIsFull>;
  constexpr int kThreads = threads_of(kEach), kWarps = kThreads / kWarp, kSlots = kEach * kWarp;
  __shared__ struct {
    struct {
      alignas(16) float scores[slot_of(kSlots)];
      Candidates candidates;
    } warps[kWarps];
    alignas(16) float biases[kSlots];  // NaN for what is no expert
    int counts[kSlots];
  } shared;
  const int lane = static_cast<int>(threadIdx.x % kWarp), warp = static_cast<int>(threadIdx.x / kWarp);
  const int first = Mine::first_expert(), experts = kIsFull ? kSlots : sizes.experts;
  cudaTriggerProgrammaticLaunchCompletion();
  for (int expert = static_cast<int>(threadIdx.x); expert < kSlots; expert += kThreads) {
    shared.counts[expert] = 0;
    shared.biases[expert] = expert >= experts ? NAN : bias == nullptr ? 0.0F : bias[expert];
  }
  __syncthreads();

  auto& mine = shared.warps[warp];
  const Token of_token{mine.scores, shared.biases};
  const Groups groups(sizes);
  const unsigned stride = gridDim.x * kWarps;
  unsigned token = blockIdx.x * kWarps + static_cast<unsigned>(warp);
  const std::int64_t step = std::int64_t{stride} * experts;
  const float* next = logits + std::int64_t{token} * experts + first;
  float* out = scores + std::int64_t{token} * experts + first;
  float logit[kEach], probability_sums[kEach] = {}, squares = 0;
#pragma unroll
  for (int i = 0; i < kEach; ++i) logit[i] = -INFINITY;
  if (token < sizes.tokens) Mine::load(logit, next, experts, is_aligned);
  for (; token < sizes.tokens; token += stride) {
    float score[kEach], largest = -INFINITY;
#pragma unroll
    for (int i = 0; i < kEach; ++i) largest = fmaxf(largest, logit[i]);
    largest = fast_warp_max(largest);
    float exp_sum = 0;
    const float shift = -largest * kLog2E;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      score[i] = fast_exp2(fmaf(logit[i], kLog2E, shift));
      exp_sum += score[i];
    }
    exp_sum = warp_sum(exp_sum);
    const float normalizer = fmaf(fast_log2(exp_sum), kLn2, largest);
    squares = fmaf(normalizer, normalizer, squares);
    if (sizes.is_sigmoid) {
      float score_sum = 0;
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        score[i] = fast_inverse(1 + fast_exp2(-kLog2E * logit[i]));
        score_sum += score[i];
      }
      const float inverse_sum = fast_inverse(warp_sum(score_sum) + kTinySum);
#pragma unroll
      for (int i = 0; i < kEach; ++i) probability_sums[i] = fmaf(score[i], inverse_sum, probability_sums[i]);
    } else {
      const float inverse_sum = fast_inverse(exp_sum);
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        score[i] *= inverse_sum;
        probability_sums[i] += score[i];  // softmax is normalized already
      }
    }
    // The next token's are on their way while this one's experts are chosen.
    next += step;
    if (token + stride < sizes.tokens) Mine::load(logit, next, experts, is_aligned);
    Mine::store(score, out, experts, is_aligned);
    out += step;

    float value[kEach];
    __syncwarp();  // all lanes are done with the token before
#pragma unroll
    for (int i = 0; i < kEach; i += Mine::kVector) {
      typename Mine::Vector vector;
#pragma unroll
      for (int j = 0; j < Mine::kVector; ++j) {
        vector.values[j] = score[i + j];
        value[i + j] = score[i + j] + shared.biases[first + Mine::distance(i + j)];
      }
      // The distance is a multiple of 32 experts, so slots add up.
      *reinterpret_cast<typename Mine::Vector*>(mine.scores + slot_of(first) + slot_of(Mine::distance(i))) = vector;
    }
    __syncwarp();
    unsigned allowed = kAllLanes;
    if (sizes.top_groups < sizes.groups) {
      allowed = best_groups(of_token, sizes.groups, groups.size, sizes.top_groups, sizes.is_sigmoid);
#pragma unroll
      for (int i = 0; i < kEach; ++i)
        if (!groups.allows(allowed, first + Mine::distance(i))) value[i] = NAN;
    }
    const Choice choice = choose<Mine>(value, first, of_token, groups, allowed, mine.candidates, experts, sizes.top_k);
    const bool is_chosen = choice.place < sizes.top_k;
    float gate_scale = sizes.scale;
    if (sizes.normalizes) gate_scale *= fast_inverse(warp_sum(is_chosen ? choice.score : 0.0F) + kTinySum);
    if (is_chosen) {
      const unsigned assignment = token * static_cast<unsigned>(sizes.top_k) + static_cast<unsigned>(choice.place);
      chosen[assignment] = choice.expert;
      gates[assignment] = choice.score * gate_scale;
      atomicAdd(&shared.counts[choice.expert], 1);
    }
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kEach; ++i)
    if (Mine::has(i, experts)) mine.scores[first + Mine::distance(i)] = probability_sums[i];
  if (lane == 0) mine.scores[experts] = squares;
  __syncthreads();
  for (int column = static_cast<int>(threadIdx.x); column <= experts; column += kThreads) {
    float sum = 0;
    for (int other = 0; other < kWarps; ++other) sum += shared.warps[other].scores[column];
    partial.sums[std::int64_t{blockIdx.x} * (experts + 1) + column] = sum;
    if (column < experts) partial.counts[std::int64_t{blockIdx.x} * experts + column] = shared.counts[column];
  }
}

// A thread a token, of at most kExperts, in registers. No groups are left out.
template <int kExperts>
__global__ void __launch_bounds__(kFewThreads)
    route_few(const float* logits, const float* bias, float* scores, int* chosen, float* gates, const Partial partial,
              bool is_aligned, const RoutingSizes sizes) {
  __shared__ float sums_of[kFewWarps][kExperts + 1], biases[kExperts], chosen_scores[kWarp][kFewThreads];
  __shared__ int counts_of[kFewWarps][kExperts];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp, warp = thread / kWarp;
  const int experts = sizes.experts;
  cudaTriggerProgrammaticLaunchCompletion();
  if (thread < experts) biases[thread] = bias == nullptr ? 0.0F : bias[thread];
  __syncthreads();

  float probability_sums[kExperts] = {}, squares = 0;
  int counts[kExperts] = {};
  for (unsigned token = blockIdx.x * kFewThreads + threadIdx.x; token < sizes.tokens;
       token += gridDim.x * kFewThreads) {
    float score[kExperts];
#pragma unroll
    for (int e = 0; e < kExperts; ++e) score[e] = -INFINITY;
    load_row(score, logits + std::int64_t{token} * experts, experts, is_aligned);
    float largest = -INFINITY;
#pragma unroll
    for (int e = 0; e < kExperts; ++e) largest = fmaxf(largest, score[e]);
    float exp_sum = 0, score_sum = 0;
    const float shift = -largest * kLog2E;
#pragma unroll
    for (int e = 0; e < kExperts; ++e) {
      const float power = fast_exp2(fmaf(score[e], kLog2E, shift));
      exp_sum += power;
      score[e] = sizes.is_sigmoid ? fast_inverse(1 + fast_exp2(-kLog2E * score[e])) : power;
      score_sum += score[e];
    }
    const float normalizer = fmaf(fast_log2(exp_sum), kLn2, largest);
    squares = fmaf(normalizer, normalizer, squares);
    const float factor = sizes.is_sigmoid ? 1.0F : fast_inverse(exp_sum);
    const float inverse_sum = fast_inverse(score_sum * factor + kTinySum);
    unsigned keys[kExperts];
#pragma unroll
    for (int e = 0; e < kExperts; ++e) {
      score[e] *= factor;
      probability_sums[e] = fmaf(score[e], inverse_sum, probability_sums[e]);
      keys[e] = e < experts ? key_of(score[e] + biases[e]) : 0;
    }
    store_row(score, scores + std::int64_t{token} * experts, experts, is_aligned);

    const unsigned first = token * static_cast<unsigned>(sizes.top_k);
    float chosen_sum = kTinySum;
    for (int choice = 0; choice < sizes.top_k; ++choice) {
      unsigned best = 0;
      int expert = 0;
      float best_score = 0;
#pragma unroll
      for (int e = 0; e < kExperts; ++e) {
        if (keys[e] <= best) continue;
        best = keys[e];
        expert = e;
        best_score = score[e];
      }
#pragma unroll
      for (int e = 0; e < kExperts; ++e) {
        if (e != expert) continue;
        keys[e] = 0;
        ++counts[e];
      }
      chosen[first + choice] = expert;
      chosen_scores[choice][thread] = best_score;
      chosen_sum += best_score;
    }
    const float gate_scale = sizes.normalizes ? sizes.scale * fast_inverse(chosen_sum) : sizes.scale;
    for (int choice = 0; choice < sizes.top_k; ++choice)
      gates[first + choice] = chosen_scores[choice][thread] * gate_scale;
  }
#pragma unroll
  for (int e = 0; e < kExperts; ++e) {
    const float sum = warp_sum(probability_sums[e]);
    const int count = __reduce_add_sync(kAllLanes, counts[e]);
    if (lane != 0) continue;
    sums_of[warp][e] = sum;
    counts_of[warp][e] = count;
  }
  squares = warp_sum(squares);
  if (lane == 0) sums_of[warp][experts] = squares;
  __syncthreads();
  if (thread > experts) return;
  float sum = 0;
  int count = 0;
  for (int other = 0; other < kFewWarps; ++other) {
    sum += sums_of[other][thread];
    if (thread < experts) count += counts_of[other][thread];
  }
  partial.sums[std::int64_t{blockIdx.x} * (experts + 1) + thread] = sum;
  if (thread < experts) partial.counts[std::int64_t{blockIdx.x} * experts + thread] = count;
}

// One cluster adds up what the blocks left, always in the same order. In each of its blocks, each group of as many
// threads as there are columns adds some of the rows, and the first group adds the groups; the first block adds the
// blocks.
__global__ void __cluster_dims__(kSumBlocks) __launch_bounds__(kSumThreads)
    add_partials(const Partial partial, int* counts, float* losses, int rows, const RoutingSizes sizes) {
  __shared__ float sums_of[kSumThreads];
  __shared__ int counts_of[kSumThreads];
  const cg::cluster_group cluster = cg::this_cluster();
  const int thread = static_cast<int>(threadIdx.x), columns = sizes.experts + 1;
  const int groups = min(kSumThreads / columns, kSumGroups), column = thread % columns, group = thread / columns;
  const int first = static_cast<int>(cluster.block_rank()) * groups + group;
  float sum = 0;
  int count = 0;
  cudaGridDependencySynchronize();
#pragma unroll 8
  for (int row = first; row < (group < groups ? rows : 0); row += kSumBlocks * groups) {
    sum += partial.sums[row * columns + column];
    if (column < sizes.experts) count += partial.counts[row * sizes.experts + column];
  }
  sums_of[thread] = sum;
  counts_of[thread] = count;
  __syncthreads();
  if (group == 0) {
    for (int other = 1; other < groups; ++other) {
      sum += sums_of[other * columns + column];
      count += counts_of[other * columns + column];
    }
    sums_of[thread] = sum;
    counts_of[thread] = count;
  }
  cluster.sync();
  if (cluster.block_rank() == 0 && group == 0) {
#pragma unroll
    for (int other = 1; other < kSumBlocks; ++other) {
      sum += cluster.map_shared_rank(sums_of, other)[thread];
      count += cluster.map_shared_rank(counts_of, other)[thread];
    }
  }
  cluster.sync();
  if (cluster.block_rank() != 0) return;
  const bool is_expert = thread < sizes.experts;
  if (is_expert) counts[thread] = count;
  if (losses == nullptr) return;
  const float balance = block_sum(is_expert ? sum * static_cast<float>(count) : 0.0F);
  if (thread != sizes.experts) return;  // the one whose column is that of the squares
  const auto tokens = static_cast<float>(max(sizes.tokens, std::int64_t{1}));
  losses[0] = static_cast<float>(sizes.experts) / (static_cast<float>(sizes.top_k) * tokens) * (balance / tokens);
  losses[1] = sum / tokens;
}

}  // namespace

std::size_t router_workspace_bytes(const Router& op, int sms) {
  return static_cast<std::size_t>(sms) *
         (static_cast<std::size_t>(op.logits.columns + 1) * sizeof(float) + op.counts.bytes());
}

void launch(const Router& op, const DeviceLaunch& on) {
  const RoutingSizes sizes = sizes_of(op.shape, op.logits, "router");
  const std::int64_t assignments = sizes.tokens * sizes.top_k;
  require_size(op.scores, Element::kFp32, op.logits.size(), "router", "scores are fp32 [tokens, experts]");
  require_size(op.experts, Element::kInt32, assignments, "router", "experts are int32 [tokens, k]");
  require_size(op.gates, Element::kFp32, assignments, "router", "gates are fp32 [tokens, k]");
  require_size(op.counts, Element::kInt32, sizes.experts, "router", "counts are int32 [1, experts]");
  if (op.bias) require_size(op.bias, Element::kFp32, sizes.experts, "router", "bias is fp32 [1, experts]");
  if (op.losses) require_size(op.losses, Element::kFp32, 2, "router", "losses are fp32 [1, 2]");
  auto* sums = static_cast<float*>(on.workspace);
  const Partial partial{sums, reinterpret_cast<int*>(sums + on.sms * (sizes.experts + 1))};
  const bool is_aligned = has_aligned_rows(op.logits) && has_aligned_rows(op.scores);
  unsigned blocks = 0;
  const auto start = [&](auto kernel, int threads, int tokens_per_block) {
    blocks = std::max(1U, num_blocks(sizes.tokens, tokens_per_block, on.sms, 1));
    kernel<<<blocks, threads, 0, on.stream>>>(op.logits.as<float>(), optional_data<float>(op.bias),
                                              op.scores.as<float>(), op.experts.as<int>(), op.gates.as<float>(),
                                              partial, is_aligned, sizes);
  };
  if (sizes.experts <= kFewExperts && sizes.groups == sizes.top_groups) {
    with_few(sizes.experts, [&](auto most) { start(route_few<decltype(most)::value>, kFewThreads, kFewThreads); });
  } else {
    with_lanes(sizes.experts, is_aligned, [&](auto each, auto is_full) {
      constexpr int kThreads = threads_of(each);
      start(route<decltype(each)::value, decltype(is_full)::value>, kThreads, kThreads / kWarp);
    });
  }
  MSMOE_CHECK(cudaGetLastError());

  // The sums' blocks start as soon as there is room for them, and wait there for what the others leave.
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = kSumBlocks;
  config.blockDim = kSumThreads;
  config.stream = on.stream;
  config.attrs = &early;
  config.numAttrs = 1;
  MSMOE_CHECK(cudaLaunchKernelEx(&config, add_partials, partial, op.counts.as<int>(), optional_data<float>(op.losses),
                                 static_cast<int>(blocks), sizes));
}

}  // namespace msmoe::kernels
