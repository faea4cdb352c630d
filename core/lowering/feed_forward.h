// Feed-forward of one layer: dense, or routed experts with an optional shared one.
//
// Routed experts, on ranks that hold experts / ep of them, each 1/etp of its width:
//
//   all-to-all   permute -> all-to-all (ep) -> [all-gather (etp)] -> sort by expert -> FC1 -> SwiGLU x gate -> FC2
//                -> and the same way back, where the copies of a token are summed
//   all-gather   all-gather (ep x etp) -> keep the rows of local experts -> FC1 -> SwiGLU x gate -> FC2
//                -> weighted rows gathered into full tokens -> reduce-scatter (ep x etp)
//
// The gate weight multiplies right after SwiGLU, so that FC2's result need not be kept (MegaScale-MoE, arXiv
// 2505.11432, section 4.1); FC2 is linear, the sum is the same. Gradients travel the same two ways: what dispatches
// tokens forward dispatches gradients of combined tokens backward.
#pragma once

#include <functional>

#include "core/lowering/layer_context.h"

namespace msmoe {

class FeedForwardLowering {
 public:
  FeedForwardLowering(const LayerContext& context, const FeedForward& feed_forward);
  TensorId forward(TensorId normed);  // [shard_tokens, h] -> [shard_tokens, h]
  TensorId backward(TensorId d_out);

 private:
  struct ExchangeNames {
    const char *permute, *exchange, *tensor_exchange, *sort;
  };
  // A dense gated layer of this rank's width: a dense feed-forward, or the shared experts.
  struct Dense {
    double width = 0;
    TensorId input = -1, fc1_out = -1, fc2_in = -1;
  };
  // gathered: normed (d_out) of all tensor ranks, where an exchange of the routed experts brings it; then the result is
  // this rank's partial sum over those tokens. -1: the layer exchanges by itself.
  TensorId dense_forward(Dense& dense, TensorId normed, TensorId gathered);
  TensorId dense_backward(const Dense& dense, TensorId d_out, TensorId gathered);
  void router_forward(TensorId normed);
  TensorId router_backward(TensorId d_gates);
  TensorId experts_forward(TensorId normed, Dense* shared, TensorId* shared_out);
  // -> [rows, h]. beside: emits what should run while the exchange is under way.
  TensorId enter_experts(const ExchangeNames& names, TensorId tokens, Recompute rebuilt_by,
                         const std::function<void()>& beside);
  // -> [shard_tokens, h]. shared_partial: the shared expert's, summed with the rows before the exchange; -1: none.
  TensorId leave_experts(const ExchangeNames& names, TensorId rows, TensorId shared_partial);
  TensorId add(const char* name, TensorId a, TensorId b);
  Compute activation(double rows, double width, bool backward) const;
  WireParts dispatch_wires() const;
  Bytes route_bytes(double tokens, double top_k, double experts) const;
  Bytes arrival_bytes() const;

  const LayerContext& context_;
  const FeedForward& feed_forward_;
  ModuleBuilder& builder_;
  const Plan& plan_;
  bool all_gather_ = false;
  bool shares_exchange_ = false;  // tensor-parallel shared experts use the routed ones' all-gather and reduce-scatter
  bool fuses_experts_ = false;    // exchanges are part of the expert GEMMs
  double local_experts_ = 0, expert_width_ = 0;
  double sent_rows_ = 0;      // shard_tokens * top_k: what this rank's tokens make
  double received_rows_ = 0;  // after the all-to-all, with imbalance
  double rows_ = 0;           // that this rank's experts work on
  double gathered_tokens_ = 0;
  double fc1_width_ = 0;  // gate and up side by side
  WireParts wires_;       // of the all-to-alls
  Dense dense_;
  TensorId normed_ = -1, gathered_ = -1, logits_ = -1, probabilities_ = -1, routes_ = -1, arrivals_ = -1, ffn_in_ = -1,
           fc1_out_ = -1, fc2_in_ = -1;
};

}  // namespace msmoe
