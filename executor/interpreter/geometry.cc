#include "executor/interpreter/geometry.h"

#include <algorithm>

namespace msmoe::executor {

Geometry::Geometry(const Model& model, const Plan& plan, const MeshPlace& place)
    : hidden(model.hidden), sequences(plan.micro_batch), seq_len(plan.seq_len) {
  const bool splits_heads = plan.attention != AttentionParallelism::kContext;
  const auto degree = static_cast<int>(plan.attention_degree);
  const std::int64_t tokens = sequences * seq_len;
  context_tokens = tokens / plan.context_degree;
  shard_tokens = context_tokens / degree;
  if (plan.attention == AttentionParallelism::kTensor) tensor_ranks = degree;
  if (plan.attention == AttentionParallelism::kSequence) ulysses_ranks = degree;
  dense_rows = tensor_ranks > 1 ? context_tokens : shard_tokens;
  query_rows = splits_heads ? context_tokens : shard_tokens;
  ring_ranks = splits_heads ? static_cast<int>(plan.context_degree) : degree;
  ring_rank = splits_heads ? place.context : place.attention;
  ring_group = splits_heads ? GroupKind::kContext : GroupKind::kAttention;
  slice_tokens = ring_ranks > 1 ? seq_len / (2 * ring_ranks) : seq_len;

  // Where the ring is made of attention ranks, each is a context of its own.
  context_ids = ids_of_context(ring_rank);
  const auto first = splits_heads ? context_ids.begin() + place.attention * shard_tokens : context_ids.begin();
  shard_ids.assign(first, first + shard_tokens);
  for (std::int64_t row = 0; row < shard_tokens; ++row) {
    const std::int64_t sequence = shard_ids[static_cast<std::size_t>(row)] / seq_len;
    if (segments.empty() || segments.back().sequence != sequence) segments.push_back({sequence, row, 0});
    ++segments.back().rows;
  }
}

std::vector<std::int32_t> Geometry::ids_of_context(int context_rank) const {
  std::vector<std::int32_t> ids;
  for (std::int64_t sequence = 0; sequence < sequences; ++sequence) {
    const auto add_slice = [&](std::int64_t slice) {
      for (std::int64_t token = 0; token < slice_tokens; ++token)
        ids.push_back(static_cast<std::int32_t>(sequence * seq_len + slice * slice_tokens + token));
    };
    add_slice(context_rank);
    if (ring_ranks > 1) add_slice(2 * ring_ranks - 1 - context_rank);
  }
  return ids;
}

AttentionSizes::AttentionSizes(const Attention& attention, const Geometry& geometry)
    : heads(attention.heads / geometry.tensor_ranks),
      kv_heads(std::max<std::int64_t>(1, attention.kv_heads / geometry.tensor_ranks)),
      inner_heads(heads / geometry.ulysses_ranks),
      inner_kv_heads(std::max<std::int64_t>(1, kv_heads / geometry.ulysses_ranks)),
      width(attention.head_dim),
      value_width(attention.value_dim),
      rotary(attention.kind == AttentionKind::kLatent ? attention.rope_dim : attention.head_dim),
      plain(attention.head_dim - rotary),
      query_rank(attention.query_rank),
      kv_rank(attention.kv_rank) {}

}  // namespace msmoe::executor
