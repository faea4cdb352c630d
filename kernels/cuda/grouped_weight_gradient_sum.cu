#include "kernels/cuda/grouped_gemm.cuh"

namespace msmoe::kernels {

namespace {

using Product = GroupedProduct<GroupedPass::kWeightGradient, ColumnMajor, RowMajor, float, /*adds=*/true>;

}  // namespace

extern const GroupedProductCalls kGroupedWeightGradientSum{&Product::workspace_bytes, &Product::run};

}  // namespace msmoe::kernels
