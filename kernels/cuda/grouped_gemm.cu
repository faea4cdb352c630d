#include <algorithm>

#include "core/cost_terms.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/grouped_gemm.h"
#include "kernels/cuda/requirements.h"

namespace msmoe::kernels {

namespace {

constexpr char kName[] = "grouped_gemm";

GroupSizes check_operands(const GroupedGemm& gemm) {
  require(gemm.offsets && gemm.offsets.rows == 1 && gemm.offsets.columns >= 1, kName, "offsets are missing");
  require(gemm.offsets.element == Element::kInt32, kName, "offsets are not int32");
  GroupSizes sizes{.experts = static_cast<int>(gemm.offsets.columns - 1), .rows = gemm.rows.rows};
  sizes.in = gemm.weights.columns;
  sizes.out = gemm.pass == GroupedPass::kForward ? gemm.out.columns : gemm.rows.columns;
  const std::int64_t weight_rows = sizes.experts * sizes.out;

  const bool forward = gemm.pass == GroupedPass::kForward;
  const bool weight_gradient = gemm.pass == GroupedPass::kWeightGradient;
  require(weight_gradient || !gemm.accumulate, kName, "only the weight gradient accumulates");
  require_matrix(gemm.rows, sizes.rows, forward ? sizes.in : sizes.out, Element::kBf16, kName, "rows");
  require_matrix(gemm.weights, weight_gradient ? sizes.rows : weight_rows, sizes.in, Element::kBf16, kName, "weights");
  if (weight_gradient) {
    require_matrix(gemm.out, weight_rows, sizes.in, Element::kFp32, kName, "out");
  } else {
    require_matrix(gemm.out, sizes.rows, forward ? sizes.out : sizes.in, Element::kBf16, kName, "out");
  }
  return sizes;
}

// Where experts have few rows, a tile of the weight gradient takes about as long to add to memory as to multiply, and
// tiles that overlap the two win: 2.03 ms instead of 2.32 for 8 experts of 1,024 rows on H100 (gpu_bench). With 4,096
// rows they lost over a quarter there, since they load more.
const GroupedProductCalls& calls_of(const GroupedGemm& gemm, const GroupSizes& sizes) {
  switch (gemm.pass) {
    case GroupedPass::kForward: return kGroupedForward;
    case GroupedPass::kInputGradient: return kGroupedInputGradient;
    case GroupedPass::kWeightGradient: break;
  }
  const bool is_short = has_short_weight_gradients(static_cast<double>(sizes.rows), sizes.experts);
  return is_short ? kGroupedWeightGradientShort : kGroupedWeightGradient;
}

// Block (x, e) clears its share of expert e's gradient if that expert has no rows: no product writes there.
__global__ void clear_without_rows(const std::int32_t* offsets, float4* out, std::int64_t vectors) {
  const int e = blockIdx.y;
  if (offsets[e] != offsets[e + 1]) return;
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < vectors; i += step) {
    out[e * vectors + i] = float4{};
  }
}

}  // namespace

std::size_t grouped_gemm_workspace_bytes(const GroupedGemm& operation, int sms) {
  const GroupSizes sizes = check_operands(operation);
  return calls_of(operation, sizes).workspace_bytes(sizes, sms);
}

void grouped_gemm(const GroupedGemm& operation, const DeviceLaunch& launch) {
  const GroupSizes sizes = check_operands(operation);
  if (sizes.experts == 0 || operation.out.size() == 0) return;
  if (operation.pass == GroupedPass::kWeightGradient && !operation.accumulate) {
    constexpr int kThreads = 256, kBlocksEach = 32;
    constexpr int kVector = sizeof(float4) / sizeof(float);
    clear_without_rows<<<dim3(kBlocksEach, sizes.experts), kThreads, 0, launch.stream>>>(
        operation.offsets.as<std::int32_t>(), static_cast<float4*>(operation.out.data), sizes.out * sizes.in / kVector);
    MSMOE_CHECK(cudaGetLastError());
  }
  if (operation.rows.size() == 0 || operation.weights.size() == 0) return;
  DeviceLaunch limited = launch;
  if (operation.sms > 0) limited.sms = std::min(operation.sms, launch.sms);
  calls_of(operation, sizes).run(operation, sizes, limited);
}

}  // namespace msmoe::kernels
