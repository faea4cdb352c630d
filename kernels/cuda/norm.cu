// RMSNorm: a block a row, which stays in registers between the sum of squares and the product.
#include <cuda_pipeline.h>

#include "kernels/cuda/check.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/operators.h"
#include "kernels/cuda/requirements.h"
#include "kernels/cuda/workspace.h"

namespace msmoe::kernels {
namespace {

using Bf16 = __nv_bfloat16;
constexpr int kThreads = 256, kVector = 8;
constexpr int kMostBackwardBlocksPerSm = 4, kSumThreads = kWarp * kWarp;

// kVectors of 8 elements for each thread: rows of up to 2048 * kVectors elements.
template <int kVectors>
__global__ void __launch_bounds__(kThreads)
    forward(const Bf16* input, const Bf16* residual, const Bf16* weight, Bf16* out, Bf16* sum, float* inverse_rms,
            int width, float epsilon) {
  const std::int64_t start = std::int64_t{blockIdx.x} * width;
  Vector8 row[kVectors];
  float squares = 0;
#pragma unroll
  for (int index = 0; index < kVectors; ++index) {
    const int column = (index * kThreads + static_cast<int>(threadIdx.x)) * kVector;
    if (column >= width) break;
    row[index] = Vector8::load(input + start + column);
    if (residual != nullptr) {
      const Vector8 other = Vector8::load(residual + start + column);
#pragma unroll
      for (int element = 0; element < kVector; ++element) row[index].value[element] += other.value[element];
      row[index].store(sum + start + column);
    }
#pragma unroll
    for (int element = 0; element < kVector; ++element)
      squares += row[index].value[element] * row[index].value[element];
  }
  const float inverse = rsqrtf(block_sum(squares) / static_cast<float>(width) + epsilon);
  if (threadIdx.x == 0) inverse_rms[blockIdx.x] = inverse;
#pragma unroll
  for (int index = 0; index < kVectors; ++index) {
    const int column = (index * kThreads + static_cast<int>(threadIdx.x)) * kVector;
    if (column >= width) break;
    const Vector8 scale = Vector8::load(weight + column);
    Vector8 result;
#pragma unroll
    for (int element = 0; element < kVector; ++element)
      result.value[element] = row[index].value[element] * inverse * scale.value[element];
    result.store(out + start + column);
  }
}

// How the backward pass takes a row of up to 2048 * kVectors elements. Wide rows have more threads, not more elements
// in each; what is on its way for the blocks of an SM takes 192 KiB at any width.
template <int kVectors>
struct Backward {
  static constexpr int kThreads = kVectors <= 2 ? 256 : 512, kEach = kVectors * 256 / kThreads;
  static constexpr int kStages = kVectors == 1 ? 4 : 2;
  static constexpr int kBlocksPerSm = kVectors <= 2 ? kMostBackwardBlocksPerSm : 8 / kVectors;
  static constexpr std::size_t shared_bytes(bool has_residual) {
    return sizeof(uint4) * kStages * kEach * kThreads * (has_residual ? 3 : 2);
  }

