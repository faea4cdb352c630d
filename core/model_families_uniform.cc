// Families whose every layer is a mixture of experts: Mixtral, Phi-3.5-MoE, OLMoE, Grok-1, DBRX, gpt-oss, MiniMax-M2,
// and the models of MegaScale-MoE (arXiv 2505.11432).
#include "core/model_families.h"
#include "core/model_parts.h"

namespace msmoe {
namespace {

using Norm = AttentionVectors::Norm;

LayerKind mixture_layer(ModelConfig& config, const Model& model) {
  return {grouped_attention(config, model), routed_feed_forward(config, config.integer("intermediate_size")),
          2 * model.hidden};
}

}  // namespace

std::vector<LayerKind> read_mixtral(ModelConfig& config, Model& model, std::int64_t num_layers) {
  LayerKind kind = mixture_layer(config, model);
  kind.attention.window = config.optional_integer("sliding_window", kTokens);
  return uniform_layers(num_layers, kind);
}

// LayerNorm with a bias, and biases wherever the file asks for them.
std::vector<LayerKind> read_phimoe(ModelConfig& config, Model& model, std::int64_t num_layers) {
  LayerKind kind = mixture_layer(config, model);
  kind.attention.window = config.optional_integer("sliding_window", kTokens);
  const bool bias = config.boolean("attention_bias");
  add_vectors(kind.attention, model, {.input_bias = bias, .output_bias = bias});
  kind.norm_parameters = 4 * model.hidden;
  model.final_norm_parameters = 2 * model.hidden;
  if (config.boolean("lm_head_bias")) model.head_vector_parameters = model.vocab;
  return uniform_layers(num_layers, kind);
}

std::vector<LayerKind> read_olmoe(ModelConfig& config, Model& model, std::int64_t num_layers) {
  LayerKind kind = mixture_layer(config, model);
  const bool bias = config.boolean("attention_bias");
  add_vectors(kind.attention, model, {.input_bias = bias, .output_bias = bias, .query_key_norm = Norm::kWhole});
  return uniform_layers(num_layers, kind);
}

// Norms before and after both halves of a layer.
std::vector<LayerKind> read_grok(ModelConfig& config, Model& model, std::int64_t num_layers) {
  LayerKind kind = mixture_layer(config, model);
  kind.norm_parameters = 4 * model.hidden;
  return uniform_layers(num_layers, kind);
}

std::vector<LayerKind> read_dbrx(ModelConfig& config, Model& model, std::int64_t num_layers) {
  if (model.tied_embeddings) config.fail("tie_word_embeddings", "found true", "DBRX has no tied embeddings");
  ModelConfig attention = config.nested("attn_config");
  ModelConfig feed_forward = config.nested("ffn_config");
  const LayerKind kind{grouped_attention(config, model, attention.integer("kv_n_heads")),
                       routed_feed_forward(feed_forward, feed_forward.integer("ffn_hidden_size")), 2 * model.hidden};
  return uniform_layers(num_layers, kind);
}

// Windows on every other layer; biases on every projection, those of the experts and the router included.
std::vector<LayerKind> read_gpt_oss(ModelConfig& config, Model& model, std::int64_t num_layers) {
  LayerKind kind = mixture_layer(config, model);
  const bool bias = config.boolean("attention_bias");
  add_vectors(kind.attention, model, {.input_bias = bias, .output_bias = bias, .sinks = true});
  kind.feed_forward.vector_parameters = kind.feed_forward.experts;
  kind.feed_forward.expert_vector_parameters = 2 * kind.feed_forward.width + model.hidden;

  if (!config.has("layer_types"))
    config.note_default("layer_types", "sliding and full in turn (class default of gpt_oss)");
  std::vector<LayerKind> layers = uniform_layers(num_layers, kind);
  set_windows(config, layers, "sliding_attention", config.optional_integer("sliding_window", kTokens),
              [](std::int64_t layer_idx) { return layer_idx % 2 == 0; });
  return layers;
}

std::vector<LayerKind> read_minimax_m2(ModelConfig& config, Model& model, std::int64_t num_layers) {
  LayerKind kind = mixture_layer(config, model);
  if (config.boolean("use_qk_norm")) add_vectors(kind.attention, model, {.query_key_norm = Norm::kWhole});
  kind.feed_forward.router = router_kind(config, RouterKind::kSigmoid);
  kind.feed_forward.shared_width = config.optional_integer("shared_intermediate_size");
  if (config.has("attn_type_list"))
    for (const std::int64_t type : config.per_layer("attn_type_list", num_layers, {0, 1}))
      if (type == 0)
        config.fail("attn_type_list", "found 0, linear attention", "minimax_m2 has full attention (1) alone");
  if (config.boolean("use_mtp"))
    model.predict_layers = static_cast<int>(config.integer("num_mtp_modules", {0, 64}) *
                                            config.integer("mtp_transformer_layers", {0, 64}));
  return uniform_layers(num_layers, kind);
}

std::vector<LayerKind> read_megascale(ModelConfig& config, Model& model, std::int64_t num_layers) {
  LayerKind kind = mixture_layer(config, model);
  kind.feed_forward.shared_width = config.integer("n_shared_experts", kCount) * kind.feed_forward.width;
  return uniform_layers(num_layers, kind);
}

}  // namespace msmoe
