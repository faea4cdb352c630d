// Attention of one layer: projections, RoPE, exchanges between token and head split, attention itself.
//
//   tensor    all-gather(x) -> QKV of heads/n -> attention -> output projection -> reduce-scatter
//   sequence  QKV of tokens/n -> all-to-all -> attention of heads/n -> all-to-all -> output projection   (Ulysses)
//   context   QKV of tokens/n -> attention with keys and values passed round the ring -> output projection
//
// Key and value heads fewer than n are replicated before the exchange. RoPE comes before the all-to-all, as in the
// paper's Fig. 8a.
#pragma once

#include <vector>

#include "core/lowering/layer_context.h"

namespace msmoe {

class AttentionLowering {
 public:
  AttentionLowering(const LayerContext& context, const Attention& attention);
  TensorId forward(TensorId normed);  // [shard_tokens, h] -> [shard_tokens, h]
  TensorId backward(TensorId d_out);  // gradient of forward's result -> gradient of normed

 private:
  // What the heads are made of.
  std::vector<TensorId> project(TensorId normed);
  std::vector<TensorId> project_latent(TensorId normed);
  void rotate(std::vector<TensorId> projected);
  TensorId project_backward(TensorId d_qkv);
  TensorId project_latent_backward(TensorId d_qkv);
  TensorId input_gradient(const char* name, TensorId d_y, double rows, double n, double k);
  void weight_gradient(const char* name, TensorId x, TensorId d_y, double rows, double n, double k);
  Compute attention_work(bool backward) const;
  Transfer ring_transfer(bool backward) const;
  Bytes ring_size() const;

  const LayerContext& context_;
  const Attention& attention_;
  ModuleBuilder& builder_;
  const Plan& plan_;
  bool ulysses_ = false;
  bool fuses_ = false;
  double heads_ = 0, kv_heads_ = 0;  // inside attention, on this rank
  double query_rows_ = 0;            // tokens whose queries this rank attends for
  double ring_ = 1;
  GroupKind ring_group_ = GroupKind::kContext;
  double rows_ = 0;            // of the projections
  double qkv_width_ = 0;       // of the projections' result on this rank
  double exchange_width_ = 0;  // the same with replicated key and value heads (Ulysses)
  double head_qkv_width_ = 0;  // inside attention
  struct Expansion {           // of what latent attention compresses: [rows, depth] -> [rows, width] on this rank
    double width = 0, depth = 0;
  };
  bool compresses_queries_ = false;
  double latent_width_ = 0;  // of all that is compressed, side by side
  Expansion query_up_, kv_up_;
  Bytes norm_stats_;  // of the norms of queries and keys, head by head
  TensorId normed_ = -1, gathered_ = -1, projected_ = -1, projected_stats_ = -1, latent_down_ = -1, latent_ = -1,
           latent_stats_ = -1, gathered_latent_ = -1, qkv_ = -1, head_qkv_ = -1, stats_ = -1, out_heads_ = -1,
           out_tokens_ = -1;
};

}  // namespace msmoe
