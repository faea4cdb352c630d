#include "kernels/cuda/grouped_gemm.cuh"

namespace msmoe::kernels {

namespace {

using Product = GroupedProduct<GroupedPass::kInputGradient, RowMajor, RowMajor, void, cutlass::bfloat16_t>;

}  // namespace

extern const GroupedProductCalls kGroupedInputGradient{&Product::workspace_bytes, &Product::run};

}  // namespace msmoe::kernels
