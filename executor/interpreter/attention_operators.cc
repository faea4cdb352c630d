// Attention: projections, norms and rotation of heads, exchanges between token and head split, attention itself
// (core/lowering/attention.h). Queries, keys and values lie one after another in one tensor, [rows, heads * width]
// each.
#include <array>
#include <optional>

#include "executor/interpreter/rearrange.h"

namespace msmoe::executor {
namespace {

using kernels::Element;
using kernels::View;

struct Sizes : AttentionSizes {
  explicit Sizes(const Call& call)
      : AttentionSizes(call.layer_kind().attention, call.rank.geometry),
        attention(call.layer_kind().attention),
        g(call.rank.geometry) {}
  bool is_latent() const { return attention.kind == AttentionKind::kLatent; }
  const Attention& attention;
  const Geometry& g;
};

struct Heads {
  View query, key, value;
  std::array<View, 3> all() const { return {query, key, value}; }
};
Heads heads_in(const Call& call, std::byte* data, std::int64_t rows, std::int64_t heads, std::int64_t kv_heads,
               const Sizes& s) {
  Row row(data, call.rank.backend.element());
  const View query = row.take(rows, heads * s.width), key = row.take(rows, kv_heads * s.width);
  return {query, key, row.take(rows, kv_heads * s.value_width)};
}
// As projected, and inside attention.
Heads outer_heads(const Call& call, std::byte* data, const Sizes& s) {
  return heads_in(call, data, s.g.dense_rows, s.heads, s.kv_heads, s);
}
Heads inner_heads(const Call& call, std::byte* data, const Sizes& s) {
  return heads_in(call, data, s.g.query_rows, s.inner_heads, s.inner_kv_heads, s);
}

// ---- Grouped attention: projections

constexpr std::array kProjections = {Part::kQuery, Part::kKey, Part::kValue};

void project(const Call& call) {
  const Sizes s(call);
  const View x = call.matrix(call.read(0), s.g.dense_rows, s.g.hidden);
  const std::array<View, 3> out = outer_heads(call, call.written(0), s).all();
  for (std::size_t i = 0; i < out.size(); ++i) linear(call, x, call.weight(kProjections[i]), out[i]);
}

void project_input_gradient(const Call& call) {
  const Sizes s(call);
  const std::array<View, 3> d = outer_heads(call, call.read(0), s).all();
  const View dx = call.matrix(call.written(0), s.g.dense_rows, s.g.hidden);
  for (std::size_t i = 0; i < d.size(); ++i) linear_input_gradient(call, d[i], call.weight(kProjections[i]), dx, i > 0);
}

void project_weight_gradient(const Call& call) {
  const Sizes s(call);
  const View x = call.matrix(call.read(0), s.g.dense_rows, s.g.hidden);
  const std::array<View, 3> d = outer_heads(call, call.read(1), s).all();
  for (std::size_t i = 0; i < d.size(); ++i) linear_weight_gradient(call, d[i], x, call.gradient(kProjections[i]));
}

// ---- Norms of heads, and their rotation

kernels::Rope rope(const Call& call, const Sizes& s, const View& in, const View& out, bool backward) {
  return {.vectors = in,
          .positions = call.rank.positions,
          .out = out,
          .width = s.width,
          .rotated = s.rotary,
          .base = call.rank.numerics.rope_base,
          .backward = backward};
}

// A norm is as wide as its weight: of one head, or of all together.
void norm_and_rotate(const Call& call, const Sizes& s, Part norm, const View& in, const View& out, Row* statistics) {
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

void norm_and_rotate_backward(const Call& call, const Sizes& s, Part norm, const View& d, const View& input,
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

struct Latent {
  View query, kv, rotary;
};
Latent latent_in(const Call& call, std::byte* data, std::int64_t rows, const Sizes& s) {
  Row row(data, call.rank.backend.element());
  const View query = row.take(rows, s.query_rank), kv = row.take(rows, s.kv_rank);
  return {query, kv, row.take(rows, s.rotary)};
}
// What latent attention's heads are made of; and, side by side, its gradients.
struct Expanded {
  View queries, keys_and_values, rotary;
};
Expanded expanded_in(const Call& call, std::byte* data, const Sizes& s) {
  Row row(data, call.rank.backend.element());
  const View queries = row.take(s.g.dense_rows, s.heads * s.width);
  const View keys_and_values = row.take(s.g.dense_rows, s.heads * (s.plain + s.value_width));
  return {queries, keys_and_values, row.take(s.g.dense_rows, s.rotary)};
}

void rotate(const Call& call) {
  const Sizes s(call);
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
  const Sizes s(call);
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

// ---- Ulysses

void exchange(const Call& call, const View& in, const View& out) {
  Communicator& group = call.group(GroupKind::kAttention);
  const std::vector<std::int64_t> rows(static_cast<std::size_t>(group.size()), call.rank.geometry.shard_tokens);
  call.rank.wire.all_to_all(group, in, rows, out, rows, call.scale_blocks());
}

// [shard_tokens, all heads] -> [context_tokens, heads here]
void to_heads(const Call& call, const HeadSplit& split, const View& in, const View& out) {
  const Scratch arranged(call, out.rows, out.columns);
  heads_to_ranks(call, split, in, arranged.view());
  exchange(call, arranged.view(), out);
}

void exchange_heads(const Call& call) {
  const Sizes s(call);
  const Heads in = outer_heads(call, call.read(0), s), out = inner_heads(call, call.written(0), s);
  to_heads(call, {s.heads, s.width, s.g.ulysses_ranks}, in.query, out.query);
  to_heads(call, {s.kv_heads, s.width, s.g.ulysses_ranks}, in.key, out.key);
  to_heads(call, {s.kv_heads, s.value_width, s.g.ulysses_ranks}, in.value, out.value);
}

void exchange_heads_back(const Call& call) {
  const Sizes s(call);
  Row out(call.written(0), call.rank.backend.element());
  for (const View& in : inner_heads(call, call.read(0), s).all()) exchange(call, in, out.take(in.rows, in.columns));
}

void exchange_output(const Call& call) {
  const Sizes s(call);
  const View in = call.matrix(call.read(0), s.g.query_rows, s.inner_heads * s.value_width);
  const Scratch arrived(call, in.rows, in.columns);
  exchange(call, in, arrived.view());
  heads_from_ranks(call, {s.heads, s.value_width, s.g.ulysses_ranks}, arrived.view(),
                   call.matrix(call.written(0), s.g.shard_tokens, s.heads * s.value_width));
}

void exchange_output_back(const Call& call) {
  const Sizes s(call);
  to_heads(call, {s.heads, s.value_width, s.g.ulysses_ranks},
           call.matrix(call.read(0), s.g.shard_tokens, s.heads * s.value_width),
           call.matrix(call.written(0), s.g.query_rows, s.inner_heads * s.value_width));
}

// ---- Attention, alone or in a ring

kernels::AttentionShape shape_of(const Call& call, const Sizes& s) {
  return {.heads = s.inner_heads,
          .kv_heads = s.inner_kv_heads,
          .width = s.width,
          .value_width = s.value_width,
          .sequence_length = s.g.slice_tokens,
          .scale = call.rank.numerics.attention_scale};
}

// Keys and values of all tokens of the micro-batch, in order, from the ranks of a ring; and which of them the queries
// of each slice see.
class Ring {
 public:
  Ring(const Call& call, const Sizes& s) : call_(call), s_(s), all_(s.g.sequences * s.g.seq_len) {
    std::vector<std::int32_t> arrival_of(static_cast<std::size_t>(all_)), token_of;
    for (int rank = 0; rank < s.g.ring_ranks; ++rank) {
      for (const std::int32_t id : s.g.ids_of_context(rank)) {
        arrival_of[static_cast<std::size_t>(id)] = static_cast<std::int32_t>(token_of.size());
        token_of.push_back(id);
      }
    }
    arrival_of_.emplace(call, arrival_of, 1, all_);
    token_of_.emplace(call, token_of, 1, all_);
    std::vector<std::int32_t> starts = {0}, begins, ends;
    for (std::int64_t sequence = 0; sequence < s.g.sequences; ++sequence) {
      for (const int slice : {s.g.ring_rank, 2 * s.g.ring_ranks - 1 - s.g.ring_rank}) {
        starts.push_back(starts.back() + static_cast<std::int32_t>(s.g.slice_tokens));
        begins.push_back(static_cast<std::int32_t>(sequence * s.g.seq_len));
        ends.push_back(begins.back() + static_cast<std::int32_t>((slice + 1) * s.g.slice_tokens));
      }
    }
    const auto slices = static_cast<std::int64_t>(begins.size());
    starts_.emplace(call, starts, 1, slices + 1);
    begins.insert(begins.end(), ends.begin(), ends.end());
    ranges_.emplace(call, begins, 2, slices);
  }

  View starts() const { return starts_->view(); }
  View ranges() const { return ranges_->view(); }
  std::int64_t tokens() const { return all_; }

  void gather(const View& mine, const View& all) const {
    const Scratch arrived(call_, all_, mine.columns);
    raw().all_gather(group(), mine, arrived.view(), rows(), call_.scale_blocks());
    reorder(arrived.view(), arrival_of_->view(), all);
  }
  void scatter_sums(const View& all, const View& mine) const {
    const Scratch arranged(call_, all_, mine.columns);
    reorder(all, token_of_->view(), arranged.view());
    raw().reduce_scatter(group(), arranged.view(), mine, rows(), call_.scale_blocks());
  }

 private:
  Wire raw() const { return {WireFormat::kFp32, call_.rank.backend, call_.rank.pool}; }
  Communicator& group() const { return call_.group(s_.g.ring_group); }
  std::vector<std::int64_t> rows() const {
    return std::vector<std::int64_t>(static_cast<std::size_t>(s_.g.ring_ranks), s_.g.query_rows);
  }
  void reorder(const View& in, const View& source, const View& out) const {
    call_.run(kernels::GatherRows{.in = in, .source_of = source, .weights = {}, .out = out});
  }

  const Call& call_;
  const Sizes& s_;
  std::int64_t all_;
  std::optional<Indices> arrival_of_, token_of_, starts_, ranges_;
};

void attend(const Call& call) {
  const Sizes s(call);
  const Heads heads = inner_heads(call, call.read(0), s);
  kernels::Attention attention{.shape = shape_of(call, s),
                               .query = heads.query,
                               .key = heads.key,
                               .value = heads.value,
                               .out = call.matrix(call.written(0), s.g.query_rows, s.inner_heads * s.value_width),
                               .log_sum_exp = {call.written(1), s.inner_heads, s.g.query_rows, Element::kFp32},
                               .starts = {},
                               .key_ranges = {}};
  if (s.g.ring_ranks == 1) {
    call.run(attention);
    return;
  }
  const Ring ring(call, s);
  Row gathered(call.written(2), call.rank.backend.element());
  attention.key = gathered.take(ring.tokens(), heads.key.columns);
  attention.value = gathered.take(ring.tokens(), heads.value.columns);
  ring.gather(heads.key, attention.key);
  ring.gather(heads.value, attention.value);
  attention.starts = ring.starts();
  attention.key_ranges = ring.ranges();
  call.run(attention);
}

void attend_backward(const Call& call) {
  const Sizes s(call);
  const Heads heads = inner_heads(call, call.read(0), s), d = inner_heads(call, call.written(0), s);
  const auto out = [&](std::size_t which) {
    return call.matrix(call.read(which), s.g.query_rows, s.inner_heads * s.value_width);
  };
  kernels::AttentionBackward attention{.shape = shape_of(call, s),
                                       .query = heads.query,
                                       .key = heads.key,
                                       .value = heads.value,
                                       .out = out(1),
                                       .log_sum_exp = {call.read(2), s.inner_heads, s.g.query_rows, Element::kFp32},
                                       .out_gradient = out(3),
                                       .query_gradient = d.query,
                                       .key_gradient = d.key,
                                       .value_gradient = d.value,
                                       .starts = {},
                                       .key_ranges = {}};
  if (s.g.ring_ranks == 1) {
    call.run(attention);
    return;
  }
  const Ring ring(call, s);
  Row gathered(call.written(1), call.rank.backend.element());
  for (View* view : {&attention.key, &attention.value, &attention.key_gradient, &attention.value_gradient})
    *view = gathered.take(ring.tokens(), view->columns);
  ring.gather(heads.key, attention.key);
  ring.gather(heads.value, attention.value);
  attention.starts = ring.starts();
  attention.key_ranges = ring.ranges();
  call.run(attention);
  ring.scatter_sums(attention.key_gradient, d.key);
  ring.scatter_sums(attention.value_gradient, d.value);
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

// ---- Latent attention: compression and expansion

View first_rows(const View& view, std::int64_t rows) { return {view.data, rows, view.columns, view.element}; }
View last_rows(const View& view, std::int64_t rows) {
  const std::size_t skipped = static_cast<std::size_t>((view.rows - rows) * view.columns) * size_of(view.element);
  return {static_cast<std::byte*>(view.data) + skipped, rows, view.columns, view.element};
}

// The parts of what is compressed with their weights, or gradients of these.
struct Compression {
  View part, matrix;
};
std::vector<Compression> compressions(const Latent& latent, const Sizes& s, const View& query_down,
                                      const View& kv_down) {
  std::vector<Compression> parts;
  if (s.query_rank > 0) parts.push_back({latent.query, query_down});
  parts.push_back({latent.kv, first_rows(kv_down, s.kv_rank)});
  parts.push_back({latent.rotary, last_rows(kv_down, s.rotary)});
  return parts;
}
std::vector<Compression> weighted(const Call& call, const Latent& latent, const Sizes& s) {
  return compressions(latent, s, s.query_rank > 0 ? call.weight(Part::kQueryDown) : View{}, call.weight(Part::kKvDown));
}

void compress(const Call& call) {
  const Sizes s(call);
  const View x = call.matrix(call.read(0), s.g.shard_tokens, s.g.hidden);
  for (const Compression& c : weighted(call, latent_in(call, call.written(0), s.g.shard_tokens, s), s))
    linear(call, x, c.matrix, c.part);
}
void compress_input_gradient(const Call& call) {
  const Sizes s(call);
  const View dx = call.matrix(call.written(0), s.g.shard_tokens, s.g.hidden);
  bool accumulate = false;
  for (const Compression& c : weighted(call, latent_in(call, call.read(0), s.g.shard_tokens, s), s)) {
    linear_input_gradient(call, c.part, c.matrix, dx, accumulate);
    accumulate = true;
  }
}
void compress_weight_gradient(const Call& call) {
  const Sizes s(call);
  const View x = call.matrix(call.read(0), s.g.shard_tokens, s.g.hidden);
  const Latent d = latent_in(call, call.read(1), s.g.shard_tokens, s);
  for (const Compression& c :
       compressions(d, s, s.query_rank > 0 ? call.gradient(Part::kQueryDown) : View{}, call.gradient(Part::kKvDown)))
    linear_weight_gradient(call, c.part, x, c.matrix);
}

void latent_norm(const Call& call) {
  const Sizes s(call);
  const std::int64_t rows = s.g.shard_tokens;
  const Latent in = latent_in(call, call.read(0), rows, s), out = latent_in(call, call.written(0), rows, s);
  Row statistics(call.beside(), Element::kFp32);
  const auto norm = [&](Part part, const View& from, const View& to) {
    call.run(kernels::RmsNorm{.input = from,
                              .residual = {},
                              .weight = call.weight(part),
                              .out = to,
                              .sum = {},
                              .inverse_rms = statistics.take(1, rows),
                              .epsilon = kLatentNormEpsilon});
  };
  if (s.query_rank > 0) norm(Part::kQueryDownNorm, in.query, out.query);
  norm(Part::kKvDownNorm, in.kv, out.kv);
  call.copy(out.rotary, in.rotary);
}

void latent_norm_backward(const Call& call) {
  const Sizes s(call);
  const std::int64_t rows = s.g.shard_tokens;
  const Latent in = latent_in(call, call.read(0), rows, s), d = latent_in(call, call.read(2), rows, s),
               out = latent_in(call, call.written(0), rows, s);
  Row statistics(call.read(1), Element::kFp32);
  const auto norm = [&](Part part, const View& input, const View& gradient, const View& to) {
    call.run(kernels::RmsNormBackward{.input = input,
                                      .weight = call.weight(part),
                                      .inverse_rms = statistics.take(1, rows),
                                      .out_gradient = gradient,
                                      .residual_gradient = {},
                                      .input_gradient = to,
                                      .weight_gradient = call.gradient(part)});
  };
  if (s.query_rank > 0) norm(Part::kQueryDownNorm, in.query, d.query, out.query);
  norm(Part::kKvDownNorm, in.kv, d.kv, out.kv);
  call.copy(out.rotary, d.rotary);
}

// What queries are expanded from: their compressed form, or the tokens.
Part query_part(const Sizes& s) { return s.query_rank > 0 ? Part::kQueryUp : Part::kQuery; }
View query_source(const Call& call, std::byte* data, const Sizes& s) {
  return s.query_rank > 0 ? latent_in(call, data, s.g.dense_rows, s).query
                          : call.matrix(data, s.g.dense_rows, s.g.hidden);
}

void expand_queries(const Call& call) {
  const Sizes s(call);
  linear(call, query_source(call, call.read(0), s), call.weight(query_part(s)),
         call.matrix(call.written(0), s.g.dense_rows, s.heads * s.width));
}
void expand_queries_input_gradient(const Call& call) {
  const Sizes s(call);
  linear_input_gradient(call, expanded_in(call, call.read(0), s).queries, call.weight(query_part(s)),
                        query_source(call, call.written(0), s));
}
void expand_queries_weight_gradient(const Call& call) {
  const Sizes s(call);
  linear_weight_gradient(call, expanded_in(call, call.read(1), s).queries, query_source(call, call.read(0), s),
                         call.gradient(query_part(s)));
}
void expand_keys_and_values(const Call& call) {
  const Sizes s(call);
  linear(call, latent_in(call, call.read(0), s.g.dense_rows, s).kv, call.weight(Part::kKvUp),
         call.matrix(call.written(0), s.g.dense_rows, s.heads * (s.plain + s.value_width)));
}
void expand_keys_and_values_input_gradient(const Call& call) {
  const Sizes s(call);
  const Expanded d = expanded_in(call, call.read(0), s);
  const Latent out = latent_in(call, call.written(0), s.g.dense_rows, s);
  linear_input_gradient(call, d.keys_and_values, call.weight(Part::kKvUp), out.kv);
  call.copy(out.rotary, d.rotary);
}
void expand_keys_and_values_weight_gradient(const Call& call) {
  const Sizes s(call);
  linear_weight_gradient(call, expanded_in(call, call.read(1), s).keys_and_values,
                         latent_in(call, call.read(0), s.g.dense_rows, s).kv, call.gradient(Part::kKvUp));
}

}  // namespace

void add_attention_handlers(HandlerTable& table) {
  table["qkv"] = project;
  table["d_qkv"] = project_input_gradient;
  table["w_qkv"] = project_weight_gradient;
  table["rope"] = rotate;
  table["d_rope"] = rotate_backward;
  table["qkv_a2a"] = exchange_heads;
  table["d_qkv_a2a"] = exchange_heads_back;
  table["attention"] = attend;
  table["d_attention"] = attend_backward;
  table["attn_a2a"] = exchange_output;
  table["d_attn_a2a"] = exchange_output_back;
  table["out"] = project_output;
  table["d_out"] = project_output_input_gradient;
  table["w_out"] = project_output_weight_gradient;

  table["latent_down"] = compress;
  table["d_latent_down"] = compress_input_gradient;
  table["w_latent_down"] = compress_weight_gradient;
  table["latent_norm"] = latent_norm;
  table["d_latent_norm"] = latent_norm_backward;
  table["q_up"] = expand_queries;
  table["d_q_up"] = expand_queries_input_gradient;
  table["w_q_up"] = expand_queries_weight_gradient;
  table["kv_up"] = expand_keys_and_values;
  table["d_kv_up"] = expand_keys_and_values_input_gradient;
  table["w_kv_up"] = expand_keys_and_values_weight_gradient;
}

}  // namespace msmoe::executor
