#include "kernels/cuda/grouped_gemm.cuh"

namespace msmoe::kernels {

namespace {

using Product = GroupedProduct<GroupedPass::kWeightGradient, ColumnMajor, RowMajor, float, float, Tiles::kOwn>;

}  // namespace

extern const GroupedProductCalls kGroupedWeightGradientShort{&Product::workspace_bytes, &Product::run};

}  // namespace msmoe::kernels
