#include "core/model_parts.h"

#include <fmt/format.h>

#include <optional>

namespace msmoe {
namespace {

std::int64_t read_heads(ModelConfig& config) {
  return config.integer(config.name_of({"num_attention_heads", "n_heads"}));
}

std::int64_t read_kv_heads(ModelConfig& config, std::int64_t heads) {
  const std::int64_t stated = config.optional_integer("num_key_value_heads", kSize);
  if (stated > 0) return stated;
  config.note_default("num_key_value_heads", fmt::format("{} (as many as heads)", heads));
  return heads;
}

std::int64_t read_head_dim(ModelConfig& config, const Model& model, std::int64_t heads) {
  const std::string key = config.name_of({"head_dim", "attention_head_dim"});
  const std::int64_t stated = config.optional_integer(key, kSize);
  if (stated > 0) return stated;
  if (model.hidden % heads != 0)
    config.fail(key, fmt::format("missing, and hidden size {} is not a multiple of {} heads", model.hidden, heads));
  config.note_default(key, fmt::format("{} (hidden size / heads)", model.hidden / heads));
  return model.hidden / heads;
}

}  // namespace

Attention grouped_attention(ModelConfig& config, const Model& model) {
  return grouped_attention(config, model, read_kv_heads(config, read_heads(config)));
}

Attention grouped_attention(ModelConfig& config, const Model& model, std::int64_t kv_heads) {
  Attention attention;
  attention.heads = read_heads(config);
  attention.kv_heads = kv_heads;
  if (attention.heads % kv_heads != 0)
    config.fail("num_key_value_heads", fmt::format("{} does not divide the {} heads", kv_heads, attention.heads),
                "each key/value head serves the same number of heads");
  attention.head_dim = attention.value_dim = read_head_dim(config, model, attention.heads);
  return attention;
}

void add_vectors(Attention& attention, const Model& model, const AttentionVectors& vectors) {
  const std::int64_t query = attention.heads * attention.head_dim;
  const std::int64_t key = attention.kv_heads * attention.head_dim;
  attention.query_key_norm = vectors.query_key_norm != AttentionVectors::Norm::kNone;
  std::int64_t& count = attention.vector_parameters;
  if (vectors.input_bias) count += query * (attention.output_gate ? 2 : 1) + (attention.shares_kv ? 0 : 2 * key);
  if (vectors.output_bias) count += model.hidden;
  if (vectors.query_key_norm == AttentionVectors::Norm::kPerHead) count += 2 * attention.head_dim;
  if (vectors.query_key_norm == AttentionVectors::Norm::kWhole) count += query + key;
  if (vectors.sinks) count += attention.heads;
}

Attention latent_attention(ModelConfig& config, const Model& model) {
  Attention attention;
  attention.kind = AttentionKind::kLatent;
  attention.heads = attention.kv_heads = read_heads(config);
  attention.query_rank = config.optional_integer("q_lora_rank");
  attention.kv_rank = config.integer("kv_lora_rank");
  attention.rope_dim = config.integer("qk_rope_head_dim");
  attention.head_dim = config.integer("qk_nope_head_dim") + attention.rope_dim;
  attention.value_dim = config.integer("v_head_dim");
  attention.vector_parameters = attention.query_rank + attention.kv_rank;  // a norm on each compressed stream
  if (config.boolean("attention_bias"))
    attention.vector_parameters += attention.query_rank + attention.kv_rank + attention.rope_dim + model.hidden;
  return attention;
}

std::vector<LayerKind> uniform_layers(std::int64_t num_layers, const LayerKind& kind) {
  return std::vector<LayerKind>(static_cast<std::size_t>(num_layers), kind);
}

void set_windows(ModelConfig& config, std::vector<LayerKind>& layers, const char* word, std::int64_t window,
                 const std::function<bool(std::int64_t)>& missing) {
  const std::vector<std::string> words =
      config.layer_words("layer_types", static_cast<std::int64_t>(layers.size()), {word, "full_attention"});
  for (std::size_t layer_idx = 0; layer_idx < layers.size(); ++layer_idx)
    if (words.empty() ? missing(static_cast<std::int64_t>(layer_idx)) : words[layer_idx] == word)
      layers[layer_idx].attention.window = window;
}

FeedForward dense_feed_forward(std::int64_t width) {
  FeedForward feed_forward;
  feed_forward.width = width;
  return feed_forward;
}

FeedForward dense_feed_forward(ModelConfig& config) { return dense_feed_forward(config.integer("intermediate_size")); }

void check_top_k(const ModelConfig& config, const std::string& key, std::int64_t top_k, std::int64_t experts) {
  if (top_k > experts) config.fail(key, fmt::format("{} experts a token, but there are {}", top_k, experts));
}

FeedForward routed_feed_forward(ModelConfig& config, std::int64_t width) {
  FeedForward feed_forward;
  feed_forward.width = width;
  feed_forward.experts =
      config.integer(config.name_of({"n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts"}));
  const std::string top_k_key = config.name_of({"num_experts_per_tok", "moe_topk", "moe_top_k", "experts_per_token"});
  feed_forward.top_k = config.integer(top_k_key);
  check_top_k(config, top_k_key, feed_forward.top_k, feed_forward.experts);
  return feed_forward;
}

void read_group_limits(ModelConfig& config, FeedForward& feed_forward) {
  if (config.text_or("topk_method", "") == "greedy") return;
  const std::int64_t groups = config.optional_integer("n_group");
  const std::int64_t groups_per_token = config.optional_integer("topk_group");
  if (groups <= 1) return;
  if (feed_forward.experts % groups != 0)
    config.fail("n_group", fmt::format("{} groups do not divide {} experts", groups, feed_forward.experts));
  if (groups_per_token < 1 || groups_per_token > groups)
    config.fail("topk_group", fmt::format("{} of {} groups a token", groups_per_token, groups),
                fmt::format("1 to {} is allowed", groups));
  if (feed_forward.top_k > feed_forward.experts / groups * groups_per_token)
    config.fail("num_experts_per_tok",
                fmt::format("{} experts a token, but topk_group = {} leaves {}", feed_forward.top_k, groups_per_token,
                            feed_forward.experts / groups * groups_per_token));
  feed_forward.expert_groups = groups;
  feed_forward.groups_per_token = groups_per_token;
}

RouterKind router_kind(ModelConfig& config, RouterKind missing) {
  const std::string word = config.text_or("scoring_func", missing == RouterKind::kSigmoid ? "sigmoid" : "softmax");
  if (word == "sigmoid") return RouterKind::kSigmoid;
  if (word != "softmax") config.fail("scoring_func", "found \"" + word + "\"", "softmax, sigmoid are allowed");
  return RouterKind::kSoftmax;
}

std::vector<LayerKind> mixed_layers(std::int64_t num_layers, const LayerKind& moe,
                                    const std::function<bool(std::int64_t)>& is_moe,
                                    const std::function<FeedForward()>& dense) {
  std::vector<LayerKind> layers;
  std::optional<FeedForward> dense_part;
  for (std::int64_t layer_idx = 0; layer_idx < num_layers; ++layer_idx) {
    layers.push_back(moe);
    if (is_moe(layer_idx)) continue;
    if (!dense_part) dense_part = dense();
    layers.back().feed_forward = *dense_part;
  }
  return layers;
}

}  // namespace msmoe
