// Embedding and cross-entropy: the two ends of the model, where rows meet the vocabulary.
#include "kernels/cuda/check.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/operators.h"
#include "kernels/cuda/requirements.h"

namespace msmoe::kernels {
namespace {

using Bf16 = __nv_bfloat16;
constexpr int kThreads = 256, kLossThreads = 512, kVector = 8, kBlocksPerSm = 16;

__global__ void __launch_bounds__(kThreads) embedding(const Bf16* table, const int* ids, Bf16* out, std::int64_t tokens,
                                                      std::int64_t entries, int width, std::int64_t first_id) {
  for (std::int64_t token = blockIdx.x; token < tokens; token += gridDim.x) {
    const std::int64_t entry = ids[token] - first_id;
    const bool is_here = entry >= 0 && entry < entries;
    for (int column = static_cast<int>(threadIdx.x) * kVector; column < width; column += kThreads * kVector) {
      Vector8 values = {};
      if (is_here) values = Vector8::load(table + entry * width + column);
      values.store(out + token * width + column);
    }
  }
}

// Tokens of one id add up in an order that differs from run to run: in fp32, so by rounding alone. Hopper adds four
// floats at once; a thread's four lie beside its neighbours', so that a warp adds to whole sectors of L2. The row comes
// into L2 before the first addition to it: an addition that finds its sector there is faster.
__global__ void __launch_bounds__(kThreads)
    embedding_backward(const Bf16* out_gradient, const int* ids, float* table_gradient, std::int64_t entries, int width,
                       std::int64_t first_id) {
  constexpr int kStep = kThreads * 4, kLoads = 4;
  const std::int64_t token = blockIdx.x, entry = ids[token] - first_id;
  if (entry < 0 || entry >= entries) return;
  const Bf16* from = out_gradient + token * width;
  float* to = table_gradient + entry * width;
  if (threadIdx.x == 0)
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(to), "r"(width * static_cast<int>(sizeof(float))));
#pragma unroll 1
  for (int first = static_cast<int>(threadIdx.x) * 4; first < width; first += kStep * kLoads) {
    uint2 raw[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i)
      if (first + i * kStep < width) raw[i] = __ldcs(reinterpret_cast<const uint2*>(from + first + i * kStep));
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      if (first + i * kStep >= width) continue;
      const auto* pairs = reinterpret_cast<const __nv_bfloat162*>(&raw[i]);
      const float2 low = __bfloat1622float2(pairs[0]), high = __bfloat1622float2(pairs[1]);
      atomicAdd(reinterpret_cast<float4*>(to + first + i * kStep), float4{low.x, low.y, high.x, high.y});
    }
  }
}

// A block a row, read once: every thread keeps the largest logit it has met and the sum relative to that.
__global__ void __launch_bounds__(kLossThreads)
    cross_entropy(const Bf16* logits, const int* targets, float* maximum, float* exp_sum, float* target_logit,
                  std::int64_t columns, std::int64_t first_id) {
  const std::int64_t token = blockIdx.x, target = targets[token] - first_id;
  const Bf16* row = logits + token * columns;
  float largest = -INFINITY, sum = 0;
#pragma unroll 2
  for (std::int64_t column = std::int64_t{threadIdx.x} * kVector; column < columns; column += kLossThreads * kVector) {
    const Vector8 values = Vector8::load(row + column);
    float of_vector = values.value[0];
#pragma unroll
    for (int element = 1; element < kVector; ++element) of_vector = fmaxf(of_vector, values.value[element]);
    if (of_vector > largest) {
      sum *= __expf(largest - of_vector);
      largest = of_vector;
    }
#pragma unroll
    for (int element = 0; element < kVector; ++element) sum += __expf(values.value[element] - largest);
  }
  const float of_row = block_max(largest);
  sum = block_sum(largest == -INFINITY ? 0.0F : sum * __expf(largest - of_row));
  if (threadIdx.x == 0) {
    maximum[token] = of_row;
    exp_sum[token] = sum;
    target_logit[token] = target >= 0 && target < columns ? __bfloat162float(row[target]) : 0.0F;
  }
}

