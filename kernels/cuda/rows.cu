// Rows moved by an index: a warp a row, 16 bytes a lane, so that every row is read and written in whole sectors.
#include "kernels/cuda/check.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/operators.h"
#include "kernels/cuda/requirements.h"

namespace msmoe::kernels {
namespace {

using Bf16 = __nv_bfloat16;
constexpr int kThreads = 256, kWarps = kThreads / kWarp, kVector = 8, kStep = kWarp * kVector;
constexpr int kBlocksPerSm = 16;
constexpr int kGatherThreads = 128, kGatherWarps = kGatherThreads / kWarp, kRowsEach = 2;

__device__ inline std::int64_t warp_index() { return std::int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp; }
__device__ inline std::int64_t num_warps() { return std::int64_t{gridDim.x} * kWarps; }
__device__ inline int first_column() { return static_cast<int>(threadIdx.x) % kWarp * kVector; }

// A warp moves 256 columns of kRowsEach rows. Blocks start in order, so all rows' first columns go before any second
// ones: 16,384 tokens' are 8 MiB, which stay in L2 for a row that is read for several experts. A grid that walked would
// lose that, as the blocks that do not fit at first would begin again at the first columns.
__global__ void __launch_bounds__(kGatherThreads) gather(const Bf16* in, const int* source_of, const float* weights,
                                                         Bf16* out, std::int64_t rows, int width, int fan_out) {
  const int column = static_cast<int>(blockIdx.y) * kStep + first_column();
  if (column >= width) return;
  const std::int64_t first = (std::int64_t{blockIdx.x} * kGatherWarps + threadIdx.x / kWarp) * kRowsEach;
  int sources[kRowsEach];
#pragma unroll
  for (int row = 0; row < kRowsEach; ++row) sources[row] = first + row < rows ? source_of[first + row] : -1;
  uint4 vectors[kRowsEach] = {};
  float weight[kRowsEach];
#pragma unroll
  for (int row = 0; row < kRowsEach; ++row) {
    weight[row] = weights == nullptr || sources[row] < 0 ? 1.0F : weights[sources[row]];
    if (sources[row] >= 0)
      vectors[row] = __ldg(reinterpret_cast<const uint4*>(in + std::int64_t{sources[row] / fan_out} * width + column));
  }
#pragma unroll
  for (int row = 0; row < kRowsEach; ++row)
    if (first + row < rows) Vector8::of(vectors[row]).times(weight[row]).stream(out + (first + row) * width + column);
}

// A warp takes 256 columns of one token: a token has many choices, and there are few tokens where experts are spread
// wide, too few for a warp each to fill the SMs.
__global__ void __launch_bounds__(kThreads) combine(const Bf16* in, const int* row_of, const float* weights, Bf16* out,
                                                    std::int64_t tokens, int choices, int width) {
  const int steps = (width + kStep - 1) / kStep;
  for (std::int64_t item = warp_index(); item < tokens * steps; item += num_warps()) {
    const std::int64_t token = item / steps;
    const int column = static_cast<int>(item % steps) * kStep + first_column();
    if (column >= width) continue;
    Vector8 sum = {};
#pragma unroll 4
    for (int choice = 0; choice < choices; ++choice) {
      const std::int64_t assignment = token * choices + choice;
      const int row = row_of[assignment];
      if (row < 0) continue;
      const float weight = weights == nullptr ? 1.0F : weights[assignment];
      const Vector8 values = Vector8::load(in + std::int64_t{row} * width + column);
#pragma unroll
      for (int element = 0; element < kVector; ++element) sum.value[element] += weight * values.value[element];
    }
    sum.store(out + token * width + column);
  }
}

__global__ void __launch_bounds__(kThreads)
    combine_weight_gradient(const Bf16* in, const int* row_of, const Bf16* out_gradient, float* weight_gradient,
                            std::int64_t assignments, int choices, int width) {
  for (std::int64_t assignment = warp_index(); assignment < assignments; assignment += num_warps()) {
    const int row = row_of[assignment];
    float dot = 0;
    if (row >= 0) {
      const Bf16* gradient = out_gradient + assignment / choices * width;
      for (int column = first_column(); column < width; column += kStep) {
        const Vector8 a = Vector8::load(in + std::int64_t{row} * width + column), b = Vector8::load(gradient + column);
#pragma unroll
        for (int element = 0; element < kVector; ++element) dot += a.value[element] * b.value[element];
      }
    }
    dot = warp_sum(dot);
    if (threadIdx.x % kWarp == 0) weight_gradient[assignment] = dot;
  }
}

__global__ void gather_scalars(const float* in, const int* row_of, float* out, std::int64_t size) {
  const std::int64_t index = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (index >= size) return;
  const int row = row_of[index];
  out[index] = row < 0 ? 0.0F : in[row];
}

void require_index(const View& view, std::int64_t size, const char* operation) {
  require(view.element == Element::kInt32 && view.size() == size, operation, "indices are int32, one for each row");
}
void require_weights(const View& view, std::int64_t size, const char* operation) {
  require(!view || (view.element == Element::kFp32 && view.size() >= size), operation,
          "weights are fp32, one for each assignment");
}
void require_rows(const View& view, const char* operation) {
  require_matrix(view, view.rows, view.columns, Element::kBf16, operation, "a matrix of rows");
}

}  // namespace

void launch(const GatherRows& op, const DeviceLaunch& on) {
  require_rows(op.in, "gather_rows");
  require_rows(op.out, "gather_rows");
  require(op.in.columns == op.out.columns && op.fan_out >= 1, "gather_rows",
          "in and out are equally wide, fan_out >= 1");
  require_index(op.source_of, op.out.rows, "gather_rows");
  require_weights(op.weights, 0, "gather_rows");
  if (op.out.size() == 0) return;
  constexpr int kRowsOfBlock = kGatherWarps * kRowsEach;
  const dim3 grid(static_cast<unsigned>((op.out.rows + kRowsOfBlock - 1) / kRowsOfBlock),
                  static_cast<unsigned>((op.out.columns + kStep - 1) / kStep));
  gather<<<grid, kGatherThreads, 0, on.stream>>>(op.in.as<Bf16>(), op.source_of.as<int>(),
                                                 optional_data<float>(op.weights), op.out.as<Bf16>(), op.out.rows,
                                                 static_cast<int>(op.out.columns), op.fan_out);
  MSMOE_CHECK(cudaGetLastError());
}

void launch(const CombineRows& op, const DeviceLaunch& on) {
  require_rows(op.in, "combine_rows");
  require_rows(op.out, "combine_rows");
  require(op.in.columns == op.out.columns && op.row_of.rows == op.out.rows, "combine_rows",
          "in and out are equally wide, and row_of has a row for each token");
  require_index(op.row_of, op.row_of.size(), "combine_rows");
  require_weights(op.weights, op.row_of.size(), "combine_rows");
  if (op.out.size() == 0) return;
  const std::int64_t items = op.out.rows * ((op.out.columns + kStep - 1) / kStep);
  combine<<<num_blocks(items, kWarps, on.sms, kBlocksPerSm), kThreads, 0, on.stream>>>(
      op.in.as<Bf16>(), op.row_of.as<int>(), optional_data<float>(op.weights), op.out.as<Bf16>(), op.out.rows,
      static_cast<int>(op.row_of.columns), static_cast<int>(op.out.columns));
  MSMOE_CHECK(cudaGetLastError());
}

void launch(const CombineWeightGradient& op, const DeviceLaunch& on) {
  require_rows(op.in, "combine_weight_gradient");
  require_rows(op.out_gradient, "combine_weight_gradient");
  require(op.in.columns == op.out_gradient.columns && op.row_of.rows == op.out_gradient.rows, "combine_weight_gradient",
          "in and out_gradient are equally wide, and row_of has a row for each token");
  require_index(op.row_of, op.row_of.size(), "combine_weight_gradient");
  require(op.weight_gradient.element == Element::kFp32 && op.weight_gradient.size() == op.row_of.size(),
          "combine_weight_gradient", "weight_gradient is fp32 [tokens, k]");
  if (op.row_of.size() == 0) return;
  combine_weight_gradient<<<num_blocks(op.row_of.size(), kWarps, on.sms, kBlocksPerSm), kThreads, 0, on.stream>>>(
      op.in.as<Bf16>(), op.row_of.as<int>(), op.out_gradient.as<Bf16>(), op.weight_gradient.as<float>(),
      op.row_of.size(), static_cast<int>(op.row_of.columns), static_cast<int>(op.in.columns));
  MSMOE_CHECK(cudaGetLastError());
}

void launch(const GatherScalars& op, const DeviceLaunch& on) {
  require_index(op.row_of, op.row_of.size(), "gather_scalars");
  require(op.in.element == Element::kFp32 && op.out.element == Element::kFp32 && op.out.size() == op.row_of.size(),
          "gather_scalars", "in and out are fp32, out as large as row_of");
  if (op.out.size() == 0) return;
  gather_scalars<<<static_cast<unsigned>((op.out.size() + kThreads - 1) / kThreads), kThreads, 0, on.stream>>>(
      op.in.as<float>(), op.row_of.as<int>(), op.out.as<float>(), op.out.size());
  MSMOE_CHECK(cudaGetLastError());
}

}  // namespace msmoe::kernels
