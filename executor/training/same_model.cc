#include "executor/training/same_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "core/error.h"
#include "executor/checkpoint/hf_names.h"
#include "executor/checkpoint/tensor_info.h"

namespace msmoe::executor {
namespace {

using Facts = std::vector<std::pair<std::string, double>>;

Facts facts_of(const Model& model, const ModelNumerics& numerics) {
  Facts facts;
  const auto add = [&](std::string name, auto value) {
    facts.emplace_back(std::move(name), static_cast<double>(value));
  };
  add("hidden_size", model.hidden);
  add("vocab_size", model.vocab);
  add("tie_word_embeddings", model.tied_embeddings);
  add("rms_norm_eps", numerics.norm_epsilon);
  add("rope_theta", numerics.rope_base);
  add("rope_interleave", numerics.rope_interleaved);
  add("scale of attention", numerics.attention_scale);
  add("norm_topk_prob", numerics.normalize_gates);
  add("routed_scaling_factor", numerics.gate_scale);
  add("prediction layers", model.predict_layers);
  add("layers", model.num_layers());
  for (std::size_t layer = 0; layer < model.layers.size(); ++layer) {
    const auto& [attention, feed_forward, norm_parameters] = model.layer(layer);
    const auto add_of_layer = [&](const char* name, auto value) {
      add(fmt::format("layer {}: {}", layer, name), value);
    };
    add_of_layer("kind of attention", attention.kind);
    add_of_layer("heads", attention.heads);
    add_of_layer("key/value heads", attention.kv_heads);
    add_of_layer("size of a head", attention.head_dim);
    add_of_layer("rotary size", attention.rope_dim);
    add_of_layer("window", attention.window);
    add_of_layer("width", feed_forward.width);
    add_of_layer("experts", feed_forward.experts);
    add_of_layer("experts a token", feed_forward.top_k);
    add_of_layer("width of shared experts", feed_forward.shared_width);
    add_of_layer("kind of router", feed_forward.router);
    add_of_layer("groups of experts", feed_forward.expert_groups);
    add_of_layer("groups a token", feed_forward.groups_per_token);
  }
  return facts;
}

constexpr const char* kHint = "it can be gone on with under any plan, but not as another model";

}  // namespace

void require_same_model(const std::string& config_path, const Model& model, const ModelNumerics& numerics) {
  const Model saved = find_model(config_path);
  const auto refuse = [&](const std::string& place, const auto& found, const auto& expected) {
    throw UserError(config_path, place, fmt::format("the checkpoint has {}, the model {}", found, expected), kHint);
  };
  if (saved.family != model.family) refuse("model_type", saved.family, model.family);
  const Facts theirs = facts_of(saved, read_numerics(saved)), ours = facts_of(model, numerics);
  // Lists of equal length up to the number of layers, which is compared first.
  for (std::size_t idx = 0; idx < std::min(theirs.size(), ours.size()); ++idx)
    if (theirs[idx] != ours[idx]) refuse(ours[idx].first, theirs[idx].second, ours[idx].second);

  const HfNames their_names(saved), our_names(model);
  for (std::size_t idx = 0; idx < our_names.parameters().size(); ++idx) {
    const Parameter& parameter = our_names.parameters()[idx];
    const Parameter* const found = their_names.find(our_names.name(idx));
    if (found == nullptr || found->shape != parameter.shape)
      refuse(our_names.name(idx), found == nullptr ? "none" : shape_text(found->shape), shape_text(parameter.shape));
  }
  if (their_names.parameters().size() != our_names.parameters().size())
    refuse("parameters", their_names.parameters().size(), our_names.parameters().size());
}

}  // namespace msmoe::executor
