#include "core/lowering/layer_context.h"

namespace msmoe {
namespace {

// One scale of 4 bytes for 128 values: per token and 128 columns forward, per column and 128 tokens backward
// (MegaScale-MoE, arXiv 2505.11432, section 5).
constexpr double kFp8WireBytes = 1 + 4.0 / 128;

}  // namespace

TensorId LayerContext::exchange(const char* name, Collective collective, GroupKind group, double count, TensorId x,
                                TensorId out, WireParts wires) const {
  const auto transfer_of = [&](Bytes payload) {
    return Transfer{collective, group, payload, payload * wires.nvlink, payload * wires.nic};
  };
  if (plan.act_wire != WireFormat::kFp8) return builder.transfer(name, transfer_of(elements(count)), {x}, {out});
  const Bytes wire{count * kFp8WireBytes};
  const TensorId quantized = builder.tensor("quantized", wire, kRecomputeFull);
  builder.compute("quantize", elementwise(builder.size_of(x) + wire), {x}, {quantized});
  return builder.transfer(name, transfer_of(wire), {quantized}, {out});
}

TensorId LayerContext::gather_tokens(const char* name, TensorId x, double width, Recompute rebuilt_by) const {
  if (!splits_weights) return x;
  const double count = context_tokens * width;
  return exchange(name, Collective::kAllGather, GroupKind::kAttention, count, x,
                  builder.tensor(name, elements(count), rebuilt_by));
}

TensorId LayerContext::scatter_tokens(const char* name, TensorId x, double width) const {
  if (!splits_weights) return x;
  return exchange(name, Collective::kReduceScatter, GroupKind::kAttention, context_tokens * width, x,
                  builder.tensor(name, elements(shard_tokens * width)));
}

}  // namespace msmoe
