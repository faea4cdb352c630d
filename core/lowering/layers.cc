// Modules of the decoder: one layer, an extra prediction layer, the embedding, and the head with its loss.
#include <algorithm>
#include <cmath>

#include "core/lowering/attention.h"
#include "core/lowering/feed_forward.h"
#include "core/lowering/layer_context.h"

namespace msmoe {
namespace {

// ZeRO-3: a module's parameters are gathered before each pass over it, one module ahead, and its gradients leave after
// backward; ZeRO-2: only the latter. Nothing in the module waits for them.
void add_sharded_data_traffic(ModuleBuilder& builder, const Plan& plan, const ModuleParameters& parameters) {
  const double parameter_bytes = weight_bytes(plan.precision);
  const double gradient_bytes = plan.grad_wire == WireFormat::kFp32 ? 4 : 2;
  if (plan.zero >= 3) {
    builder.background_transfer("param_gather", Collective::kAllGather, GroupKind::kDenseData,
                                {parameters.dense * parameter_bytes});
    if (parameters.expert > 0)
      builder.background_transfer("expert_param_gather", Collective::kAllGather, GroupKind::kExpertData,
                                  {parameters.expert * parameter_bytes});
  }
  if (plan.zero >= 2 && builder.in_backward()) {
    builder.background_transfer("grad_reduce", Collective::kReduceScatter, GroupKind::kDenseData,
                                {parameters.dense * gradient_bytes});
    if (parameters.expert > 0)
      builder.background_transfer("expert_grad_reduce", Collective::kReduceScatter, GroupKind::kExpertData,
                                  {parameters.expert * gradient_bytes});
  }
}

// RMSNorm backward reads input and gradient, and adds the residual's gradient to what it writes.
constexpr double kNormBackwardPasses = 4;

class LayerLowering {
 public:
  LayerLowering(const LayerContext& context, const LayerKind& kind)
      : builder_(context.builder),
        replays_(context.plan.recompute == kRecomputeFull),
        size_(context.elements(context.shard_tokens * context.hidden)),
        stats_size_{context.shard_tokens * kStatisticBytes},
        attention_(context, kind.attention),
        feed_forward_(context, kind.feed_forward) {
    const double experts = static_cast<double>(kind.feed_forward.experts) / static_cast<double>(context.plan.ep);
    const auto vectors = static_cast<double>(kind.norm_parameters + kind.attention.vector_parameters +
                                             kind.feed_forward.vector_parameters);
    builder_.add_parameters(vectors, experts * static_cast<double>(kind.feed_forward.expert_vector_parameters));
    context.share_parameters(vectors);
  }

  TensorId forward(TensorId hidden) {
    hidden_ = hidden;
    const TensorId normed1 = builder_.tensor("ln1_out", size_, Recompute::kNorm);
    stats1_ = builder_.tensor("ln1_stats", stats_size_);
    builder_.compute("ln1", elementwise(size_ * 2), {hidden}, {normed1, stats1_});
    const TensorId attended = attention_.forward(normed1);
    residual_ = builder_.tensor("ln2_in", size_, Recompute::kAttention);
    builder_.compute("residual1", elementwise(size_ * 3), {hidden, attended}, {residual_});
    const TensorId normed2 = builder_.tensor("ln2_out", size_, Recompute::kNorm);
    stats2_ = builder_.tensor("ln2_stats", stats_size_);
    builder_.compute("ln2", elementwise(size_ * 2), {residual_}, {normed2, stats2_});
    const TensorId ffn_out = feed_forward_.forward(normed2);
    const TensorId out = builder_.tensor("hidden_out", size_);
    builder_.compute("residual2", elementwise(size_ * 3), {residual_, ffn_out}, {out});
    return out;
  }