__global__ void __launch_bounds__(kLossThreads)
    cross_entropy_backward(const int* targets, const float* maximum, const float* exp_sum, Bf16* logits,
                           std::int64_t columns, std::int64_t first_id, float scale) {
  const std::int64_t token = blockIdx.x;
  const bool is_padding = targets[token] < 0;
  const std::int64_t target = targets[token] - first_id;
  const float largest = maximum[token], factor = scale / exp_sum[token];
  Bf16* row = logits + token * columns;
  for (std::int64_t column = std::int64_t{threadIdx.x} * kVector; column < columns; column += kLossThreads * kVector) {
    Vector8 values = {};
    if (!is_padding) {
      values = Vector8::load_written(row + column);
#pragma unroll
      for (int element = 0; element < kVector; ++element)
        values.value[element] =
            factor * __expf(values.value[element] - largest) - (column + element == target ? scale : 0.0F);
    }
    values.store(row + column);
  }
}

void require_tokens(const View& view, Element element, std::int64_t tokens, const char* operation) {
  require(view.element == element && view.size() == tokens, operation,
          "ids and targets are int32, maximum, exp_sum and target_logit fp32, one for each token");
}

}  // namespace

void launch(const Embedding& op, const DeviceLaunch& on) {
  const std::int64_t tokens = op.out.rows, width = op.out.columns;
  require_matrix(op.out, tokens, width, Element::kBf16, "embedding", "out");
  require_matrix(op.table, op.table.rows, width, Element::kBf16, "embedding", "table");
  require_tokens(op.ids, Element::kInt32, tokens, "embedding");
  if (op.out.size() == 0) return;
  embedding<<<num_blocks(tokens, 1, on.sms, kBlocksPerSm), kThreads, 0, on.stream>>>(
      op.table.as<Bf16>(), op.ids.as<int>(), op.out.as<Bf16>(), tokens, op.table.rows, static_cast<int>(width),
      op.first_id);
  MSMOE_CHECK(cudaGetLastError());
}

void launch(const EmbeddingBackward& op, const DeviceLaunch& on) {
  const std::int64_t tokens = op.out_gradient.rows, width = op.out_gradient.columns;
  require_matrix(op.out_gradient, tokens, width, Element::kBf16, "embedding_backward", "out_gradient");
  require_matrix(op.table_gradient, op.table_gradient.rows, width, Element::kFp32, "embedding_backward",
                 "table_gradient");
  require_tokens(op.ids, Element::kInt32, tokens, "embedding_backward");
  if (op.out_gradient.size() == 0) return;
  embedding_backward<<<static_cast<unsigned>(tokens), kThreads, 0, on.stream>>>(
      op.out_gradient.as<Bf16>(), op.ids.as<int>(), op.table_gradient.as<float>(), op.table_gradient.rows,
      static_cast<int>(width), op.first_id);
  MSMOE_CHECK(cudaGetLastError());
}

void launch(const CrossEntropy& op, const DeviceLaunch& on) {
  const std::int64_t tokens = op.logits.rows;
  require_matrix(op.logits, tokens, op.logits.columns, Element::kBf16, "cross_entropy", "logits");
  require_tokens(op.targets, Element::kInt32, tokens, "cross_entropy");
  for (const View& view : {op.maximum, op.exp_sum, op.target_logit})
    require_tokens(view, Element::kFp32, tokens, "cross_entropy");
  if (op.logits.size() == 0) return;
  cross_entropy<<<static_cast<unsigned>(tokens), kLossThreads, 0, on.stream>>>(
      op.logits.as<Bf16>(), op.targets.as<int>(), op.maximum.as<float>(), op.exp_sum.as<float>(),
      op.target_logit.as<float>(), op.logits.columns, op.first_id);
  MSMOE_CHECK(cudaGetLastError());
}

void launch(const CrossEntropyBackward& op, const DeviceLaunch& on) {
  const std::int64_t tokens = op.logits.rows;
  require_matrix(op.logits, tokens, op.logits.columns, Element::kBf16, "cross_entropy_backward", "logits");
  require_tokens(op.targets, Element::kInt32, tokens, "cross_entropy_backward");
  for (const View& view : {op.maximum, op.exp_sum})
    require_tokens(view, Element::kFp32, tokens, "cross_entropy_backward");
  if (op.logits.size() == 0) return;
  cross_entropy_backward<<<static_cast<unsigned>(tokens), kLossThreads, 0, on.stream>>>(
      op.targets.as<int>(), op.maximum.as<float>(), op.exp_sum.as<float>(), op.logits.as<Bf16>(), op.logits.columns,
      op.first_id, static_cast<float>(op.scale));
  MSMOE_CHECK(cudaGetLastError());
}

}  // namespace msmoe::kernels
