// Dense families: Llama, Nemotron, GPT-NeoX, Mistral, Qwen2, Qwen3.
#include "core/model_families.h"
#include "core/model_parts.h"

namespace msmoe {
namespace {

// Qwen2 and Qwen3: with use_sliding_window, the layers from max_window_layers on.
std::vector<LayerKind> windowed_from(ModelConfig& config, std::int64_t num_layers, const LayerKind& kind) {
  std::vector<LayerKind> layers = uniform_layers(num_layers, kind);
  if (!config.boolean("use_sliding_window")) return layers;
  const std::int64_t window = config.optional_integer("sliding_window", kTokens);
  const std::int64_t first = config.integer("max_window_layers", kCount);
  set_windows(config, layers, "sliding_attention", window, [&](std::int64_t layer_idx) { return layer_idx >= first; });
  return layers;
}

}  // namespace

std::vector<LayerKind> read_llama(ModelConfig& config, Model& model, std::int64_t num_layers) {
  LayerKind kind{grouped_attention(config, model), dense_feed_forward(config), 2 * model.hidden};
  const bool bias = config.boolean("attention_bias");
  add_vectors(kind.attention, model, {.input_bias = bias, .output_bias = bias});
  if (config.boolean("mlp_bias")) kind.feed_forward.vector_parameters = 2 * kind.feed_forward.width + model.hidden;
  return uniform_layers(num_layers, kind);
}

// Nemotron and GPT-NeoX: no gate, so a layer has two matrices instead of Llama's three.
std::vector<LayerKind> read_plain(ModelConfig& config, Model& model, std::int64_t num_layers) {
  std::vector<LayerKind> layers = read_llama(config, model, num_layers);
  for (LayerKind& kind : layers) {
    if (kind.feed_forward.vector_parameters > 0) kind.feed_forward.vector_parameters -= kind.feed_forward.width;
    kind.feed_forward.matrices = 2;
    kind.norm_parameters = 4 * model.hidden;  // with biases
  }
  model.final_norm_parameters = 2 * model.hidden;
  return layers;
}

std::vector<LayerKind> read_mistral(ModelConfig& config, Model& model, std::int64_t num_layers) {
  LayerKind kind{grouped_attention(config, model), dense_feed_forward(config), 2 * model.hidden};
  kind.attention.window = config.optional_integer("sliding_window", kTokens);
  return uniform_layers(num_layers, kind);
}

std::vector<LayerKind> read_qwen2(ModelConfig& config, Model& model, std::int64_t num_layers) {
  LayerKind kind{grouped_attention(config, model), dense_feed_forward(config), 2 * model.hidden};
  add_vectors(kind.attention, model, {.input_bias = true});
  return windowed_from(config, num_layers, kind);
}

std::vector<LayerKind> read_qwen3(ModelConfig& config, Model& model, std::int64_t num_layers) {
  LayerKind kind{grouped_attention(config, model), dense_feed_forward(config), 2 * model.hidden};
  const bool bias = config.boolean("attention_bias");
  add_vectors(kind.attention, model,
              {.input_bias = bias, .output_bias = bias, .query_key_norm = AttentionVectors::Norm::kPerHead});
  return windowed_from(config, num_layers, kind);
}

}  // namespace msmoe