  TensorId backward(TensorId d_out) {
    if (replays_) builder_.replay_forward();
    const TensorId d_normed2 = feed_forward_.backward(d_out);
    builder_.need(residual_);
    builder_.need(stats2_);
    const TensorId d_residual = builder_.tensor("d_ln2", size_);
    builder_.compute("d_ln2", elementwise(size_ * kNormBackwardPasses), {residual_, stats2_, d_normed2, d_out},
                     {d_residual});
    const TensorId d_normed1 = attention_.backward(d_residual);
    builder_.need(hidden_);
    builder_.need(stats1_);
    const TensorId d_hidden = builder_.tensor("d_ln1", size_);
    builder_.compute("d_ln1", elementwise(size_ * kNormBackwardPasses), {hidden_, stats1_, d_normed1, d_residual},
                     {d_hidden});
    return d_hidden;
  }

 private:
  ModuleBuilder& builder_;
  bool replays_;
  Bytes size_;        // of [shard_tokens, h]
  Bytes stats_size_;  // of what a norm of these leaves for its backward
  AttentionLowering attention_;
  FeedForwardLowering feed_forward_;
  TensorId hidden_ = -1, residual_ = -1, stats1_ = -1, stats2_ = -1;
};

// A multiple of 128 on each tensor rank, as Megatron's make-vocab-size-divisible-by.
double padded_vocab_on_rank(const LayerContext& context) {
  const double split = context.weight_split();
  return 128 * std::ceil(static_cast<double>(context.model.vocab) / (128 * split));
}

// Output head and loss over the vocabulary (split over tensor ranks where weights are split).
class HeadLowering {
 public:
  explicit HeadLowering(const LayerContext& context) : context_(context), builder_(context.builder) {
    rows_ = context.dense_rows();
    vocab_ = padded_vocab_on_rank(context);
    const bool chunked = context.plan.loss == LossKind::kChunked;
    chunk_rows_ = chunked ? std::min(rows_, static_cast<double>(kLossChunkTokens)) : rows_;
    kernels_ = static_cast<int>(std::ceil(rows_ / chunk_rows_));
    size_ = context.elements(context.shard_tokens * context.hidden);
  }

  void forward(TensorId hidden) {
    hidden_ = hidden;
    const TensorId normed = builder_.tensor("final_norm", size_, Recompute::kNorm);
    stats_ = builder_.tensor("final_norm_stats", {context_.shard_tokens * kStatisticBytes});
    builder_.compute("final_norm", elementwise(size_ * 2), {hidden}, {normed, stats_});
    input_ = context_.gather_tokens("head_ag", normed, context_.hidden, Recompute::kAttentionOut);
    if (context_.plan.loss == LossKind::kFull) logits_and_loss();
  }

  TensorId backward() {
    if (context_.plan.loss == LossKind::kChunked) builder_.need(input_);
    if (context_.plan.loss == LossKind::kChunked) logits_and_loss();
    if (context_.plan.loss == LossKind::kFull) {
      builder_.need(logits_);
      builder_.need(loss_);
    }
    const TensorId d_logits = builder_.tensor("d_loss", context_.elements(chunk_rows_ * vocab_));
    builder_.compute("d_loss", elementwise(context_.elements(2 * rows_ * vocab_), kernels_), {logits_, loss_},
                     {d_logits});
    const TensorId d_input = builder_.tensor("d_head", context_.elements(rows_ * context_.hidden));
    Compute input_work = gemm(rows_, context_.hidden, vocab_, context_.wide_precision());
    input_work.kernels = kernels_;
    std::vector<TensorId> reads = {d_logits};
    if (context_.plan.loss == LossKind::kChunked) reads.push_back(input_);  // its weight gradients, chunk by chunk
    builder_.compute("d_head", input_work, reads, {d_input});
    if (context_.plan.loss == LossKind::kFull) builder_.need(input_);
    Compute weight_work =
        weight_gradient_gemm(1, rows_, vocab_, context_.hidden, context_.plan.grad_bytes, context_.wide_precision());
    weight_work.kernels = kernels_;
    builder_.weight_gradient("w_head", weight_work, {input_, d_logits});
    const TensorId d_normed = context_.scatter_tokens("d_head_rs", d_input, context_.hidden);
    builder_.need(hidden_);
    builder_.need(stats_);
    const TensorId d_hidden = builder_.tensor("d_final_norm", size_);
    builder_.compute("d_final_norm", elementwise(size_ * 3), {hidden_, stats_, d_normed}, {d_hidden});
    return d_hidden;
  }

