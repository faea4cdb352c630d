#include "core/lowering/layer_context.h"

namespace msmoe {
namespace {

// One scale of 4 bytes for 128 values: per token and 128 columns forward, per column and 128 tokens backward
// (MegaScale-MoE, arXiv 2505.11432, section 5).
constexpr double kFp8WireBytes = 1 + 4.0 / 128;

double wire_element_bytes(WireFormat format) {
  switch (format) {
    case WireFormat::kFp32: return 4;
    case WireFormat::kBf16: return 2;
    case WireFormat::kFp8: return kFp8WireBytes;
  }
  return 0;
}

}  // namespace

TensorId LayerContext::exchange(const char* name, Collective collective, GroupKind group, double count, TensorId x,
                                TensorId out, WireParts wires, const Ledger& ledger) const {
  const auto transfer_of = [&](Bytes payload) {
    return Transfer{collective, group, payload, payload * wires.nvlink, payload * wires.nic};
  };
  const auto send = [&](TensorId sent, Bytes payload) {
    std::vector<TensorId> reads = {sent}, writes = {out};
    reads.insert(reads.end(), ledger.reads.begin(), ledger.reads.end());
    writes.insert(writes.end(), ledger.writes.begin(), ledger.writes.end());
    return builder.transfer(name, transfer_of(payload), std::move(reads), std::move(writes));
  };
  const double wire_bytes = wire_element_bytes(plan.act_wire);
  if (wire_bytes >= element_bytes(plan.precision)) return send(x, elements(count));
  const Bytes wire{count * wire_bytes};
  const TensorId quantized = builder.tensor("quantized", wire, kRecomputeFull);
  builder.compute("quantize", elementwise(builder.size_of(x) + wire), {x}, {quantized});
  return send(quantized, wire);
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
