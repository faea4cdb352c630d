// What attention's tensors hold: heads, and what latent attention makes them of, each matrix [rows, width] after the
// other.
#pragma once

#include <array>

#include "executor/interpreter/call.h"

namespace msmoe::executor {

struct HeadSizes : AttentionSizes {
  explicit HeadSizes(const Call& call)
      : AttentionSizes(call.layer_kind().attention, call.rank.geometry),
        attention(call.layer_kind().attention),
        g(call.rank.geometry) {}
  bool is_latent() const { return attention.kind == AttentionKind::kLatent; }
  const Attention& attention;
  const Geometry& g;
};

struct Heads {
  kernels::View query, key, value;
  std::array<kernels::View, 3> all() const { return {query, key, value}; }
};
inline Heads heads_in(const Call& call, std::byte* data, std::int64_t rows, std::int64_t heads, std::int64_t kv_heads,
                      const HeadSizes& s) {
  Row row(data, call.rank.backend.element());
  const kernels::View query = row.take(rows, heads * s.width), key = row.take(rows, kv_heads * s.width);
  return {query, key, row.take(rows, kv_heads * s.value_width)};
}
// As projected, and inside attention.
inline Heads outer_heads(const Call& call, std::byte* data, const HeadSizes& s) {
  return heads_in(call, data, s.g.dense_rows, s.heads, s.kv_heads, s);
}
inline Heads inner_heads(const Call& call, std::byte* data, const HeadSizes& s) {
  return heads_in(call, data, s.g.query_rows, s.inner_heads, s.inner_kv_heads, s);
}

struct Latent {
  kernels::View query, kv, rotary;
};
inline Latent latent_in(const Call& call, std::byte* data, std::int64_t rows, const HeadSizes& s) {
  Row row(data, call.rank.backend.element());
  const kernels::View query = row.take(rows, s.query_rank), kv = row.take(rows, s.kv_rank);
  return {query, kv, row.take(rows, s.rotary)};
}
// What latent attention's heads are made of; and, side by side, its gradients.
struct Expanded {
  kernels::View queries, keys_and_values, rotary;
};
inline Expanded expanded_in(const Call& call, std::byte* data, const HeadSizes& s) {
  Row row(data, call.rank.backend.element());
  const kernels::View queries = row.take(s.g.dense_rows, s.heads * s.width);
  const kernels::View keys_and_values = row.take(s.g.dense_rows, s.heads * (s.plain + s.value_width));
  return {queries, keys_and_values, row.take(s.g.dense_rows, s.rotary)};
}

}  // namespace msmoe::executor
