// LayerContext: what the lowering of one layer's parts shares. Token counts are per micro-batch and rank.
//
//   tokens          micro_batch * seq_len, of the whole micro-batch
//   context_tokens  after the context split: what a rank sees inside attention
//   shard_tokens    after the attention split too: what a rank holds between operators (sequence parallel)
#pragma once

#include <algorithm>

#include "core/lowering/module_builder.h"

namespace msmoe {

// Of an exchange's payload, what a rank sends over each wire; both 0: what the collective sends.
struct WireParts {
  double nvlink = 0, nic = 0;
};

// Of what a norm or a softmax leaves for its backward, in fp32. A norm that does not run again for its result does not
// for its statistics: no recompute set names them.
inline constexpr double kStatisticBytes = 4;

// Tensors that an exchange reads or writes beside its payload: which rows go where.
struct Ledger {
  std::vector<TensorId> reads, writes;
};

struct LayerContext {
  LayerContext(const Model& m, const Plan& p, const LoweringOptions& options, ModuleBuilder& b)
      : model(m),
        plan(p),
        builder(b),
        imbalance(p.capacity > 0 ? std::min(options.imbalance, p.capacity) : options.imbalance),
        gpus_per_node(options.gpus_per_node) {
    hidden = static_cast<double>(m.hidden);
    tokens = static_cast<double>(p.micro_batch) * static_cast<double>(p.seq_len);
    context_tokens = tokens / static_cast<double>(p.context_degree);
    shard_tokens = context_tokens / static_cast<double>(p.attention_degree);
    splits_weights = p.attention == AttentionParallelism::kTensor && p.attention_degree > 1;
  }

  const Model& model;
  const Plan& plan;
  ModuleBuilder& builder;
  double imbalance;
  std::int64_t gpus_per_node;
  Bytes elements(double count) const { return builder.elements(count); }
  Precision wide_precision() const { return msmoe::wide_precision(plan.precision); }
  double hidden = 0, tokens = 0, context_tokens = 0, shard_tokens = 0;
  bool splits_weights = false;  // tensor parallelism: dense weights are split, sequences gathered around them

  // Whether exchanges of this group become part of fused operators.
  bool fuses(GroupKind group) const {
    const bool decomposes = plan.in_layer_overlap == InLayerOverlap::kDecomposed && group == GroupKind::kAttention &&
                            plan.attention == AttentionParallelism::kTensor;
    return (decomposes || plan.in_layer_overlap == InLayerOverlap::kIntraOperator) &&
           group_of(group, plan, gpus_per_node).nodes() == 1;
  }
  double weight_split() const { return splits_weights ? static_cast<double>(plan.attention_degree) : 1; }
  // Tells the builder of parameters that tensor ranks hold alike, where there are such ranks.
  void share_parameters(double count) const {
    if (splits_weights) builder.share_parameters(count);
  }
  // Rows that a dense GEMM of this rank works on.
  double dense_rows() const { return splits_weights ? context_tokens : shard_tokens; }

  // [shard_tokens, width] -> [context_tokens, width] over the tensor ranks; x itself where weights are not split.
  TensorId gather_tokens(const char* name, TensorId x, double width, Recompute rebuilt_by) const;
  // Sums partial [context_tokens, width] over the tensor ranks and keeps this rank's tokens.
  TensorId scatter_tokens(const char* name, TensorId x, double width) const;
  // An exchange in the plan's activation wire format. count: elements of the payload.
  TensorId exchange(const char* name, Collective collective, GroupKind group, double count, TensorId x, TensorId out,
                    WireParts wires = {}, const Ledger& ledger = {}) const;
};

}  // namespace msmoe