 private:
  // Logits as they are kept and, for the loss, in fp32 beside them; the loss reads them twice (maximum and sum, then
  // the value).
  void logits_and_loss() {
    logits_ = builder_.tensor("logits", context_.elements(chunk_rows_ * vocab_));
    const TensorId logits_fp32 = builder_.tensor("logits_fp32", {chunk_rows_ * vocab_ * 4});
    Compute work = gemm(rows_, vocab_, context_.hidden, context_.wide_precision());
    work.kernels = kernels_;
    builder_.compute("head", work, {input_}, {logits_, logits_fp32});
    loss_ = builder_.tensor("loss", {chunk_rows_ * 3 * kStatisticBytes});  // maximum, sum, target's logit
    builder_.compute("loss",
                     elementwise(context_.elements(rows_ * vocab_) + Bytes{rows_ * vocab_ * (4 + 4)}, 2 * kernels_),
                     {logits_fp32, logits_}, {loss_});
  }

  const LayerContext& context_;
  ModuleBuilder& builder_;
  double rows_ = 0, vocab_ = 0, chunk_rows_ = 0;
  int kernels_ = 1;
  Bytes size_;
  TensorId hidden_ = -1, stats_ = -1, input_ = -1, logits_ = -1, loss_ = -1;
};

// On the stage of the head: the head's own, unless it is the embedding itself on the only stage; and, where the
// embedding is on another stage, the copy that prediction layers look tokens up in, unless a tied head is that copy.
double vocabulary_matrices_beside_embedding(const Model& model, const Plan& plan) {
  const bool one_stage = plan.pp == 1;
  if (model.tied_embeddings) return one_stage ? 0 : 1;
  return model.predict_layers > 0 && !one_stage ? 2 : 1;
}

// A module's output gradient is its backward's input: a tensor that nothing in the module writes.
TensorId incoming(ModuleBuilder& builder, const LayerContext& context, const char* name) {
  return builder.tensor(name, context.elements(context.shard_tokens * context.hidden));
}

}  // namespace

Module lower_layer(const Model& model, const Plan& plan, int layer_kind, const LoweringOptions& options) {
  ModuleBuilder builder(plan, ModuleKind::kLayer, layer_kind);
  const LayerContext context(model, plan, options, builder);
  LayerLowering layer(context, model.kinds[static_cast<std::size_t>(layer_kind)]);
  const TensorId hidden = incoming(builder, context, "hidden");
  builder.passes_forward(hidden, layer.forward(hidden));
  const ModuleParameters parameters = builder.parameters();
  add_sharded_data_traffic(builder, plan, parameters);
  builder.begin_backward();
  const TensorId d_out = incoming(builder, context, "d_hidden_out");
  builder.passes_backward(d_out, layer.backward(d_out));
  add_sharded_data_traffic(builder, plan, parameters);
  return builder.finish();
}

// Multi-token prediction (DeepSeek-V3, arXiv 2412.19437, section 2.2): norms of the hidden state and of the next
// token's embedding, a projection of both, one layer, and the shared head once more.
Module lower_predict_layer(const Model& model, const Plan& plan, const LoweringOptions& options) {
  ModuleBuilder builder(plan, ModuleKind::kPredict, model.predict_kind);
  const LayerContext context(model, plan, options, builder);
  LayerLowering layer(context, model.kinds[static_cast<std::size_t>(model.predict_kind)]);
  HeadLowering head(context);
  const double shard = context.shard_tokens, h = context.hidden;
  const TensorId hidden = incoming(builder, context, "hidden");
  builder.passes_forward(hidden, -1);
  const TensorId both = builder.tensor("predict_norms", context.elements(shard * 2 * h), Recompute::kNorm);
  builder.compute("predict_norms", elementwise(context.elements(4 * shard * h), 2), {hidden}, {both});
  const TensorId projected = builder.tensor("predict_projection", context.elements(shard * h));
  builder.compute("predict_projection", gemm(shard, h, 2 * h, plan.precision), {both}, {projected});
  const double predict_parameters = 2 * h * h + 3 * h;  // the projection, both norms, and the head's own
  builder.add_parameters(predict_parameters, 0);
  context.share_parameters(predict_parameters);
  head.forward(layer.forward(projected));
  const ModuleParameters parameters = builder.parameters();
  add_sharded_data_traffic(builder, plan, parameters);

  builder.begin_backward();
  const TensorId d_projected = layer.backward(head.backward());
  const TensorId d_both = builder.tensor("d_predict_projection", context.elements(shard * 2 * h));
  builder.compute("d_predict_projection", gemm(shard, 2 * h, h, plan.precision), {d_projected}, {d_both});
  builder.need(both);
  builder.weight_gradient("w_predict_projection",
                          weight_gradient_gemm(1, shard, h, 2 * h, plan.grad_bytes, plan.precision),
                          {both, d_projected});
  builder.need(hidden);
  const TensorId d_hidden = builder.tensor("d_predict_norms", context.elements(shard * h));
  builder.compute("d_predict_norms", elementwise(context.elements(6 * shard * h), 2), {hidden, d_both}, {d_hidden});
  builder.passes_backward(-1, d_hidden);
  add_sharded_data_traffic(builder, plan, parameters);
  return builder.finish();
}

// Tensor ranks hold a range of the vocabulary each: their partial look-ups are summed as tokens are scattered.
Module lower_embedding(const Model& model, const Plan& plan, const LoweringOptions& options) {
  ModuleBuilder builder(plan, ModuleKind::kEmbedding, 0);
  const LayerContext context(model, plan, options, builder);
  const double rows = context.dense_rows();
  const Bytes size = context.elements(rows * context.hidden);
  const TensorId looked_up = builder.tensor("embedding", size);
  builder.compute("embedding", permute(size * 2), {}, {looked_up});
  builder.passes_forward(-1, context.scatter_tokens("embedding_rs", looked_up, context.hidden));
  builder.add_parameters(padded_vocab_on_rank(context) * context.hidden, 0);
  const ModuleParameters parameters = builder.parameters();
  add_sharded_data_traffic(builder, plan, parameters);
  builder.begin_backward();
  const TensorId d_out = incoming(builder, context, "d_embedding_out");
  builder.passes_backward(d_out, -1);
  const TensorId d_full = context.gather_tokens("d_embedding_ag", d_out, context.hidden, Recompute::kNothing);
  builder.weight_gradient("w_embedding",
                          permute({rows * context.hidden * (element_bytes(plan.precision) + 2 * plan.grad_bytes)}),
                          {d_full});
  add_sharded_data_traffic(builder, plan, parameters);
  return builder.finish();
}

Module lower_head(const Model& model, const Plan& plan, const LoweringOptions& options) {
  ModuleBuilder builder(plan, ModuleKind::kHead, 0);
  const LayerContext context(model, plan, options, builder);
  HeadLowering head(context);
  const TensorId hidden = incoming(builder, context, "hidden");
  builder.passes_forward(hidden, -1);
  head.forward(hidden);
  builder.add_parameters(
      vocabulary_matrices_beside_embedding(model, plan) * padded_vocab_on_rank(context) * context.hidden +
          static_cast<double>(model.final_norm_parameters + model.head_vector_parameters),
      0);
  context.share_parameters(static_cast<double>(model.final_norm_parameters));
  const ModuleParameters parameters = builder.parameters();
  add_sharded_data_traffic(builder, plan, parameters);
  builder.begin_backward();
  builder.passes_backward(-1, head.backward());
  add_sharded_data_traffic(builder, plan, parameters);
  return builder.finish();
}

}  // namespace msmoe
