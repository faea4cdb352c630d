// Parameters and FLOPs of a model. Matrices are what a token is multiplied with; h is the hidden size.
//
//   grouped attention   h * heads * head_dim (twice with an output gate)      queries
//                     + 2 * h * kv_heads * head_dim                           keys and values
//                     + heads * value_dim * h                                 output
//   latent attention    h * q_rank + q_rank * heads * head_dim                queries (h * heads * head_dim, if not
//                                                                             compressed)
//                     + h * (kv_rank + rope_dim)                              keys and values, down
//                     + kv_rank * heads * (head_dim - rope_dim + value_dim)   and up
//                     + heads * value_dim * h                                 output
//   feed-forward        matrices * h * width, for each expert and for the shared ones together
//   router              h * experts
//
// Not counted: the correction bias of routers that balance without a loss (DeepSeek-V3, GLM-4.5), which no gradient
// reaches and which Hugging Face keeps as a buffer.
#include <algorithm>
#include <cmath>

#include "core/model.h"

namespace msmoe {
namespace {

std::int64_t attention_matrices(const Attention& attention, std::int64_t hidden) {
  const std::int64_t query_width = attention.heads * attention.head_dim;
  const std::int64_t output = attention.heads * attention.value_dim * hidden;
  switch (attention.kind) {
    case AttentionKind::kGrouped: {
      const std::int64_t key_value = attention.shares_kv ? 0 : 2 * hidden * attention.kv_heads * attention.head_dim;
      return hidden * query_width * (attention.output_gate ? 2 : 1) + key_value + output;
    }
    case AttentionKind::kLatent: {
      const std::int64_t query =
          attention.query_rank > 0 ? attention.query_rank * (hidden + query_width) : hidden * query_width;
      const std::int64_t down = hidden * (attention.kv_rank + attention.rope_dim);
      const std::int64_t up =
          attention.kv_rank * attention.heads * (attention.head_dim - attention.rope_dim + attention.value_dim);
      return query + down + up + output;
    }
    case AttentionKind::kLinear:
    case AttentionKind::kStateSpace: break;
  }
  return attention.mixer_matrix_parameters;
}

std::int64_t active_matrices(const LayerParameters& layer, std::int64_t top_k) {
  return layer.attention_matrices + layer.router_matrices + layer.dense_matrices + top_k * layer.expert_matrices;
}

// A prediction layer joins the last hidden state with the embedding of the next token, each normed, through a
// projection [2h, h], and ends in a norm of its own; embedding and head are the model's (DeepSeek-V3, arXiv 2412.19437
// section 2.2).
std::int64_t predict_layer_parameters(const Model& model) {
  const LayerKind& kind = model.kinds[static_cast<std::size_t>(model.predict_kind)];
  return count_layer(model, kind).total() + 2 * model.hidden * model.hidden + 3 * model.hidden;
}

}  // namespace

std::int64_t LayerParameters::total() const {
  return attention_matrices + router_matrices + dense_matrices + attention_vectors + norm_vectors +
         feed_forward_vectors + experts * (expert_matrices + expert_vectors);
}

std::int64_t LayerParameters::active(std::int64_t top_k) const {
  return attention_matrices + router_matrices + dense_matrices + attention_vectors + norm_vectors +
         feed_forward_vectors + top_k * (expert_matrices + expert_vectors);
}

LayerParameters count_layer(const Model& model, const LayerKind& kind) {
  const FeedForward& feed_forward = kind.feed_forward;
  const std::int64_t column = feed_forward.matrices * model.hidden;  // matrix entries per unit of width
  LayerParameters count;
  count.attention_matrices = attention_matrices(kind.attention, model.hidden);
  count.attention_vectors = kind.attention.vector_parameters;
  count.norm_vectors = kind.norm_parameters;
  count.feed_forward_vectors = feed_forward.vector_parameters;
  count.dense_matrices = column * (feed_forward.is_moe() ? feed_forward.shared_width : feed_forward.width);
  if (feed_forward.is_moe()) {
    count.experts = feed_forward.experts;
    count.router_matrices = model.hidden * feed_forward.experts;
    count.expert_matrices = column * feed_forward.width;
    count.expert_vectors = feed_forward.expert_vector_parameters;
  }
  return count;
}

ParameterCount count_parameters(const Model& model) {
  const std::int64_t embedding = model.vocab * model.hidden;
  const std::int64_t outside =
      embedding * (model.tied_embeddings ? 1 : 2) + model.final_norm_parameters + model.head_vector_parameters;
  ParameterCount count{.total = outside, .active = outside, .active_matrices = embedding, .predict_layers = 0};
  for (const int kind_idx : model.layers) {
    const LayerKind& kind = model.kinds[static_cast<std::size_t>(kind_idx)];
    const LayerParameters layer = count_layer(model, kind);
    count.total += layer.total();
    count.active += layer.active(kind.feed_forward.top_k);
    count.active_matrices += active_matrices(layer, kind.feed_forward.top_k);
  }
  if (model.predict_layers > 0) count.predict_layers = model.predict_layers * predict_layer_parameters(model);
  return count;
}

double average_span(const Attention& attention, std::int64_t seq_len) {
  if (attention.kind == AttentionKind::kLinear || attention.kind == AttentionKind::kStateSpace) return 0;
  const auto tokens = static_cast<double>(seq_len);
  const auto window = static_cast<double>(attention.window);
  if (attention.window == 0 || attention.window >= seq_len) return tokens / 2;
  if (!attention.chunked) return window * (1 - window / (2 * tokens));
  const double whole_chunks = std::floor(tokens / window);
  const double rest = tokens - whole_chunks * window;
  return (whole_chunks * window * window + rest * rest) / (2 * tokens);
}

Flops flops_per_token(const Model& model, std::int64_t seq_len) {
  Flops flops{6.0 * static_cast<double>(count_parameters(model).active_matrices)};
  for (const int kind_idx : model.layers) {
    const Attention& attention = model.kinds[static_cast<std::size_t>(kind_idx)].attention;
    const auto width = static_cast<double>(attention.heads * (attention.head_dim + attention.value_dim));
    flops += Flops{3 * 2 * width * average_span(attention, seq_len)};
  }
  return flops;
}

}  // namespace msmoe
