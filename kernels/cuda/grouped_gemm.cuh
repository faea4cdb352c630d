// One product per expert with CUTLASS's pointer-array kernel for Hopper: TMA loads, warp-specialized.
//
// The kernel reads shapes, pointers and strides of its groups from device memory. A kernel of one block writes them
// from the offsets first, so the host never learns how many rows an expert has.
#pragma once

#include <cutlass/cutlass.h>
#include <cutlass/gemm/device/gemm_universal_adapter.h>
#include <cute/tensor.hpp>
#include <cutlass/epilogue/collective/collective_builder.hpp>
#include <cutlass/gemm/collective/collective_builder.hpp>
#include <cutlass/gemm/group_array_problem_shape.hpp>
#include <cutlass/gemm/kernel/gemm_universal.hpp>

#include <algorithm>
#include <type_traits>

#include "kernels/cuda/check.h"
#include "kernels/cuda/grouped_gemm.h"

namespace msmoe::kernels {

using RowMajor = cutlass::layout::RowMajor;
using ColumnMajor = cutlass::layout::ColumnMajor;

// Two warp groups share a tile of 128 x 256, which loads least; or each has its own of 128 x 128 and writes while the
// other multiplies ("pingpong").
enum class Tiles { kShared, kOwn };

// LayoutA and LayoutB are those of a [m, k] and b [k, n] in CUTLASS's words; ElementC is void where nothing is added
// to.
template <GroupedPass pass, class LayoutA, class LayoutB, class ElementC, class ElementD, Tiles tiles = Tiles::kShared>
struct GroupedProduct {
  using Bf16 = cutlass::bfloat16_t;
  static constexpr bool kShared = tiles == Tiles::kShared;
  using Schedule = std::conditional_t<kShared, cutlass::gemm::KernelPtrArrayTmaWarpSpecializedCooperative,
                                      cutlass::gemm::KernelPtrArrayTmaWarpSpecializedPingpong>;
  using EpilogueSchedule = std::conditional_t<kShared, cutlass::epilogue::PtrArrayTmaWarpSpecializedCooperative,
                                              cutlass::epilogue::PtrArrayTmaWarpSpecializedPingpong>;
  using TileShape = cute::Shape<cute::_128, std::conditional_t<kShared, cute::_256, cute::_128>, cute::_64>;
  // Two neighbours share what they load of a or b; forward is faster when it is the rows. A cluster of two is a TPC,
  // which no Hopper GPU lacks half of.
  static constexpr int kCluster = 2;
  using ClusterShape = std::conditional_t<pass == GroupedPass::kForward, cute::Shape<cute::_1, cute::_2, cute::_1>,
                                          cute::Shape<cute::_2, cute::_1, cute::_1>>;
  static constexpr int kTmaBytes = 16;
  static constexpr int kAlignment = kTmaBytes / sizeof(Bf16), kAlignmentD = kTmaBytes / sizeof(ElementD);
  static constexpr bool kAccumulates = !std::is_void_v<ElementC>;

  using Epilogue = typename cutlass::epilogue::collective::CollectiveBuilder<
      cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, TileShape, ClusterShape,
      cutlass::epilogue::collective::EpilogueTileAuto, float, float, ElementC, RowMajor*, kAlignmentD, ElementD,
      RowMajor*, kAlignmentD, EpilogueSchedule>::CollectiveOp;
  using Mainloop = typename cutlass::gemm::collective::CollectiveBuilder<
      cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Bf16, LayoutA*, kAlignment, Bf16, LayoutB*, kAlignment,
      float, TileShape, ClusterShape,
      cutlass::gemm::collective::StageCountAutoCarveout<static_cast<int>(sizeof(typename Epilogue::SharedStorage))>,
      Schedule>::CollectiveOp;
  using ProblemShape = cute::Shape<int, int, int>;
  using Kernel =
      cutlass::gemm::kernel::GemmUniversal<cutlass::gemm::GroupProblemShape<ProblemShape>, Mainloop, Epilogue>;
  using Device = cutlass::gemm::device::GemmUniversalAdapter<Kernel>;
  using StrideA = typename Kernel::InternalStrideA;
  using StrideB = typename Kernel::InternalStrideB;
  using StrideD = typename Kernel::InternalStrideD;

  // What the kernel reads of its groups, an array for each.
  struct Table {
    ProblemShape* shapes;
    const Bf16** a;
    const Bf16** b;
    ElementD** d;
    StrideA* stride_a;
    StrideB* stride_b;
    StrideD* stride_d;
  };

  static Table take_table(WorkspaceParts& parts, int experts) {
    return {.shapes = parts.take<ProblemShape>(experts),
            .a = parts.take<const Bf16*>(experts),
            .b = parts.take<const Bf16*>(experts),
            .d = parts.take<ElementD*>(experts),
            .stride_a = parts.take<StrideA>(experts),
            .stride_b = parts.take<StrideB>(experts),
            .stride_d = parts.take<StrideD>(experts)};
  }

  // Only whole clusters run.
  static int usable(int sms) { return std::max(sms / kCluster, 1) * kCluster; }

