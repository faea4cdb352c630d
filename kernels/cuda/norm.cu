// RMSNorm: a block a row, which stays in registers between the sum of squares and the product.
#include "kernels/cuda/check.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/operators.h"
#include "kernels/cuda/requirements.h"
#include "kernels/cuda/workspace.h"

namespace msmoe::kernels {
namespace {

using Bf16 = __nv_bfloat16;
constexpr int kThreads = 256, kVector = 8;
constexpr int kBackwardBlocksPerSm = 2;

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

// Each block walks over rows and keeps its part of the weight gradient: partial [blocks, width].
template <int kVectors>
__global__ void __launch_bounds__(kThreads)
    backward(const Bf16* input, const Bf16* weight, const float* inverse_rms, const Bf16* out_gradient,
             const Bf16* residual_gradient, Bf16* input_gradient, float* partial, std::int64_t rows, int width) {
  Vector8 sums[kVectors] = {};
  for (std::int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const std::int64_t start = row * width;
    const float inverse = inverse_rms[row];
    Vector8 x[kVectors], g[kVectors];
    float dot = 0;
#pragma unroll
    for (int index = 0; index < kVectors; ++index) {
      const int column = (index * kThreads + static_cast<int>(threadIdx.x)) * kVector;
      if (column >= width) break;
      x[index] = Vector8::load(input + start + column);
      g[index] = Vector8::load(out_gradient + start + column);
      const Vector8 scale = Vector8::load(weight + column);
#pragma unroll
      for (int element = 0; element < kVector; ++element) {
        sums[index].value[element] += g[index].value[element] * x[index].value[element] * inverse;
        g[index].value[element] *= scale.value[element];
        dot += g[index].value[element] * x[index].value[element];
      }
    }
    const float pull = block_sum(dot) / static_cast<float>(width) * inverse * inverse;
#pragma unroll
    for (int index = 0; index < kVectors; ++index) {
      const int column = (index * kThreads + static_cast<int>(threadIdx.x)) * kVector;
      if (column >= width) break;
      Vector8 around = {};
      if (residual_gradient != nullptr) around = Vector8::load(residual_gradient + start + column);
      Vector8 result;
#pragma unroll
      for (int element = 0; element < kVector; ++element)
        result.value[element] =
            inverse * (g[index].value[element] - x[index].value[element] * pull) + around.value[element];
      result.store(input_gradient + start + column);
    }
  }
#pragma unroll
  for (int index = 0; index < kVectors; ++index) {
    const int column = (index * kThreads + static_cast<int>(threadIdx.x)) * kVector;
    if (column < width) sums[index].store(partial + std::int64_t{blockIdx.x} * width + column);
  }
}

__global__ void add_partials(const float* partial, float* weight_gradient, int blocks, int width) {
  const int column = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (column >= width) return;
  float sum = 0;
  for (int block = 0; block < blocks; ++block) sum += partial[std::int64_t{block} * width + column];
  weight_gradient[column] += sum;
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

unsigned norm_backward_blocks(std::int64_t rows, int sms) { return num_blocks(rows, 1, sms, kBackwardBlocksPerSm); }

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
    const unsigned blocks = norm_backward_blocks(rows, on.sms);
    auto* partial = static_cast<float*>(on.workspace);
    backward<decltype(vectors)::value>
        <<<blocks, kThreads, 0, on.stream>>>(op.input.as<Bf16>(), op.weight.as<Bf16>(), op.inverse_rms.as<float>(),
                                             op.out_gradient.as<Bf16>(), optional_data<Bf16>(op.residual_gradient),
                                             op.input_gradient.as<Bf16>(), partial, rows, static_cast<int>(width));
    MSMOE_CHECK(cudaGetLastError());
    add_partials<<<static_cast<unsigned>((width + kThreads - 1) / kThreads), kThreads, 0, on.stream>>>(
        partial, op.weight_gradient.as<float>(), static_cast<int>(blocks), static_cast<int>(width));
    MSMOE_CHECK(cudaGetLastError());
  });
}

}  // namespace msmoe::kernels
