// Families with mixers that are no attention: Qwen3-Next (gated delta rule, arXiv 2412.06464), Jamba (Mamba, arXiv
// 2403.19887) and MiniMax-Text-01 (lightning attention, arXiv 2501.08313). They are counted; they are not planned.
#include <fmt/format.h>

#include "core/model_families.h"
#include "core/model_parts.h"

namespace msmoe {
namespace {

Attention gated_delta_mixer(ModelConfig& config, const Model& model) {
  const std::int64_t value_heads = config.integer("linear_num_value_heads");
  const std::int64_t value_head_dim = config.integer("linear_value_head_dim");
  const std::int64_t key_width = config.integer("linear_num_key_heads") * config.integer("linear_key_head_dim");
  const std::int64_t value_width = value_heads * value_head_dim;
  Attention mixer;
  mixer.kind = AttentionKind::kLinear;
  // Into queries, keys, values and their gate; into the two rates of each value head; out.
  mixer.mixer_matrix_parameters =
      model.hidden * (2 * key_width + 2 * value_width) + model.hidden * 2 * value_heads + value_width * model.hidden;
  // A depthwise convolution over queries, keys and values; two scalars a value head; a norm.
  mixer.vector_parameters =
      (2 * key_width + value_width) * config.integer("linear_conv_kernel_dim") + 2 * value_heads + value_head_dim;
  return mixer;
}

Attention mamba_mixer(ModelConfig& config, const Model& model) {
  const std::int64_t inner = model.hidden * config.integer("mamba_expand", {1, 64});
  const std::int64_t state = config.integer("mamba_d_state");
  // "auto" is ceil(hidden / 16).
  const std::int64_t dt_rank = config.is_text("mamba_dt_rank", "auto") || !config.has("mamba_dt_rank")
                                   ? (model.hidden + 15) / 16
                                   : config.integer("mamba_dt_rank");
  if (!config.has("mamba_dt_rank")) config.note_default("mamba_dt_rank", fmt::format("{} (hidden size / 16)", dt_rank));
  Attention mixer;
  mixer.kind = AttentionKind::kStateSpace;
  mixer.mixer_matrix_parameters =
      model.hidden * 2 * inner + inner * (dt_rank + 2 * state) + dt_rank * inner + inner * model.hidden;
  // The convolution, the bias of the time step, A and D, and norms on the time step, B and C.
  mixer.vector_parameters =
      inner * config.integer("mamba_d_conv") + inner + inner * state + inner + dt_rank + 2 * state;
  if (config.boolean("mamba_conv_bias")) mixer.vector_parameters += inner;
  if (config.boolean("mamba_proj_bias")) mixer.vector_parameters += 2 * inner + model.hidden;
  return mixer;
}

// Whether each layer's attention is full, from layer_types or attn_type_list (1 is full); `missing` where neither is.
std::vector<bool> full_layers(ModelConfig& config, std::int64_t num_layers,
                              const std::function<bool(std::int64_t)>& missing) {
  const auto words = config.layer_words("layer_types", num_layers, {"linear_attention", "full_attention"});
  std::vector<std::int64_t> types;
  if (config.has("attn_type_list")) types = config.per_layer("attn_type_list", num_layers, {0, 1});
  std::vector<bool> full;
  for (std::int64_t layer_idx = 0; layer_idx < num_layers; ++layer_idx) {
    const auto at = static_cast<std::size_t>(layer_idx);
    full.push_back(!words.empty()   ? words[at] == "full_attention"
                   : !types.empty() ? types[at] == 1
                                    : missing(layer_idx));
  }
  return full;
}

}  // namespace

std::vector<LayerKind> read_qwen3_next(ModelConfig& config, Model& model, std::int64_t num_layers) {
  LayerKind moe{grouped_attention(config, model), qwen_moe_feed_forward(config, model), 2 * model.hidden};
  moe.attention.output_gate = true;
  const bool bias = config.boolean("attention_bias");
  add_vectors(moe.attention, model,
              {.input_bias = bias, .output_bias = bias, .query_key_norm = AttentionVectors::Norm::kPerHead});
  std::vector<LayerKind> layers = qwen_moe_layers(config, num_layers, moe);

  const std::int64_t interval = config.has("layer_types") ? 1 : config.integer("full_attention_interval");
  const std::vector<bool> full =
      full_layers(config, num_layers, [&](std::int64_t layer_idx) { return (layer_idx + 1) % interval == 0; });
  const Attention linear = gated_delta_mixer(config, model);
  for (std::size_t layer_idx = 0; layer_idx < layers.size(); ++layer_idx)
    if (!full[layer_idx]) layers[layer_idx].attention = linear;
  return layers;
}

std::vector<LayerKind> read_jamba(ModelConfig& config, Model& model, std::int64_t num_layers) {
  const std::int64_t width = config.integer("intermediate_size");
  const std::int64_t expert_period = config.integer("expert_layer_period");
  const std::int64_t expert_offset = config.integer("expert_layer_offset", {0, expert_period - 1});
  const std::int64_t attention_period = config.integer("attn_layer_period");
  const std::int64_t attention_offset = config.integer("attn_layer_offset", {0, attention_period - 1});
  const LayerKind moe{grouped_attention(config, model), routed_feed_forward(config, width), 2 * model.hidden};
  const bool one_expert = moe.feed_forward.experts == 1;  // a mixture of one is a plain feed-forward
  std::vector<LayerKind> layers = mixed_layers(
      num_layers, moe,
      [&](std::int64_t layer_idx) { return !one_expert && layer_idx % expert_period == expert_offset; },
      [&] { return dense_feed_forward(width); });
  const Attention mamba = mamba_mixer(config, model);
  for (std::size_t layer_idx = 0; layer_idx < layers.size(); ++layer_idx)
    if (static_cast<std::int64_t>(layer_idx) % attention_period != attention_offset)
      layers[layer_idx].attention = mamba;
  return layers;
}

std::vector<LayerKind> read_minimax(ModelConfig& config, Model& model, std::int64_t num_layers) {
  LayerKind full_kind{grouped_attention(config, model),
                      routed_feed_forward(config, config.integer("intermediate_size")), 2 * model.hidden};
  full_kind.feed_forward.shared_width = config.optional_integer("shared_intermediate_size");
  // Lightning attention: queries, keys and values of all heads, an output gate, the output projection; one norm.
  const std::int64_t inner = full_kind.attention.heads * full_kind.attention.head_dim;
  LayerKind linear_kind = full_kind;
  linear_kind.attention = {};
  linear_kind.attention.kind = AttentionKind::kLinear;
  linear_kind.attention.mixer_matrix_parameters = 5 * model.hidden * inner;
  linear_kind.attention.vector_parameters = inner;

  if (!config.has("layer_types") && !config.has("attn_type_list"))
    config.note_default("layer_types", "full and linear in turn (class default of minimax)");
  std::vector<LayerKind> layers;
  for (const bool full : full_layers(config, num_layers, [](std::int64_t layer_idx) { return layer_idx % 2 == 0; }))
    layers.push_back(full ? full_kind : linear_kind);
  return layers;
}

}  // namespace msmoe