  // A thread reads only what it fetched itself, so it waits for no other: [3, stages, kEach, kThreads] vectors, of
  // which the third operand is there only with a residual.
  __device__ static uint4& ahead(int stage, int operand, int index) {
    extern __shared__ uint4 vectors[];
    return vectors[((operand * kStages + stage) * kEach + index) * kThreads + threadIdx.x];
  }
};

// Each block walks over rows and keeps its part of the weight gradient: partial [blocks, width]. The next rows are on
// their way while the block waits for the sum over this one.
template <int kVectors>
__global__ void __launch_bounds__(Backward<kVectors>::kThreads)
    backward(const Bf16* input, const Bf16* weight, const float* inverse_rms, const Bf16* out_gradient,
             const Bf16* residual_gradient, Bf16* input_gradient, float* partial, std::int64_t rows, int width) {
  using Of = Backward<kVectors>;
  constexpr int kStep = Of::kThreads * kVector;
  const int first_column = static_cast<int>(threadIdx.x) * kVector;
  const auto fetch = [&](std::int64_t row, int stage) {
#pragma unroll
    for (int index = 0; index < Of::kEach; ++index) {
      const int column = first_column + index * kStep;
      if (row >= rows || column >= width) break;
      const std::int64_t from = row * width + column;
      __pipeline_memcpy_async(&Of::ahead(stage, 0, index), input + from, sizeof(uint4));
      __pipeline_memcpy_async(&Of::ahead(stage, 1, index), out_gradient + from, sizeof(uint4));
      if (residual_gradient != nullptr)
        __pipeline_memcpy_async(&Of::ahead(stage, 2, index), residual_gradient + from, sizeof(uint4));
    }
    __pipeline_commit();
  };
  const std::int64_t step = gridDim.x;
  for (int stage = 0; stage < Of::kStages - 1; ++stage) fetch(blockIdx.x + stage * step, stage);
  Vector8 sums[Of::kEach] = {};
  float next_inverse = inverse_rms[blockIdx.x];
  int stage = 0;
  for (std::int64_t row = blockIdx.x; row < rows; row += step) {
    fetch(row + (Of::kStages - 1) * step, (stage + Of::kStages - 1) % Of::kStages);
    const float inverse = next_inverse;
    if (row + step < rows) next_inverse = __ldg(inverse_rms + row + step);
    __pipeline_wait_prior(Of::kStages - 1);
    float dot = 0;
#pragma unroll
    for (int index = 0; index < Of::kEach; ++index) {
      const int column = first_column + index * kStep;
      if (column >= width) break;
      const Vector8 x = Vector8::of(Of::ahead(stage, 0, index)), g = Vector8::of(Of::ahead(stage, 1, index)),
                    scale = Vector8::load(weight + column);
#pragma unroll
      for (int element = 0; element < kVector; ++element) {
        const float product = g.value[element] * x.value[element];
        sums[index].value[element] += product * inverse;
        dot += product * scale.value[element];
      }
    }
    const float pull = block_sum(dot) / static_cast<float>(width) * inverse * inverse;
#pragma unroll
    for (int index = 0; index < Of::kEach; ++index) {
      const int column = first_column + index * kStep;
      if (column >= width) break;
      const Vector8 x = Vector8::of(Of::ahead(stage, 0, index)), g = Vector8::of(Of::ahead(stage, 1, index)),
                    scale = Vector8::load(weight + column);
      Vector8 result = {};
      if (residual_gradient != nullptr) result = Vector8::of(Of::ahead(stage, 2, index));
#pragma unroll
      for (int element = 0; element < kVector; ++element)
        result.value[element] += inverse * (g.value[element] * scale.value[element] - x.value[element] * pull);
      result.store(input_gradient + row * width + column);
    }
    stage = (stage + 1) % Of::kStages;
  }
#pragma unroll
  for (int index = 0; index < Of::kEach; ++index) {
    const int column = first_column + index * kStep;
    if (column < width) sums[index].store(partial + std::int64_t{blockIdx.x} * width + column);
  }
}

// A block for 32 columns, a lane each; its warps share the rows of partial [blocks, width].
__global__ void __launch_bounds__(kSumThreads)
    add_partials(const float* partial, float* weight_gradient, int blocks, int width) {
  __shared__ float sums[kWarp][kWarp + 1];
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int first_column = static_cast<int>(blockIdx.x) * kWarp;
  float sum = 0;
  if (first_column + lane < width) {
#pragma unroll 8
    for (int block = warp; block < blocks; block += kSumThreads / kWarp)
      sum += partial[std::int64_t{block} * width + first_column + lane];
  }
  sums[warp][lane] = sum;
  __syncthreads();
  sum = warp_sum(sums[lane][warp]);
  if (lane == 0 && first_column + warp < width) weight_gradient[first_column + warp] += sum;
}

template <class Function>
void with_vectors(std::int64_t width, const char* operation, const Function& function) {
  require(width % kVector == 0 && width <= 8 * kThreads * kVector, operation,
          "rows have a multiple of 8 and at most 16384 columns");
  const std::int64_t vectors = (width + kThreads * kVector - 1) / (kThreads * kVector);
  if (vectors <= 1) return function(std::integral_constant<int, 1>());
  if (vectors <= 2) return function(std::integral_constant<int, 2>());
  if (vectors <= 4) return function(std::integral_constant<int, 4>());
  function(std::integral_constant<int, 8>());
}

}  // namespace

// The most that any width takes.
unsigned norm_backward_blocks(std::int64_t rows, int sms) { return num_blocks(rows, 1, sms, kMostBackwardBlocksPerSm); }

void launch(const RmsNorm& op, const DeviceLaunch& on) {
  const std::int64_t rows = op.input.rows, width = op.input.columns;
  require(static_cast<bool>(op.residual) == static_cast<bool>(op.sum), "rms_norm", "residual and sum come together");
  for (const View& view : {op.input, op.out})
    require_matrix(view, rows, width, Element::kBf16, "rms_norm", "input or out");
  if (op.residual)
    for (const View& view : {op.residual, op.sum})
      require_matrix(view, rows, width, Element::kBf16, "rms_norm", "residual or sum");
  require_matrix(op.weight, 1, width, Element::kBf16, "rms_norm", "weight");
  require(op.inverse_rms.size() == rows && op.inverse_rms.element == Element::kFp32, "rms_norm",
          "inverse_rms is fp32 [1, tokens]");
  with_vectors(width, "rms_norm", [&](auto vectors) {
    if (rows == 0) return;
    forward<decltype(vectors)::value><<<static_cast<unsigned>(rows), kThreads, 0, on.stream>>>(
        op.input.as<Bf16>(), optional_data<Bf16>(op.residual), op.weight.as<Bf16>(), op.out.as<Bf16>(),
        optional_data<Bf16>(op.sum), op.inverse_rms.as<float>(), static_cast<int>(width),
        static_cast<float>(op.epsilon));
    MSMOE_CHECK(cudaGetLastError());
  });
}

void launch(const RmsNormBackward& op, const DeviceLaunch& on) {
  const std::int64_t rows = op.input.rows, width = op.input.columns;
  for (const View& view : {op.input, op.out_gradient, op.input_gradient})
    require_matrix(view, rows, width, Element::kBf16, "rms_norm_backward", "input or a gradient");
  if (op.residual_gradient)
    require_matrix(op.residual_gradient, rows, width, Element::kBf16, "rms_norm_backward", "residual_gradient");
  require_matrix(op.weight, 1, width, Element::kBf16, "rms_norm_backward", "weight");
  require_matrix(op.weight_gradient, 1, width, Element::kFp32, "rms_norm_backward", "weight_gradient");
  require(op.inverse_rms.size() == rows && op.inverse_rms.element == Element::kFp32, "rms_norm_backward",
          "inverse_rms is fp32 [1, tokens]");
  with_vectors(width, "rms_norm_backward", [&](auto vectors) {
    if (rows == 0) return;
    constexpr int kVectors = decltype(vectors)::value;
    using Of = Backward<kVectors>;
    const unsigned blocks = num_blocks(rows, 1, on.sms, Of::kBlocksPerSm);
    auto* partial = static_cast<float*>(on.workspace);
    MSMOE_CHECK(
        cudaFuncSetAttribute(backward<kVectors>, cudaFuncAttributeMaxDynamicSharedMemorySize, Of::shared_bytes(true)));
    backward<kVectors><<<blocks, Of::kThreads, Of::shared_bytes(static_cast<bool>(op.residual_gradient)), on.stream>>>(
        op.input.as<Bf16>(), op.weight.as<Bf16>(), op.inverse_rms.as<float>(), op.out_gradient.as<Bf16>(),
        optional_data<Bf16>(op.residual_gradient), op.input_gradient.as<Bf16>(), partial, rows,
        static_cast<int>(width));
    MSMOE_CHECK(cudaGetLastError());
    add_partials<<<static_cast<unsigned>((width + kWarp - 1) / kWarp), kSumThreads, 0, on.stream>>>(
        partial, op.weight_gradient.as<float>(), static_cast<int>(blocks), static_cast<int>(width));
    MSMOE_CHECK(cudaGetLastError());
  });
}

}  // namespace msmoe::kernels
