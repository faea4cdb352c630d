#include "kernels/cuda/grouped_gemm.cuh"

namespace msmoe::kernels {

namespace {

using Product = GroupedProduct<GroupedPass::kForward, RowMajor, ColumnMajor, void, cutlass::bfloat16_t>;

}  // namespace

extern const GroupedProductCalls kGroupedForward{&Product::workspace_bytes, &Product::run};

}  // namespace msmoe::kernels
