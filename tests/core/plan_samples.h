// Models and plans small enough to check by hand.
#pragma once

#include <string>

#include "core/cluster.h"
#include "core/model.h"
#include "core/plan.h"

namespace msmoe {

inline Model sample_dense_model(int layers, std::int64_t heads, std::int64_t kv_heads) {
  Model model;
  model.name = "dense";
  model.hidden = heads * 128;
  model.vocab = 65536;
  LayerKind kind;
  kind.attention.heads = heads;
  kind.attention.kv_heads = kv_heads;
  kind.attention.head_dim = kind.attention.value_dim = 128;
  kind.feed_forward.width = 16384;
  model.kinds = {kind};
  model.layers.assign(static_cast<std::size_t>(layers), 0);
  return model;
}

inline Model sample_moe_model(int layers, std::int64_t heads, std::int64_t kv_heads, std::int64_t experts) {
  Model model = sample_dense_model(layers, heads, kv_heads);
  model.name = "moe";
  FeedForward& ffn = model.kinds[0].feed_forward;
  ffn.width = 2048;
  ffn.experts = experts;
  ffn.top_k = 2;
  return model;
}

inline Cluster sample_cluster() {
  Cluster cluster;
  cluster.name = "sample";
  cluster.gpu.name = "H800";
  cluster.gpu.bf16_peak = {989e12};
  cluster.gpu.fp8_peak = {1979e12};
  cluster.gpu.sms = 132;
  return cluster;
}

// One GPU, one sequence; overlap off, so that Megatron's rules on it stay out of the way.
inline Plan sample_plan() {
  Plan plan;
  plan.model = "moe";
  plan.cluster = "sample";
  plan.seq_len = 4096;
  plan.in_layer_overlap = InLayerOverlap::kNone;
  return plan;
}

inline std::string all_messages(const std::vector<Violation>& violations) {
  std::string text;
  for (const Violation& violation : violations) text += violation.rule + ": " + violation.message + "\n";
  return text;
}

}  // namespace msmoe
