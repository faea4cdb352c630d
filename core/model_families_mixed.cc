// Families in which mixtures of experts and dense layers alternate: Qwen2-MoE, Qwen3-MoE, DeepSeek, Kimi-K2, GLM-4.5,
// Llama 4 and Hunyuan.
#include <fmt/format.h>

#include <algorithm>

#include "core/model_families.h"
#include "core/model_parts.h"

namespace msmoe {
namespace {

using Norm = AttentionVectors::Norm;

bool contains(const std::vector<std::int64_t>& values, std::int64_t value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

// From first_k_dense_replace on, every moe_layer_freq-th layer is a mixture, with n_shared_experts more experts that
// see every token. Extra prediction layers follow the last (DeepSeek-V3, arXiv 2412.19437 section 2.2).
std::vector<LayerKind> deepseek_layers(ModelConfig& config, Model& model, std::int64_t num_layers,
                                       const Attention& attention, RouterKind router) {
  LayerKind moe{attention, routed_feed_forward(config, config.integer("moe_intermediate_size")), 2 * model.hidden};
  moe.feed_forward.shared_width = config.optional_integer("n_shared_experts") * moe.feed_forward.width;
  moe.feed_forward.router = router_kind(config, router);
  read_group_limits(config, moe.feed_forward);

  model.predict_layers = static_cast<int>(
      config.optional_integer(config.name_of({"num_nextn_predict_layers", "num_mtp_layers"}), {0, 64}));
  const std::int64_t first = config.integer("first_k_dense_replace", {0, num_layers});
  const std::int64_t step = std::max<std::int64_t>(config.optional_integer("moe_layer_freq"), 1);
  return mixed_layers(
      num_layers, moe, [&](std::int64_t layer_idx) { return layer_idx >= first && layer_idx % step == 0; },
      [&] { return dense_feed_forward(config); });
}

}  // namespace

std::vector<LayerKind> qwen_moe_layers(ModelConfig& config, std::int64_t num_layers, const LayerKind& moe) {
  const std::vector<std::int64_t> dense_layers = config.indices("mlp_only_layers", num_layers);
  const std::int64_t step = config.integer("decoder_sparse_step");
  return mixed_layers(
      num_layers, moe,
      [&](std::int64_t layer_idx) { return !contains(dense_layers, layer_idx) && (layer_idx + 1) % step == 0; },
      [&] { return dense_feed_forward(config); });
}

FeedForward qwen_moe_feed_forward(ModelConfig& config, const Model& model) {
  FeedForward moe = routed_feed_forward(config, config.integer("moe_intermediate_size"));
  moe.shared_width = config.optional_integer("shared_expert_intermediate_size");
  if (moe.shared_width > 0) moe.vector_parameters = model.hidden;  // its gate: one logit a token
  return moe;
}

std::vector<LayerKind> read_qwen2_moe(ModelConfig& config, Model& model, std::int64_t num_layers) {
  LayerKind moe{grouped_attention(config, model), qwen_moe_feed_forward(config, model), 2 * model.hidden};
  add_vectors(moe.attention, model, {.input_bias = config.boolean("qkv_bias")});
  std::vector<LayerKind> layers = qwen_moe_layers(config, num_layers, moe);
  if (config.boolean("use_sliding_window")) {
    const std::int64_t end = config.integer("max_window_layers", kCount);
    set_windows(config, layers, "sliding_attention", config.optional_integer("sliding_window", kTokens),
                [&](std::int64_t layer_idx) { return layer_idx % 2 == 0 && layer_idx < end; });
  }
  return layers;
}

std::vector<LayerKind> read_qwen3_moe(ModelConfig& config, Model& model, std::int64_t num_layers) {
  LayerKind moe{grouped_attention(config, model), qwen_moe_feed_forward(config, model), 2 * model.hidden};
  const bool bias = config.boolean("attention_bias");
  add_vectors(moe.attention, model, {.input_bias = bias, .output_bias = bias, .query_key_norm = Norm::kPerHead});
  if (config.boolean("use_sliding_window")) moe.attention.window = config.optional_integer("sliding_window", kTokens);
  return qwen_moe_layers(config, num_layers, moe);
}

std::vector<LayerKind> read_deepseek(ModelConfig& config, Model& model, std::int64_t num_layers) {
  Attention attention = grouped_attention(config, model);
  const bool bias = config.boolean("attention_bias");
  add_vectors(attention, model, {.input_bias = bias, .output_bias = bias});
  return deepseek_layers(config, model, num_layers, attention, RouterKind::kSoftmax);
}

std::vector<LayerKind> read_deepseek_v2(ModelConfig& config, Model& model, std::int64_t num_layers) {
  return deepseek_layers(config, model, num_layers, latent_attention(config, model), RouterKind::kSoftmax);
}

std::vector<LayerKind> read_deepseek_v3(ModelConfig& config, Model& model, std::int64_t num_layers) {
  return deepseek_layers(config, model, num_layers, latent_attention(config, model), RouterKind::kSigmoid);
}

std::vector<LayerKind> read_glm4_moe(ModelConfig& config, Model& model, std::int64_t num_layers) {
  Attention attention = grouped_attention(config, model);
  const Norm norm = config.boolean("use_qk_norm") ? Norm::kPerHead : Norm::kNone;
  add_vectors(attention, model, {.input_bias = config.boolean("attention_bias"), .query_key_norm = norm});
  return deepseek_layers(config, model, num_layers, attention, RouterKind::kSigmoid);
}

// One shared expert as wide as a routed one, which no key tells of. Layers with rotary positions attend within chunks;
// no_rope_layers holds a 1 for each of those (despite its name), by default all but every fourth.
std::vector<LayerKind> read_llama4(ModelConfig& config, Model& model, std::int64_t num_layers) {
  LayerKind moe{grouped_attention(config, model), routed_feed_forward(config, config.integer("intermediate_size")),
                2 * model.hidden};
  const bool bias = config.boolean("attention_bias");
  add_vectors(moe.attention, model, {.input_bias = bias, .output_bias = bias});
  moe.feed_forward.shared_width = moe.feed_forward.width;
  moe.feed_forward.router = RouterKind::kSigmoid;

  const bool listed = config.has("moe_layers");
  const std::vector<std::int64_t> moe_layers = config.indices("moe_layers", num_layers);
  const std::int64_t step = listed ? 1 : config.integer("interleave_moe_layer_step");
  std::vector<LayerKind> layers = mixed_layers(
      num_layers, moe,
      [&](std::int64_t layer_idx) { return listed ? contains(moe_layers, layer_idx) : (layer_idx + 1) % step == 0; },
      [&] { return dense_feed_forward(config.integer("intermediate_size_mlp")); });

  std::vector<std::int64_t> rotary = config.indices("no_rope_layers", 2);
  if (!rotary.empty()) rotary = config.per_layer("no_rope_layers", num_layers, {0, 1});
  const std::int64_t interval = rotary.empty() ? config.integer("no_rope_layer_interval") : 1;
  set_windows(config, layers, "chunked_attention", config.optional_integer("attention_chunk_size", kTokens),
              [&](std::int64_t layer_idx) {
                return rotary.empty() ? (layer_idx + 1) % interval != 0
                                      : rotary[static_cast<std::size_t>(layer_idx)] == 1;
              });
  for (LayerKind& layer : layers) layer.attention.chunked = layer.attention.window > 0;
  return layers;
}

// Counts and widths may differ from layer to layer. With use_cla, groups of cla_share_factor layers share the keys and
// values of their first.
std::vector<LayerKind> read_hunyuan(ModelConfig& config, Model& model, std::int64_t num_layers) {
  const bool latent = config.boolean("use_mla");
  const Attention attention = latent ? latent_attention(config, model) : grouped_attention(config, model);
  const AttentionVectors vectors{
      .input_bias = !latent && config.boolean("attention_bias"),
      .output_bias = !latent && config.boolean("attention_bias"),
      .query_key_norm = !latent && config.boolean("use_qk_norm") ? Norm::kPerHead : Norm::kNone};
  const std::int64_t share_factor = !latent && config.boolean("use_cla") ? config.integer("cla_share_factor") : 1;

  const std::string top_k_key = config.name_of({"moe_topk", "num_experts_per_tok"});
  const auto experts = config.per_layer(config.name_of({"num_experts", "num_local_experts"}), num_layers);
  const auto top_k = config.per_layer(top_k_key, num_layers);
  const auto width =
      config.per_layer(config.has("moe_intermediate_size") ? "moe_intermediate_size" : "intermediate_size", num_layers);
  const auto shared = config.boolean("use_mixed_mlp_moe") ? config.per_layer("num_shared_expert", num_layers, kCount)
                                                          : std::vector<std::int64_t>(experts.size(), 0);
  const std::int64_t first = config.integer("moe_layer_num_skipped", {0, num_layers});
  if (config.boolean("mlp_bias")) config.fail("mlp_bias", "found true", "no Hunyuan model with it is known");

  std::vector<LayerKind> layers;
  for (std::size_t layer_idx = 0; layer_idx < experts.size(); ++layer_idx) {
    LayerKind& layer = layers.emplace_back(LayerKind{attention, {}, 2 * model.hidden});
    layer.attention.shares_kv = static_cast<std::int64_t>(layer_idx) % share_factor != 0;
    add_vectors(layer.attention, model, vectors);
    if (static_cast<std::int64_t>(layer_idx) < first || experts[layer_idx] == 1) {
      layer.feed_forward = dense_feed_forward(config);
      continue;
    }
    check_top_k(config, top_k_key, top_k[layer_idx], experts[layer_idx]);
    layer.feed_forward.experts = experts[layer_idx];
    layer.feed_forward.top_k = top_k[layer_idx];
    layer.feed_forward.width = width[layer_idx];
    layer.feed_forward.shared_width = shared[layer_idx] * width[layer_idx];
  }
  return layers;
}

}  // namespace msmoe
