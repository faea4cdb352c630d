// Lets CUTLASS's epilogue add a tile to memory instead of storing it: TMA hands the tile to L2, which adds (cp.reduce,
// PTX ISA), so no SM waits for the old values, as it does where the epilogue reads them. Each element is added to once,
// so the sum does not depend on the order of the tiles.
#pragma once

#include <cute/atom/copy_traits_sm90_tma.hpp>
#include <cute/tensor.hpp>
#include <cutlass/epilogue/collective/collective_builder.hpp>

namespace msmoe::kernels {

struct TmaAdd : cute::SM90_TMA_STORE {};         // the copy that the host describes
struct TmaAddTo : cute::SM90_TMA_REDUCE_ADD {};  // the same with the descriptor that a group's output has

template <class Epilogue>
struct Adding;

// The epilogue that it is given, with TmaAdd in the place of the store.
template <class Policy, class Tile, class Subtile, class ElementC, class StrideC, class ElementD, class StrideD,
          class Fusion, class Load, class LayoutC, class ReadC, class Store, class LayoutD, class WriteD, class AtomC,
          class Registers>
struct Adding<cutlass::epilogue::collective::CollectiveEpilogue<Policy, Tile, Subtile, ElementC, StrideC, ElementD,
                                                                StrideD, Fusion, Load, LayoutC, ReadC, Store, LayoutD,
                                                                WriteD, AtomC, Registers>> {
  using Epilogue = cutlass::epilogue::collective::CollectiveEpilogue<Policy, Tile, Subtile, ElementC, StrideC, ElementD,
                                                                     StrideD, Fusion, Load, LayoutC, ReadC, TmaAdd,
                                                                     LayoutD, WriteD, AtomC, Registers>;
};

}  // namespace msmoe::kernels

namespace cute {

template <class Bits>
struct Copy_Traits<msmoe::kernels::TmaAddTo, Bits> {
  using ThrID = Layout<_1>;
  using SrcLayout = Layout<Shape<_1, Bits>>;
  using DstLayout = SrcLayout;
  using RefLayout = SrcLayout;

  const TmaDescriptor* descriptor = nullptr;

  template <class From, class FromLayout, class To, class ToLayout>
  CUTE_HOST_DEVICE friend constexpr void copy_unpack(const Copy_Traits& traits, const Tensor<From, FromLayout>& from,
                                                     Tensor<To, ToLayout>& to) {
    static_assert(is_smem<From>::value, "TMA adds what lies in shared memory");
    const void* const descriptor = traits.descriptor;
    const void* const tile = raw_pointer_cast(from.data());
    const auto at = to.data().coord_;
    detail::explode_tuple(detail::CallCOPY<SM90_TMA_REDUCE_ADD>{}, make_tuple(descriptor, tile), seq<0, 1>{}, at,
                          tuple_seq<decltype(at)>{});
  }
};

template <class Bits, class Aux>
struct Copy_Traits<msmoe::kernels::TmaAdd, Bits, Aux> : Copy_Traits<SM90_TMA_STORE, Bits, Aux> {
  CUTE_HOST_DEVICE constexpr Copy_Traits<msmoe::kernels::TmaAddTo, Bits> with(const TmaDescriptor* descriptor) const {
    return {descriptor};
  }
};

}  // namespace cute
