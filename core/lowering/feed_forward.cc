#include "core/lowering/feed_forward.h"

#include <algorithm>

namespace msmoe {
namespace {

// The chance that some of a token's top_k experts, drawn without repetition from `among`, are of a certain `part`.
double chance_of_any(double among, double part, double top_k) {
  double none = 1;
  for (double drawn = 0; drawn < top_k; ++drawn) none *= std::max(0.0, among - part - drawn) / (among - drawn);
  return 1 - none;
}

// How many of `places` that share the experts evenly hold some of a token's. Group-limited routing
// (DeepSeek-V2, arXiv 2405.04434, section 2.2.2) draws from some of the groups only.
double distinct_places(const FeedForward& ffn, double places) {
  const auto experts = static_cast<double>(ffn.experts), top_k = static_cast<double>(ffn.top_k);
  const auto groups = static_cast<double>(ffn.expert_groups);
  const double open = ffn.expert_groups > 1 ? static_cast<double>(ffn.groups_per_token) / groups : 1;
  const double part = experts / places;
  // A place inside one group is open or shut with it; a place of several groups has its share of them open.
  return places >= groups ? places * open * chance_of_any(experts * open, part, top_k)
                          : places * chance_of_any(experts * open, part * open, top_k);
}

}  // namespace

FeedForwardLowering::FeedForwardLowering(const LayerContext& context, const FeedForward& feed_forward)
    : context_(context), feed_forward_(feed_forward), builder_(context.builder), plan_(context.plan) {
  dense_.width = static_cast<double>(feed_forward.is_moe() ? feed_forward.shared_width : feed_forward.width) /
                 context.weight_split();
  if (!feed_forward.is_moe()) return;
  const auto ep = static_cast<double>(plan_.ep);
  const auto etp = static_cast<double>(plan_.etp);
  const double imbalance = ep > 1 ? context.imbalance : 1;
  all_gather_ = plan_.dispatch == Dispatch::kAllGather;
  shares_exchange_ = all_gather_ && context.splits_weights && plan_.expert_ranks() == plan_.attention_degree;
  fuses_experts_ = all_gather_ && context.fuses(GroupKind::kExpertAll);
  local_experts_ = static_cast<double>(feed_forward.experts) / ep;
  expert_width_ = static_cast<double>(feed_forward.width) / etp;
  sent_rows_ = context.shard_tokens * static_cast<double>(feed_forward.top_k);
  received_rows_ = sent_rows_ * imbalance;
  rows_ = received_rows_ * etp;
  gathered_tokens_ = context.shard_tokens * ep * etp;
  fc1_width_ = expert_width_ * static_cast<double>(feed_forward.matrices - 1);
  if (plan_.dispatch == Dispatch::kNodeAllToAll && plan_.ep > 1) wires_ = dispatch_wires();
}

// Of every copy of a token: its expert, its gate, its row, and the copy that lies in a row, 4 bytes each; where each
// expert's copies begin, and how many each sequence has.
Bytes FeedForwardLowering::route_bytes(double tokens, double top_k, double experts) const {
  const auto sequences = static_cast<double>(plan_.micro_batch);
  return {(tokens * top_k * 4 + (sequences + 1) * experts + 1) * 4};
}

// Of every row at its expert: its gate as it arrived and as it lies, its place before and after sorting, 4 bytes each;
// the counts of each source, where each expert's rows begin; and the routes of all tokens, where these are gathered.
Bytes FeedForwardLowering::arrival_bytes() const {
  const double sources = static_cast<double>(plan_.expert_ranks());
  const auto experts = static_cast<double>(feed_forward_.experts), top_k = static_cast<double>(feed_forward_.top_k);
  Bytes bytes{(rows_ * 4 + sources * local_experts_ + local_experts_ + 1) * 4};
  if (all_gather_) bytes += route_bytes(gathered_tokens_, top_k, experts);
  return bytes;
}

// One copy of a token goes to each other node over the network, and one to each other rank of a node over NVLink,
// where the payload counts one for each of its top_k experts.
WireParts FeedForwardLowering::dispatch_wires() const {
  const Group group = group_of(GroupKind::kExpert, plan_, context_.gpus_per_node);
  const auto nodes = static_cast<double>(group.nodes()), local = static_cast<double>(group.ranks_per_node);
  const auto top_k = static_cast<double>(feed_forward_.top_k);
  return {.nvlink = distinct_places(feed_forward_, static_cast<double>(plan_.ep)) * (local - 1) / local / top_k,
          .nic = distinct_places(feed_forward_, nodes) * (nodes - 1) / nodes / top_k};
}

// SwiGLU reads gate and up and writes their product; backward reads both and the gradient and writes two.
Compute FeedForwardLowering::activation(double rows, double width, bool backward) const {
  const auto inputs = static_cast<double>(feed_forward_.matrices - 1);
  return elementwise(builder_.elements(rows * width * (backward ? 2 * inputs + 1 : inputs + 1)));
}

TensorId FeedForwardLowering::add(const char* name, TensorId a, TensorId b) {
  const Bytes size = builder_.elements(context_.shard_tokens * context_.hidden);
  const TensorId sum = builder_.tensor(name, size);
  builder_.compute(name, elementwise(size * 3), {a, b}, {sum});
  return sum;
}

TensorId FeedForwardLowering::forward(TensorId normed) {
  normed_ = normed;
  if (!feed_forward_.is_moe()) return dense_forward(dense_, normed, -1);
  router_forward(normed);
  TensorId shared_out = -1;
  const TensorId routed = experts_forward(normed, feed_forward_.shared_width > 0 ? &dense_ : nullptr, &shared_out);
  return shared_out < 0 || shares_exchange_ ? routed : add("shared_add", routed, shared_out);
}

TensorId FeedForwardLowering::dense_forward(Dense& dense, TensorId normed, TensorId gathered) {
  const double rows = context_.dense_rows();
  const double fc1_width = dense.width * static_cast<double>(feed_forward_.matrices - 1);
  const bool exchanges = gathered < 0;
  {
    ModuleBuilder::FusedScope fused(builder_, "ag+dense_fc1", exchanges && context_.fuses(GroupKind::kAttention));
    dense.input =
        exchanges ? context_.gather_tokens("dense_ag", normed, context_.hidden, Recompute::kDispatch) : gathered;
    dense.fc1_out = builder_.tensor("dense_fc1", builder_.elements(rows * fc1_width), Recompute::kExpert);
    builder_.compute("dense_fc1", gemm(rows, fc1_width, context_.hidden, plan_.precision), {dense.input},
                     {dense.fc1_out});
  }
  dense.fc2_in = builder_.tensor("dense_act", builder_.elements(rows * dense.width), Recompute::kActivation);
  builder_.compute("dense_act", activation(rows, dense.width, false), {dense.fc1_out}, {dense.fc2_in});
  builder_.add_parameters(context_.hidden * dense.width * static_cast<double>(feed_forward_.matrices), 0);

  ModuleBuilder::FusedScope fused(builder_, "dense_fc2+rs", exchanges && context_.fuses(GroupKind::kAttention));
  const TensorId partial = builder_.tensor("dense_fc2", builder_.elements(rows * context_.hidden));
  builder_.compute("dense_fc2", gemm(rows, context_.hidden, dense.width, plan_.precision), {dense.fc2_in}, {partial});
  return exchanges ? context_.scatter_tokens("dense_rs", partial, context_.hidden) : partial;
}

TensorId FeedForwardLowering::dense_backward(const Dense& dense, TensorId d_out, TensorId gathered) {
  const double rows = context_.dense_rows();
  const double fc1_width = dense.width * static_cast<double>(feed_forward_.matrices - 1);
  const TensorId d_fc2_in = builder_.tensor("d_dense_fc2", builder_.elements(rows * dense.width));
  const bool exchanges = gathered < 0;
  TensorId d_full = -1;
  {
    ModuleBuilder::FusedScope fused(builder_, "ag+d_dense_fc2", exchanges && context_.fuses(GroupKind::kAttention));
    d_full = exchanges ? context_.gather_tokens("d_dense_ag", d_out, context_.hidden, Recompute::kNothing) : gathered;
    builder_.compute("d_dense_fc2", gemm(rows, dense.width, context_.hidden, plan_.precision), {d_full}, {d_fc2_in});
  }
  builder_.need(dense.fc2_in);
  builder_.weight_gradient(
      "w_dense_fc2", weight_gradient_gemm(1, rows, context_.hidden, dense.width, plan_.grad_bytes, plan_.precision),
      {dense.fc2_in, d_full});
  builder_.need(dense.fc1_out);
  const TensorId d_fc1_out = builder_.tensor("d_dense_act", builder_.elements(rows * fc1_width));
  builder_.compute("d_dense_act", activation(rows, dense.width, true), {dense.fc1_out, d_fc2_in}, {d_fc1_out});
  builder_.need(dense.input);
  TensorId d_normed = -1;
  {
    ModuleBuilder::FusedScope fused(builder_, "d_dense_fc1+rs", exchanges && context_.fuses(GroupKind::kAttention));
    const TensorId d_input = builder_.tensor("d_dense_fc1", builder_.elements(rows * context_.hidden));
    builder_.compute("d_dense_fc1", gemm(rows, context_.hidden, fc1_width, plan_.precision), {d_fc1_out}, {d_input});
    d_normed = exchanges ? context_.scatter_tokens("d_dense_rs", d_input, context_.hidden) : d_input;
  }
  builder_.weight_gradient("w_dense_fc1",
                           weight_gradient_gemm(1, rows, fc1_width, context_.hidden, plan_.grad_bytes, plan_.precision),
                           {dense.input, d_fc1_out});
  return d_normed;
}

void FeedForwardLowering::router_forward(TensorId normed) {
  const double tokens = context_.shard_tokens;
  const auto experts = static_cast<double>(feed_forward_.experts);
  const auto top_k = static_cast<double>(feed_forward_.top_k);
  logits_ = builder_.tensor("router_logits", {tokens * experts * 4});
  builder_.compute("router", gemm(tokens, experts, context_.hidden, context_.wide_precision()), {normed}, {logits_});
  // Softmax, top-k, counting and the row maps: four small kernels over [tokens, experts] in fp32.
  probabilities_ = builder_.tensor("router_probs", {tokens * experts * 4});
  routes_ = builder_.tensor("routes", route_bytes(tokens, top_k, experts));
  builder_.compute("topk", routing({tokens * experts * 4 * 4}, 4), {logits_}, {probabilities_, routes_});
  builder_.add_parameters(experts * context_.hidden, 0);
  context_.share_parameters(experts * context_.hidden);
}

TensorId FeedForwardLowering::router_backward(TensorId d_gates) {
  const double tokens = context_.shard_tokens;
  const auto experts = static_cast<double>(feed_forward_.experts);
  for (const TensorId saved : {logits_, probabilities_, routes_}) builder_.need(saved);
  const TensorId d_logits = builder_.tensor("d_topk", {tokens * experts * 4});
  builder_.compute("d_topk", routing({tokens * experts * 4 * 3}, 2),
                   {logits_, probabilities_, routes_, d_gates, arrivals_}, {d_logits});
  const TensorId d_normed = builder_.tensor("d_router", builder_.elements(tokens * context_.hidden));
  builder_.compute("d_router", gemm(tokens, context_.hidden, experts, context_.wide_precision()), {d_logits},
                   {d_normed});
  builder_.need(normed_);
  builder_.weight_gradient(
      "w_router",
      weight_gradient_gemm(1, tokens, experts, context_.hidden, plan_.grad_bytes, context_.wide_precision()),
      {normed_, d_logits});
  return d_normed;
}

// Forward, whatever learns what has arrived writes it down; backward reads it.
TensorId FeedForwardLowering::enter_experts(const ExchangeNames& names, TensorId tokens, Recompute rebuilt_by,
                                            const std::function<void()>& beside) {
  const double h = context_.hidden;
  const Bytes rows_size = builder_.elements(rows_ * h);
  const bool forward = !builder_.in_backward();
  const bool exchanges = plan_.expert_ranks() > 1;
  const Ledger ledger =
      forward ? Ledger{.reads = {routes_}, .writes = {arrivals_}} : Ledger{.reads = {routes_, arrivals_}, .writes = {}};
  enum class Learns : std::uint8_t { kNothing, kHere, kBefore };
  const auto move_rows = [&](const char* name, Bytes moved, TensorId x, TensorId out, Learns learns) {
    std::vector<TensorId> reads = {x, routes_}, writes = {out};
    if (!forward || learns == Learns::kBefore) reads.push_back(arrivals_);
    if (forward && learns == Learns::kHere) writes.push_back(arrivals_);
    return builder_.compute(name, permute(moved), reads, writes);
  };
  if (all_gather_) {
    TensorId all = tokens;
    if (exchanges) {
      const double count = gathered_tokens_ * h;
      all = context_.exchange(names.exchange, Collective::kAllGather, GroupKind::kExpertAll, count, tokens,
                              builder_.tensor(names.exchange, builder_.elements(count), rebuilt_by), {}, ledger);
    }
    gathered_ = all;
    beside();
    return move_rows(names.sort, rows_size * 2, all, builder_.tensor(names.sort, rows_size, rebuilt_by),
                     exchanges ? Learns::kBefore : Learns::kHere);
  }
  TensorId x = move_rows(names.permute, builder_.elements((context_.shard_tokens + sent_rows_) * h), tokens,
                         builder_.tensor(names.permute, builder_.elements(sent_rows_ * h), rebuilt_by),
                         exchanges ? Learns::kNothing : Learns::kHere);
  if (plan_.ep > 1) {
    x = context_.exchange(names.exchange, Collective::kAllToAll, GroupKind::kExpert, received_rows_ * h, x,
                          builder_.tensor(names.exchange, builder_.elements(received_rows_ * h), rebuilt_by), wires_,
                          ledger);
  }
  if (plan_.etp > 1) {
    x = context_.exchange(names.tensor_exchange, Collective::kAllGather, GroupKind::kExpertTensor, rows_ * h, x,
                          builder_.tensor(names.tensor_exchange, rows_size, rebuilt_by), {}, ledger);
  }
  beside();
  // Rows arrive by source rank; experts want them by expert.
  if (exchanges && local_experts_ > 1)
    x = move_rows(names.sort, rows_size * 2, x, builder_.tensor(names.sort, rows_size, rebuilt_by), Learns::kBefore);
  return x;
}

TensorId FeedForwardLowering::leave_experts(const ExchangeNames& names, TensorId rows, TensorId shared_partial) {
  const double h = context_.hidden;
  const Bytes rows_size = builder_.elements(rows_ * h);
  const Bytes tokens_size = builder_.elements(context_.shard_tokens * h);
  const Ledger ledger{.reads = {routes_, arrivals_}, .writes = {}};
  if (all_gather_) {
    const double count = gathered_tokens_ * h;
    const TensorId full = builder_.tensor(names.sort, builder_.elements(count));
    std::vector<TensorId> reads = {rows, routes_, arrivals_};
    if (shared_partial >= 0) reads.push_back(shared_partial);
    const double parts = shared_partial >= 0 ? 2 : 1;
    builder_.compute(names.sort, permute(rows_size + builder_.elements(count) * parts), reads, {full});
    if (plan_.expert_ranks() == 1) return full;
    return context_.exchange(names.exchange, Collective::kReduceScatter, GroupKind::kExpertAll, count, full,
                             builder_.tensor(names.exchange, tokens_size), {}, ledger);
  }
  TensorId x = rows;
  if (plan_.expert_ranks() > 1 && local_experts_ > 1) {
    x = builder_.compute(names.sort, permute(rows_size * 2), {x, routes_, arrivals_},
                         {builder_.tensor(names.sort, rows_size)});
  }
  if (plan_.etp > 1) {
    x = context_.exchange(names.tensor_exchange, Collective::kReduceScatter, GroupKind::kExpertTensor, rows_ * h, x,
                          builder_.tensor(names.tensor_exchange, builder_.elements(received_rows_ * h)), {}, ledger);
  }
  if (plan_.ep > 1) {
    x = context_.exchange(names.exchange, Collective::kAllToAll, GroupKind::kExpert, received_rows_ * h, x,
                          builder_.tensor(names.exchange, builder_.elements(sent_rows_ * h)), wires_, ledger);
  }
  return builder_.compute(names.permute, permute(builder_.elements((sent_rows_ + context_.shard_tokens) * h)),
                          {x, routes_, arrivals_}, {builder_.tensor(names.permute, tokens_size)});
}

TensorId FeedForwardLowering::experts_forward(TensorId normed, Dense* shared, TensorId* shared_out) {
  const double h = context_.hidden;
  auto run_shared = [&] {
    if (shared != nullptr) *shared_out = dense_forward(*shared, normed, shares_exchange_ ? gathered_ : -1);
  };
  arrivals_ = builder_.tensor("arrivals", arrival_bytes());
  // Beside a dispatch on a stream of its own the shared expert hides it, unless it needs what is dispatched; beside a
  // fused one it has nothing to hide.
  const bool runs_beside = !fuses_experts_ && !shares_exchange_;
  if (fuses_experts_ && !shares_exchange_) run_shared();
  {
    ModuleBuilder::FusedScope fused(builder_, "ag+scatter+fc1", fuses_experts_);
    ffn_in_ = enter_experts({"permute", "dispatch", "dispatch_etp", "scatter"}, normed, Recompute::kDispatch, [&] {
      if (runs_beside) run_shared();
    });
    fc1_out_ = builder_.tensor("fc1", builder_.elements(rows_ * fc1_width_), Recompute::kExpert);
    builder_.compute("fc1", grouped_gemm(local_experts_, rows_, fc1_width_, h, plan_.precision), {ffn_in_, arrivals_},
                     {fc1_out_});
  }
  if (shares_exchange_) run_shared();
  fc2_in_ = builder_.tensor("swiglu", builder_.elements(rows_ * expert_width_), Recompute::kActivation);
  builder_.compute("swiglu", activation(rows_, expert_width_, false), {fc1_out_, arrivals_}, {fc2_in_});
  builder_.add_parameters(0, local_experts_ * h * expert_width_ * static_cast<double>(feed_forward_.matrices));

  ModuleBuilder::FusedScope fused(builder_, "fc2+gather+rs", fuses_experts_);
  const TensorId fc2_out = builder_.tensor("fc2", builder_.elements(rows_ * h));
  builder_.compute("fc2", grouped_gemm(local_experts_, rows_, h, expert_width_, plan_.precision), {fc2_in_, arrivals_},
                   {fc2_out});
  return leave_experts({"unpermute", "combine", "combine_etp", "gather"}, fc2_out,
                       shares_exchange_ ? *shared_out : TensorId{-1});
}

TensorId FeedForwardLowering::backward(TensorId d_out) {
  if (!feed_forward_.is_moe()) return dense_backward(dense_, d_out, -1);
  const double h = context_.hidden;
  const bool shared = feed_forward_.shared_width > 0;
  const ExchangeNames enter_names{"d_unpermute", "d_combine", "d_combine_etp", "d_gather"};
  TensorId d_shared = -1;
  // What the gradients' exchange can hide: tokens dispatched again, the shared expert, SwiGLU again (Fig. 8b).
  auto run_beside = [&] {
    builder_.prefetch(ffn_in_);
    if (shared && !shares_exchange_) d_shared = dense_backward(dense_, d_out, -1);
    builder_.need(fc2_in_);
  };
  const TensorId d_fc2_in = builder_.tensor("d_fc2", builder_.elements(rows_ * expert_width_));
  TensorId d_fc2_out = -1;
  builder_.need(routes_);
  builder_.need(arrivals_);
  if (fuses_experts_) run_beside();
  {
    ModuleBuilder::FusedScope fused(builder_, "ag+scatter+d_fc2", fuses_experts_);
    d_fc2_out = enter_experts(enter_names, d_out, Recompute::kNothing, [&] {
      if (!fuses_experts_) run_beside();
    });
    builder_.compute("d_fc2", grouped_gemm(local_experts_, rows_, expert_width_, h, plan_.precision),
                     {d_fc2_out, arrivals_}, {d_fc2_in});
  }
  if (shared && shares_exchange_) d_shared = dense_backward(dense_, d_out, gathered_);
  builder_.weight_gradient(
      "w_fc2", weight_gradient_gemm(local_experts_, rows_, h, expert_width_, plan_.grad_bytes, plan_.precision),
      {fc2_in_, d_fc2_out, arrivals_});
  builder_.need(fc1_out_);
  const TensorId d_fc1_out = builder_.tensor("d_swiglu", builder_.elements(rows_ * fc1_width_));
  // By row at the expert, as rows arrived, and by copy at the token.
  const double gathered_copies = all_gather_ ? gathered_tokens_ * static_cast<double>(feed_forward_.top_k) : 0;
  const TensorId d_gates = builder_.tensor("d_gates", {(2 * rows_ + gathered_copies + 2 * sent_rows_) * 4});
  builder_.compute("d_swiglu", activation(rows_, expert_width_, true), {fc1_out_, arrivals_, d_fc2_in},
                   {d_fc1_out, d_gates});
  builder_.need(ffn_in_);

  TensorId d_normed = -1;
  {
    ModuleBuilder::FusedScope fused(builder_, "d_fc1+gather+rs", fuses_experts_);
    const TensorId d_ffn_in = builder_.tensor("d_fc1", builder_.elements(rows_ * h));
    builder_.compute("d_fc1", grouped_gemm(local_experts_, rows_, h, fc1_width_, plan_.precision),
                     {d_fc1_out, arrivals_}, {d_ffn_in});
    if (!fuses_experts_) {
      builder_.weight_gradient(
          "w_fc1", weight_gradient_gemm(local_experts_, rows_, fc1_width_, h, plan_.grad_bytes, plan_.precision),
          {ffn_in_, d_fc1_out, arrivals_});
    }
    d_normed = leave_experts({"d_permute", "d_dispatch", "d_dispatch_etp", "d_scatter"}, d_ffn_in,
                             shares_exchange_ ? d_shared : TensorId{-1});
  }
  if (fuses_experts_) {
    builder_.weight_gradient(
        "w_fc1", weight_gradient_gemm(local_experts_, rows_, fc1_width_, h, plan_.grad_bytes, plan_.precision),
        {ffn_in_, d_fc1_out, arrivals_});
  }
  const TensorId d_router = router_backward(d_gates);
  d_normed = add("d_ffn_sum", d_normed, d_router);
  return shared && !shares_exchange_ ? add("d_shared_sum", d_normed, d_shared) : d_normed;
}

}  // namespace msmoe
