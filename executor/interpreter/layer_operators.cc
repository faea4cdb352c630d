// What layers are made of beside attention and feed-forward: norms, sums, and the exchanges of tensor parallelism.
#include <cassert>
#include <stdexcept>
#include <string>

#include "executor/interpreter/call.h"

namespace msmoe::executor {
namespace {

using kernels::View;

// ---- Norms of the hidden state

void norm(const Call& call, Part part) {
  const Geometry& g = call.rank.geometry;
  call.run(kernels::RmsNorm{.input = call.matrix(call.read(0), g.shard_tokens, g.hidden),
                            .residual = {},
                            .weight = call.weight(part),
                            .out = call.matrix(call.written(0), g.shard_tokens, g.hidden),
                            .sum = {},
                            .inverse_rms = {call.beside(), 1, g.shard_tokens, kernels::Element::kFp32},
                            .epsilon = call.rank.numerics.norm_epsilon});
}

// reads: input, statistics, gradient of the result [, gradient that goes round the block]
void norm_backward(const Call& call, Part part) {
  const Geometry& g = call.rank.geometry;
  const auto hidden = [&](std::byte* data) { return call.matrix(data, g.shard_tokens, g.hidden); };
  call.run(kernels::RmsNormBackward{.input = hidden(call.read(0)),
                                    .weight = call.weight(part),
                                    .inverse_rms = {call.read(1), 1, g.shard_tokens, kernels::Element::kFp32},
                                    .out_gradient = hidden(call.read(2)),
                                    .residual_gradient = call.op.reads.size() > 3 ? hidden(call.read(3)) : View{},
                                    .input_gradient = hidden(call.written(0)),
                                    .weight_gradient = call.gradient(part)});
}

void add(const Call& call) {
  const Geometry& g = call.rank.geometry;
  const auto hidden = [&](std::byte* data) { return call.matrix(data, g.shard_tokens, g.hidden); };
  call.run(kernels::Add{.a = hidden(call.read(0)), .b = hidden(call.read(1)), .out = hidden(call.written(0))});
}

// ---- Tokens of a shard to those of all tensor ranks, and partial sums back

template <class Move>
void for_each_matrix(const Call& call, const std::vector<std::int64_t>& widths, bool gathers, Move move) {
  const Geometry& g = call.rank.geometry;
  Row in(call.read(0), call.rank.backend.element()), out(call.written(0), call.rank.backend.element());
  for (const std::int64_t width : widths) {
    const View from = in.take(gathers ? g.shard_tokens : g.context_tokens, width);
    const View to = out.take(gathers ? g.context_tokens : g.shard_tokens, width);
    if (width > 0) move(from, to);
  }
}

void gather(const Call& call, const std::vector<std::int64_t>& widths) {
  Communicator& group = call.group(GroupKind::kAttention);
  const std::vector<std::int64_t> rows(static_cast<std::size_t>(group.size()), call.rank.geometry.shard_tokens);
  for_each_matrix(call, widths, true, [&](const View& from, const View& to) {
    call.rank.wire.all_gather(group, from, to, rows, call.scale_blocks());
  });
}
void scatter(const Call& call, const std::vector<std::int64_t>& widths) {
  Communicator& group = call.group(GroupKind::kAttention);
  const std::vector<std::int64_t> rows(static_cast<std::size_t>(group.size()), call.rank.geometry.shard_tokens);
  for_each_matrix(call, widths, false, [&](const View& from, const View& to) {
    call.rank.wire.reduce_scatter(group, from, to, rows, call.scale_blocks());
  });
}

void gather_hidden(const Call& call) { gather(call, {call.rank.geometry.hidden}); }
void scatter_hidden(const Call& call) { scatter(call, {call.rank.geometry.hidden}); }

std::vector<std::int64_t> latent_widths(const Call& call) {
  const Attention& attention = call.layer_kind().attention;
  return {attention.query_rank, attention.kv_rank, attention.rope_dim};
}

}  // namespace

void linear(const Call& call, const View& x, const View& w, const View& y) {
  call.run(kernels::Gemm{.a = x, .b = w, .c = y, .transpose_b = true});
}
void linear_input_gradient(const Call& call, const View& dy, const View& w, const View& dx, bool accumulate) {
  call.run(kernels::Gemm{.a = dy, .b = w, .c = dx, .accumulate = accumulate});
}
void linear_weight_gradient(const Call& call, const View& dy, const View& x, const View& dw) {
  call.run(kernels::Gemm{.a = dy, .b = x, .c = dw, .transpose_a = true, .accumulate = true});
}

void add_layer_handlers(HandlerTable& table) {
  table["ln1"] = [](const Call& call) { norm(call, Part::kAttentionNorm); };
  table["ln2"] = [](const Call& call) { norm(call, Part::kFeedForwardNorm); };
  table["final_norm"] = [](const Call& call) { norm(call, Part::kFinalNorm); };
  table["d_ln1"] = [](const Call& call) { norm_backward(call, Part::kAttentionNorm); };
  table["d_ln2"] = [](const Call& call) { norm_backward(call, Part::kFeedForwardNorm); };
  table["d_final_norm"] = [](const Call& call) { norm_backward(call, Part::kFinalNorm); };
  for (const char* name : {"residual1", "residual2", "shared_add", "d_ffn_sum", "d_shared_sum", "d_ln1_sum"})
    table[name] = add;
  for (const char* name : {"ln1_ag", "dense_ag", "head_ag", "d_attn_ag", "d_dense_ag", "d_embedding_ag"})
    table[name] = gather_hidden;
  for (const char* name : {"attn_rs", "dense_rs", "embedding_rs", "d_ln1_rs", "d_dense_rs", "d_head_rs"})
    table[name] = scatter_hidden;
  table["latent_ag"] = [](const Call& call) { gather(call, latent_widths(call)); };
  table["d_latent_rs"] = [](const Call& call) { scatter(call, latent_widths(call)); };
}

Handler handler_of(const Operator& op) {
  static const HandlerTable table = [] {
    HandlerTable all;
    add_layer_handlers(all);
    add_head_handlers(all);
    add_latent_handlers(all);
    add_attention_handlers(all);
    add_dense_handlers(all);
    add_router_handlers(all);
    add_expert_handlers(all);
    add_vocabulary_handlers(all);
    return all;
  }();
  const auto found = table.find(op.name);
  if (found == table.end()) throw std::logic_error(std::string("no operator runs \"") + op.name + "\"");
  return found->second;
}

}  // namespace msmoe::executor
