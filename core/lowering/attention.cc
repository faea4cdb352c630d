#include "core/lowering/attention.h"

#include <algorithm>

namespace msmoe {

AttentionLowering::AttentionLowering(const LayerContext& context, const Attention& attention)
    : context_(context), attention_(attention), builder_(context.builder), plan_(context.plan) {
  const auto degree = static_cast<double>(plan_.attention_degree);
  const auto heads = static_cast<double>(attention.heads);
  const auto kv_heads = static_cast<double>(attention.kv_heads);
  const auto qk = static_cast<double>(attention.head_dim);
  const auto value = static_cast<double>(attention.value_dim);
  fuses_ = context.fuses(GroupKind::kAttention);
  ulysses_ = plan_.attention == AttentionParallelism::kSequence && plan_.attention_degree > 1;

  const bool splits_heads = plan_.attention != AttentionParallelism::kContext;
  const double head_split = splits_heads ? degree : 1;
  heads_ = heads / head_split;
  kv_heads_ = std::max(1.0, kv_heads / head_split);
  query_rows_ = splits_heads ? context_.context_tokens : context_.shard_tokens;
  ring_ = static_cast<double>(splits_heads ? plan_.context_degree : plan_.attention_degree);
  ring_group_ = splits_heads ? GroupKind::kContext : GroupKind::kAttention;

  rows_ = context_.dense_rows();
  const double query_heads = heads / context_.weight_split() * (attention.output_gate ? 2 : 1);
  // A layer that shares its keys and values with the one before reads what that one kept (cross-layer attention).
  const double own_kv = attention.shares_kv ? 0 : qk + value;
  const double projected_kv = std::max(1.0, kv_heads / context_.weight_split());
  qkv_width_ = query_heads * qk + projected_kv * own_kv;
  exchange_width_ = heads * qk + std::max(kv_heads, degree) * own_kv;
  head_qkv_width_ = heads_ * qk + kv_heads_ * own_kv;
  const double normed_heads = heads / context_.weight_split() + (attention.shares_kv ? 0 : projected_kv);
  norm_stats_ = {rows_ * normed_heads * kStatisticBytes};
  compresses_queries_ = attention.query_rank > 0;
  latent_width_ = static_cast<double>(attention.query_rank + attention.kv_rank + attention.rope_dim);
  query_up_ = {.width = heads * qk / context_.weight_split(),
               .depth = compresses_queries_ ? static_cast<double>(attention.query_rank) : context_.hidden};
  kv_up_ = {.width = heads * (qk - static_cast<double>(attention.rope_dim) + value) / context_.weight_split(),
            .depth = static_cast<double>(attention.kv_rank)};
}

// Causal: every query meets `average span` keys. FLOPs = 2 per multiply-add, for QK^T and for PV; backward does five
// such products where forward does two (FlashAttention-2, arXiv 2307.08691).
Compute AttentionLowering::attention_work(bool backward) const {
  const double span = average_span(attention_, plan_.seq_len);
  Compute work{.kind = backward ? ComputeKind::kAttentionBackward : ComputeKind::kAttention};
  work.precision = context_.wide_precision();
  work.m = static_cast<std::int64_t>(query_rows_);
  work.n = static_cast<std::int64_t>(span);
  work.k = (attention_.head_dim + attention_.value_dim) / 2;
  work.groups = static_cast<std::int64_t>(heads_);
  const auto widths = static_cast<double>(attention_.head_dim + attention_.value_dim);
  work.flops = {2 * query_rows_ * span * heads_ * widths * (backward ? 2.5 : 1)};
  const double out_width = heads_ * static_cast<double>(attention_.value_dim);
  work.hbm = builder_.elements(query_rows_ * (head_qkv_width_ + out_width) * (backward ? 2 : 1));
  return work;
}

// Forward passes keys and values round; backward passes them again and their gradients back.
Transfer AttentionLowering::ring_transfer(bool backward) const {
  if (ring_ <= 1) return {};
  return {Collective::kAllGather, ring_group_, ring_size() * (backward ? 2 : 1)};
}

// Keys and values of the whole ring.
Bytes AttentionLowering::ring_size() const {
  const auto width = static_cast<double>(attention_.head_dim + attention_.value_dim);
  return builder_.elements(query_rows_ * ring_ * kv_heads_ * width);
}

TensorId AttentionLowering::forward(TensorId normed) {
  normed_ = normed;
  const double value_width = static_cast<double>(attention_.heads * attention_.value_dim);
  const bool latent = attention_.kind == AttentionKind::kLatent;
  {
    ModuleBuilder::FusedScope fused(builder_, ulysses_ ? "qkv+a2a" : "ag+qkv", fuses_ && !latent);
    std::vector<TensorId> projected = latent ? project_latent(normed) : project(normed);
    rotate(projected);
    head_qkv_ = qkv_;
    if (ulysses_) {
      head_qkv_ = builder_.tensor("qkv_a2a", builder_.elements(context_.context_tokens * head_qkv_width_),
                                  Recompute::kAttention);
      context_.exchange("qkv_a2a", Collective::kAllToAll, GroupKind::kAttention,
                        context_.shard_tokens * exchange_width_, qkv_, head_qkv_);
    }
  }
  const double heads_width = heads_ * static_cast<double>(attention_.value_dim);
  out_heads_ = builder_.tensor("attn", builder_.elements(query_rows_ * heads_width), Recompute::kAttention);
  stats_ = builder_.tensor("attn_stats", {query_rows_ * heads_ * kStatisticBytes}, Recompute::kAttention);
  std::vector<TensorId> written = {out_heads_, stats_};
  if (ring_ > 1) written.push_back(builder_.tensor("kv_ring", ring_size(), kRecomputeFull));
  builder_.compute_and_transfer("attention", attention_work(false), ring_transfer(false), {head_qkv_}, written);

  ModuleBuilder::FusedScope fused(builder_, ulysses_ ? "a2a+out" : "out+rs", fuses_);
  out_tokens_ = out_heads_;
  if (ulysses_) {
    const double count = context_.shard_tokens * value_width;
    out_tokens_ = builder_.tensor("attn_a2a", builder_.elements(count), Recompute::kAttentionOut);
    context_.exchange("attn_a2a", Collective::kAllToAll, GroupKind::kAttention, count, out_heads_, out_tokens_);
  }
  const double depth = value_width / context_.weight_split();
  const TensorId partial =
      builder_.tensor("attn_partial", builder_.elements(rows_ * context_.hidden), Recompute::kAttention);
  builder_.compute("out", gemm(rows_, context_.hidden, depth, plan_.precision), {out_tokens_}, {partial});
  builder_.add_parameters(context_.hidden * depth, 0);
  return context_.scatter_tokens("attn_rs", partial, context_.hidden);
}

// Norms of queries and keys, and RoPE. The norms' backward needs what they normed; from that a recompute set with norms
// makes their result again, so that one of the two is kept. Latent attention puts its heads together here, each of a
// part of its own and of the rotary key that all share.
void AttentionLowering::rotate(std::vector<TensorId> projected) {
  Recompute rebuilt_by = Recompute::kAttention | Recompute::kUpProjection;
  if (attention_.query_key_norm) rebuilt_by = rebuilt_by | Recompute::kNorm;
  qkv_ = builder_.tensor("qkv_rope", builder_.elements(rows_ * qkv_width_), rebuilt_by);
  std::vector<TensorId> written = {qkv_};
  if (attention_.query_key_norm) {
    projected_ = projected.front();
    projected_stats_ = builder_.tensor("qk_norm_stats", norm_stats_, Recompute::kAttention);
    written.push_back(projected_stats_);
  }
  builder_.compute("rope", elementwise(builder_.elements(2 * rows_ * qkv_width_)), std::move(projected), written);
}

std::vector<TensorId> AttentionLowering::project(TensorId normed) {
  gathered_ = context_.gather_tokens("ln1_ag", normed, context_.hidden, Recompute::kAttentionOut);
  const TensorId qkv = builder_.tensor("qkv", builder_.elements(rows_ * qkv_width_), Recompute::kAttention);
  builder_.compute("qkv", gemm(rows_, qkv_width_, context_.hidden, plan_.precision), {gathered_}, {qkv});
  builder_.add_parameters(qkv_width_ * context_.hidden, 0);
  if (!attention_.shares_kv && context_.weight_split() > static_cast<double>(attention_.kv_heads))
    context_.share_parameters(static_cast<double>(attention_.head_dim + attention_.value_dim) * context_.hidden);
  return {qkv};
}

// Queries and key-values are compressed by weights that every rank holds whole, and expanded per head
// (DeepSeek-V2, arXiv 2405.04434, equations 9-13). Without query compression queries come from the tokens themselves.
std::vector<TensorId> AttentionLowering::project_latent(TensorId normed) {
  const double shard = context_.shard_tokens;
  const Bytes size = builder_.elements(shard * latent_width_);
  latent_down_ = builder_.tensor("latent_down", size, Recompute::kAttention);
  builder_.compute("latent_down", gemm(shard, latent_width_, context_.hidden, plan_.precision), {normed},
                   {latent_down_});
  latent_ = builder_.tensor("latent", size, Recompute::kAttention);
  latent_stats_ =
      builder_.tensor("latent_stats", {shard * kStatisticBytes * (compresses_queries_ ? 2 : 1)}, Recompute::kAttention);
  builder_.compute("latent_norm", elementwise(size * 2), {latent_down_}, {latent_, latent_stats_});
  gathered_latent_ = context_.gather_tokens("latent_ag", latent_, latent_width_, Recompute::kAttentionOut);

  constexpr Recompute kRebuilt = Recompute::kAttention | Recompute::kUpProjection;
  TensorId query_source = gathered_latent_;
  if (!compresses_queries_)
    query_source = gathered_ = context_.gather_tokens("ln1_ag", normed, context_.hidden, Recompute::kAttentionOut);
  const TensorId queries = builder_.tensor("queries", builder_.elements(rows_ * query_up_.width), kRebuilt);
  builder_.compute("q_up", gemm(rows_, query_up_.width, query_up_.depth, plan_.precision), {query_source}, {queries});
  const TensorId expanded = builder_.tensor("kv_up", builder_.elements(rows_ * kv_up_.width), kRebuilt);
  builder_.compute("kv_up", gemm(rows_, kv_up_.width, kv_up_.depth, plan_.precision), {gathered_latent_}, {expanded});
  builder_.add_parameters(
      latent_width_ * context_.hidden + query_up_.width * query_up_.depth + kv_up_.width * kv_up_.depth, 0);
  context_.share_parameters(latent_width_ * context_.hidden);
  return {queries, expanded, gathered_latent_};
}

TensorId AttentionLowering::input_gradient(const char* name, TensorId d_y, double rows, double n, double k) {
  const TensorId d_x = builder_.tensor(name, builder_.elements(rows * k));
  builder_.compute(name, gemm(rows, k, n, plan_.precision), {d_y}, {d_x});
  return d_x;
}

void AttentionLowering::weight_gradient(const char* name, TensorId x, TensorId d_y, double rows, double n, double k) {
  builder_.need(x);
  builder_.weight_gradient(name, weight_gradient_gemm(1, rows, n, k, plan_.grad_bytes, plan_.precision), {x, d_y});
}

TensorId AttentionLowering::backward(TensorId d_out) {
  const double value_width = static_cast<double>(attention_.heads * attention_.value_dim);
  const double depth = value_width / context_.weight_split();
  const double heads_width = heads_ * static_cast<double>(attention_.value_dim);
  const bool latent = attention_.kind == AttentionKind::kLatent;
  TensorId d_partial = -1, d_heads = -1;
  {
    ModuleBuilder::FusedScope fused(builder_, ulysses_ ? "d_out+a2a" : "ag+d_out", fuses_);
    d_partial = context_.gather_tokens("d_attn_ag", d_out, context_.hidden, Recompute::kNothing);
    d_heads = input_gradient("d_out", d_partial, rows_, context_.hidden, depth);
    if (ulysses_) {
      const TensorId exchanged = builder_.tensor("d_attn_a2a", builder_.elements(query_rows_ * heads_width));
      d_heads = context_.exchange("d_attn_a2a", Collective::kAllToAll, GroupKind::kAttention,
                                  context_.shard_tokens * value_width, d_heads, exchanged);
    }
  }
  builder_.prefetch(out_tokens_);
  weight_gradient("w_out", out_tokens_, d_partial, rows_, context_.hidden, depth);

  for (const TensorId saved : {head_qkv_, out_heads_, stats_}) builder_.need(saved);
  const TensorId d_head_qkv = builder_.tensor("d_attention", builder_.elements(query_rows_ * head_qkv_width_));
  if (gathered_ >= 0) builder_.prefetch(gathered_);
  std::vector<TensorId> written = {d_head_qkv};
  if (ring_ > 1) written.push_back(builder_.tensor("d_kv_ring", ring_size() * 2));
  builder_.compute_and_transfer("d_attention", attention_work(true), ring_transfer(true),
                                {head_qkv_, out_heads_, stats_, d_heads}, written);
  builder_.need(latent ? gathered_latent_ : gathered_);
  std::vector<TensorId> rope_reads;
  if (attention_.query_key_norm) {
    builder_.need(projected_);
    builder_.need(projected_stats_);
    rope_reads = {projected_, projected_stats_};
  }

  TensorId d_normed = -1, d_qkv = -1;
  {
    ModuleBuilder::FusedScope fused(builder_, ulysses_ ? "a2a+d_qkv" : "d_qkv+rs", fuses_ && !latent);
    TensorId d_rope = d_head_qkv;
    if (ulysses_) {
      d_rope = builder_.tensor("d_qkv_a2a", builder_.elements(context_.shard_tokens * exchange_width_));
      context_.exchange("d_qkv_a2a", Collective::kAllToAll, GroupKind::kAttention,
                        context_.shard_tokens * exchange_width_, d_head_qkv, d_rope);
    }
    const double width =
        latent ? query_up_.width + kv_up_.width + static_cast<double>(attention_.rope_dim) : qkv_width_;
    d_qkv = builder_.tensor("d_rope", builder_.elements(rows_ * width));
    rope_reads.insert(rope_reads.begin(), d_rope);
    builder_.compute("d_rope", elementwise(builder_.elements(2 * rows_ * qkv_width_)), rope_reads, {d_qkv});
    d_normed = latent ? project_latent_backward(d_qkv) : project_backward(d_qkv);
  }
  if (!latent) weight_gradient("w_qkv", gathered_, d_qkv, rows_, qkv_width_, context_.hidden);
  return d_normed;
}

TensorId AttentionLowering::project_backward(TensorId d_qkv) {
  const TensorId d_gathered = input_gradient("d_qkv", d_qkv, rows_, qkv_width_, context_.hidden);
  return context_.scatter_tokens("d_ln1_rs", d_gathered, context_.hidden);
}

// The gradients of what is compressed lie side by side, each written by the operator that it comes through.
TensorId AttentionLowering::project_latent_backward(TensorId d_qkv) {
  const double shard = context_.shard_tokens;
  const TensorId d_expanded = builder_.tensor("d_kv_up", builder_.elements(rows_ * latent_width_));
  builder_.compute("d_kv_up", gemm(rows_, kv_up_.depth, kv_up_.width, plan_.precision), {d_qkv}, {d_expanded});
  TensorId d_queries = d_expanded;
  if (!compresses_queries_) d_queries = builder_.tensor("d_q_up", builder_.elements(rows_ * query_up_.depth));
  std::vector<TensorId> reads = {d_qkv};
  if (compresses_queries_) reads.push_back(d_expanded);
  builder_.compute("d_q_up", gemm(rows_, query_up_.depth, query_up_.width, plan_.precision), reads, {d_queries});
  weight_gradient("w_q_up", compresses_queries_ ? gathered_latent_ : gathered_, d_qkv, rows_, query_up_.width,
                  query_up_.depth);
  weight_gradient("w_kv_up", gathered_latent_, d_qkv, rows_, kv_up_.width, kv_up_.depth);
  const TensorId d_latent = context_.scatter_tokens("d_latent_rs", d_expanded, latent_width_);
  builder_.need(latent_down_);
  builder_.need(latent_stats_);
  const TensorId d_down = builder_.tensor("d_latent_norm", builder_.elements(shard * latent_width_));
  builder_.compute("d_latent_norm", elementwise(builder_.elements(3 * shard * latent_width_)),
                   {latent_down_, latent_stats_, d_latent}, {d_down});
  TensorId d_normed = input_gradient("d_latent_down", d_down, shard, latent_width_, context_.hidden);
  weight_gradient("w_latent_down", normed_, d_down, shard, latent_width_, context_.hidden);
  if (!compresses_queries_) {
    const TensorId d_direct = context_.scatter_tokens("d_ln1_rs", d_queries, context_.hidden);
    const TensorId sum = builder_.tensor("d_ln1_sum", builder_.elements(shard * context_.hidden));
    builder_.compute("d_ln1_sum", elementwise(builder_.elements(3 * shard * context_.hidden)), {d_normed, d_direct},
                     {sum});
    d_normed = sum;
  }
  return d_normed;
}

}  // namespace msmoe
