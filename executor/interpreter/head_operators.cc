// Projections to queries, keys and values, their norms and their rotation; and the projection of what attention gives.
#include <array>

#include "executor/interpreter/attention_heads.h"
#include "executor/interpreter/rearrange.h"

namespace msmoe::executor {
namespace {

using kernels::Element;
using kernels::View;

// ---- Grouped attention: projections

constexpr std::array kProjections = {Part::kQuery, Part::kKey, Part::kValue};

void project(const Call& call) {
  const HeadSizes s(call);
  const View x = call.matrix(call.read(0), s.g.dense_rows, s.g.hidden);
  const std::array<View, 3> out = outer_heads(call, call.written(0), s).all();
  for (std::size_t i = 0; i < out.size(); ++i) linear(call, x, call.weight(kProjections[i]), out[i]);
}

void project_input_gradient(const Call& call) {
  const HeadSizes s(call);
  const std::array<View, 3> d = outer_heads(call, call.read(0), s).all();
  const View dx = call.matrix(call.written(0), s.g.dense_rows, s.g.hidden);
  for (std::size_t i = 0; i < d.size(); ++i) linear_input_gradient(call, d[i], call.weight(kProjections[i]), dx, i > 0);
}

void project_weight_gradient(const Call& call) {
  const HeadSizes s(call);
  const View x = call.matrix(call.read(0), s.g.dense_rows, s.g.hidden);
  const std::array<View, 3> d = outer_heads(call, call.read(1), s).all();
  for (std::size_t i = 0; i < d.size(); ++i) linear_weight_gradient(call, d[i], x, call.gradient(kProjections[i]));
}

// ---- Norms of heads, and their rotation

kernels::Rope rope(const Call& call, const HeadSizes& s, const View& in, const View& out, bool backward) {
  return {.vectors = in,
          .positions = call.rank.positions,
          .out = out,
          .width = s.width,
          .rotated = s.rotary,
          .base = call.rank.numerics.rope_base,
          .backward = backward};
}

// A norm is as wide as its weight: of one head, or of all together.
void norm_and_rotate(const Call& call, const HeadSizes& s, Part norm, const View& in, const View& out,
                     Row* statistics) {
  if (statistics == nullptr) {
    call.run(rope(call, s, in, out, false));
    return;
  }
  const View weight = call.weight(norm);
  const std::int64_t rows = in.size() / weight.columns;
  const View normed = reshape(out, rows, weight.columns);
  call.run(kernels::RmsNorm{.input = reshape(in, rows, weight.columns),
                            .residual = {},
                            .weight = weight,
                            .out = normed,
                            .sum = {},
                            .inverse_rms = statistics->take(1, rows, Element::kFp32),
                            .epsilon = call.rank.numerics.norm_epsilon});
  call.run(rope(call, s, out, {}, false));
}

void norm_and_rotate_backward(const Call& call, const HeadSizes& s, Part norm, const View& d, const View& input,
                              const View& out, Row* statistics) {
  if (statistics == nullptr) {
    call.run(rope(call, s, d, out, true));
    return;
  }
  const Scratch turned(call, d.rows, d.columns);
  call.run(rope(call, s, d, turned.view(), true));
  const View weight = call.weight(norm);
  const std::int64_t rows = d.size() / weight.columns;
  call.run(kernels::RmsNormBackward{.input = reshape(input, rows, weight.columns),
                                    .weight = weight,
                                    .inverse_rms = statistics->take(1, rows, Element::kFp32),
                                    .out_gradient = reshape(turned.view(), rows, weight.columns),
                                    .residual_gradient = {},
                                    .input_gradient = reshape(out, rows, weight.columns),
                                    .weight_gradient = call.gradient(norm)});
}

void rotate(const Call& call) {
  const HeadSizes s(call);
  const Heads out = outer_heads(call, call.written(0), s);
  if (s.is_latent()) {
    call.run(
        kernels::LatentHeads{.queries = call.matrix(call.read(0), s.g.dense_rows, s.heads * s.width),
                             .expanded = call.matrix(call.read(1), s.g.dense_rows, s.heads * (s.plain + s.value_width)),
                             .rotary = latent_in(call, call.read(2), s.g.dense_rows, s).rotary,
                             .positions = call.rank.positions,
                             .query_out = out.query,
                             .key = out.key,
                             .value = out.value,
                             .heads = s.heads,
                             .base = call.rank.numerics.rope_base});
    return;
  }
  const Heads in = outer_heads(call, call.read(0), s);
  const bool norms = s.attention.query_key_norm;
  Row statistics(norms ? call.beside() : nullptr, Element::kFp32);
  norm_and_rotate(call, s, Part::kQueryNorm, in.query, out.query, norms ? &statistics : nullptr);
  norm_and_rotate(call, s, Part::kKeyNorm, in.key, out.key, norms ? &statistics : nullptr);
  call.copy(out.value, in.value);
}

void rotate_backward(const Call& call) {
  const HeadSizes s(call);
  Heads d = outer_heads(call, call.read(0), s);
  // From Ulysses' exchange gradients come by rank, some of key and value heads as parts of a sum.
  const bool exchanged = s.g.ulysses_ranks > 1;
  const Scratch query(call, exchanged ? s.g.dense_rows : 0, s.heads * s.width);
  const Scratch key(call, exchanged ? s.g.dense_rows : 0, s.kv_heads * s.width);
  const Scratch value(call, exchanged ? s.g.dense_rows : 0, s.kv_heads * s.value_width);
  if (exchanged) {
    Row row(call.read(0), call.rank.backend.element());
    const auto arrange = [&](std::int64_t heads, std::int64_t width, const View& out) {
      const HeadSplit split{heads, width, s.g.ulysses_ranks};
      heads_from_ranks(call, split, row.take(s.g.ulysses_ranks * s.g.shard_tokens, split.heads_here() * width), out);
    };
    arrange(s.heads, s.width, query.view());
    arrange(s.kv_heads, s.width, key.view());
    arrange(s.kv_heads, s.value_width, value.view());
    d = {query.view(), key.view(), value.view()};
  }
  if (s.is_latent()) {
    const Expanded out = expanded_in(call, call.written(0), s);
    call.run(kernels::LatentHeadsBackward{.query_out_gradient = d.query,
                                          .key_gradient = d.key,
                                          .value_gradient = d.value,
                                          .positions = call.rank.positions,
                                          .queries_gradient = out.queries,
                                          .expanded_gradient = out.keys_and_values,
                                          .rotary_gradient = out.rotary,
                                          .heads = s.heads,
                                          .base = call.rank.numerics.rope_base});
    return;
  }
  const Heads out = outer_heads(call, call.written(0), s);
  const bool norms = s.attention.query_key_norm;
  const Heads in = norms ? outer_heads(call, call.read(1), s) : Heads{};
  Row statistics(norms ? call.read(2) : nullptr, Element::kFp32);
  norm_and_rotate_backward(call, s, Part::kQueryNorm, d.query, in.query, out.query, norms ? &statistics : nullptr);
  norm_and_rotate_backward(call, s, Part::kKeyNorm, d.key, in.key, out.key, norms ? &statistics : nullptr);
  call.copy(out.value, d.value);
}

// ---- Output projection

struct Output {
  explicit Output(const Call& call)
      : weight(call.weight(Part::kAttentionOutput)), rows(call.rank.geometry.dense_rows) {}
  View weight;  // [h, depth]
  std::int64_t rows;
};

void project_output(const Call& call) {
  const Output o(call);
  linear(call, call.matrix(call.read(0), o.rows, o.weight.columns), o.weight,
         call.matrix(call.written(0), o.rows, o.weight.rows));
}
void project_output_input_gradient(const Call& call) {
  const Output o(call);
  linear_input_gradient(call, call.matrix(call.read(0), o.rows, o.weight.rows), o.weight,
                        call.matrix(call.written(0), o.rows, o.weight.columns));
}
void project_output_weight_gradient(const Call& call) {
  const Output o(call);
  linear_weight_gradient(call, call.matrix(call.read(1), o.rows, o.weight.rows),
                         call.matrix(call.read(0), o.rows, o.weight.columns), call.gradient(Part::kAttentionOutput));
}

}  // namespace

void add_head_handlers(HandlerTable& table) {
  table["qkv"] = project;
  table["d_qkv"] = project_input_gradient;
  table["w_qkv"] = project_weight_gradient;
  table["rope"] = rotate;
  table["d_rope"] = rotate_backward;
  table["out"] = project_output;
  table["d_out"] = project_output_input_gradient;
  table["w_out"] = project_output_weight_gradient;
}

}  // namespace msmoe::executor