  static typename Device::Arguments arguments(const Table& table, const GroupSizes& sizes, bool accumulate, int sms) {
    typename Device::Arguments arguments{};
    arguments.mode = cutlass::gemm::GemmUniversalMode::kGrouped;
    arguments.problem_shape = {sizes.experts, table.shapes, nullptr};
    arguments.mainloop = {table.a, table.stride_a, table.b, table.stride_b};
    arguments.epilogue.thread.alpha = 1;
    arguments.epilogue.thread.beta = accumulate ? 1 : 0;
    arguments.epilogue.ptr_D = table.d;
    arguments.epilogue.dD = table.stride_d;
    if constexpr (kAccumulates) {
      arguments.epilogue.ptr_C = const_cast<const ElementC**>(table.d);
      arguments.epilogue.dC = table.stride_d;
    }
    arguments.hw_info.sm_count = usable(sms);
    // Blocks that run at the same time should span a square of the output, so that L2 serves them: the shorter side
    // first. Forward, the rows of an expert first measured faster whatever its shape.
    const std::int64_t m = pass == GroupedPass::kWeightGradient ? sizes.out : sizes.rows / std::max(sizes.experts, 1);
    using Raster = typename Kernel::TileScheduler::RasterOrderOptions;
    const bool along_m = pass == GroupedPass::kForward || m <= sizes.in;
    arguments.scheduler.raster_order = along_m ? Raster::AlongM : Raster::AlongN;
    return arguments;
  }

  static std::size_t workspace_bytes(const GroupSizes& sizes, int sms) {
    WorkspaceParts parts;
    const Table table = take_table(parts, sizes.experts);
    return parts.used() + Device::get_workspace_size(arguments(table, sizes, false, sms));
  }

  static void run(const GroupedGemm& operation, const GroupSizes& sizes, const DeviceLaunch& launch);
};

// A packed matrix's stride, whichever mode is contiguous.
template <class Stride>
__device__ Stride packed_stride(std::int64_t columns) {
  Stride stride{};
  if constexpr (std::is_same_v<std::remove_cvref_t<decltype(cute::get<0>(stride))>, std::int64_t>) {
    cute::get<0>(stride) = columns;
  } else {
    cute::get<1>(stride) = columns;
  }
  return stride;
}

// In the weight gradient a group without rows gets no tiles at all: this version of CUTLASS does not do products with
// k = 0.
template <GroupedPass pass, class Product, class Element>
__global__ void fill_table(typename Product::Table table, const std::int32_t* offsets, const cutlass::bfloat16_t* rows,
                           const cutlass::bfloat16_t* weights, Element* out, GroupSizes sizes) {
  constexpr bool kWeights = pass == GroupedPass::kWeightGradient;
  const std::int64_t columns_a = pass == GroupedPass::kForward ? sizes.in : sizes.out;
  const std::int64_t n = pass == GroupedPass::kForward ? sizes.out : sizes.in;
  for (int e = threadIdx.x; e < sizes.experts; e += blockDim.x) {
    const std::int64_t begin = offsets[e];
    const int count = offsets[e + 1] - offsets[e];
    const std::int64_t first_weight = e * sizes.out;
    if constexpr (kWeights) {
      table.shapes[e] =
          cute::make_shape(count > 0 ? static_cast<int>(sizes.out) : 0, count > 0 ? static_cast<int>(n) : 0, count);
    } else {
      table.shapes[e] = cute::make_shape(count, static_cast<int>(n), static_cast<int>(columns_a));
    }
    table.a[e] = rows + begin * columns_a;
    table.b[e] = weights + (kWeights ? begin : first_weight) * sizes.in;
    table.d[e] = out + (kWeights ? first_weight : begin) * n;
    table.stride_a[e] = packed_stride<typename Product::StrideA>(columns_a);
    table.stride_b[e] = packed_stride<typename Product::StrideB>(sizes.in);
    table.stride_d[e] = packed_stride<typename Product::StrideD>(n);
  }
}

template <GroupedPass pass, class LayoutA, class LayoutB, class ElementC, class ElementD, Tiles tiles>
void GroupedProduct<pass, LayoutA, LayoutB, ElementC, ElementD, tiles>::run(const GroupedGemm& operation,
                                                                            const GroupSizes& sizes,
                                                                            const DeviceLaunch& launch) {
  WorkspaceParts parts(launch.workspace);
  const Table table = take_table(parts, sizes.experts);
  constexpr int kThreads = 128;
  fill_table<pass, GroupedProduct><<<1, kThreads, 0, launch.stream>>>(
      table, operation.offsets.as<std::int32_t>(), static_cast<const Bf16*>(operation.rows.data),
      static_cast<const Bf16*>(operation.weights.data), static_cast<ElementD*>(operation.out.data), sizes);
  MSMOE_CHECK(cudaGetLastError());

  Device device;
  const auto check_status = [](cutlass::Status status) {
    if (status != cutlass::Status::kSuccess) fail("grouped_gemm", cutlassGetStatusString(status), __FILE__, __LINE__);
  };
  check_status(device.initialize(arguments(table, sizes, operation.accumulate, launch.sms), parts.take<std::byte>(0),
                                 launch.stream));
  check_status(device.run(launch.stream));
}

}  // namespace msmoe::kernels
