#include "executor/checkpoint/hf_names.h"

#include <fmt/format.h>

#include <cassert>
#include <string_view>

namespace msmoe::executor {
namespace {

constexpr const char* kEmbeddingName = "model.embed_tokens.weight";
constexpr const char* kHeadName = "lm_head.weight";

// How a family spells the parts that families spell differently.
struct Spelling {
  std::string_view mixture = "mlp";
  std::string_view gate = "gate_proj", up = "up_proj", down = "down_proj";  // of a routed expert
  std::string_view shared = "shared_experts";
};

Spelling spelling_of(std::string_view family) {
  if (family == "mixtral") return {.mixture = "block_sparse_moe", .gate = "w1", .up = "w3", .down = "w2"};
  if (family == "qwen2_moe" || family == "qwen3_moe") return {.shared = "shared_expert"};
  return {};
}

// What follows "model.layers.N.".
std::string name_in_layer(const Parameter& parameter, const Spelling& spelling) {
  const auto feed_forward = [&](std::string_view dense, std::string_view routed, std::string_view kind) {
    return parameter.expert < 0 ? fmt::format("mlp.{}.{}", dense, kind)
                                : fmt::format("{}.experts.{}.{}.{}", spelling.mixture, parameter.expert, routed, kind);
  };
  const auto shared = [&](std::string_view matrix) {
    return fmt::format("{}.{}.{}.weight", spelling.mixture, spelling.shared, matrix);
  };
  switch (parameter.part) {
    case Part::kAttentionNorm: return "input_layernorm.weight";
    case Part::kFeedForwardNorm: return "post_attention_layernorm.weight";
    case Part::kQuery: return "self_attn.q_proj.weight";
    case Part::kKey: return "self_attn.k_proj.weight";
    case Part::kValue: return "self_attn.v_proj.weight";
    case Part::kQueryBias: return "self_attn.q_proj.bias";
    case Part::kKeyBias: return "self_attn.k_proj.bias";
    case Part::kValueBias: return "self_attn.v_proj.bias";
    case Part::kQueryNorm: return "self_attn.q_norm.weight";
    case Part::kKeyNorm: return "self_attn.k_norm.weight";
    case Part::kQueryDown: return "self_attn.q_a_proj.weight";
    case Part::kQueryDownBias: return "self_attn.q_a_proj.bias";
    case Part::kQueryDownNorm: return "self_attn.q_a_layernorm.weight";
    case Part::kQueryUp: return "self_attn.q_b_proj.weight";
    case Part::kKvDown: return "self_attn.kv_a_proj_with_mqa.weight";
    case Part::kKvDownBias: return "self_attn.kv_a_proj_with_mqa.bias";
    case Part::kKvDownNorm: return "self_attn.kv_a_layernorm.weight";
    case Part::kKvUp: return "self_attn.kv_b_proj.weight";
    case Part::kAttentionOutput: return "self_attn.o_proj.weight";
    case Part::kAttentionOutputBias: return "self_attn.o_proj.bias";
    case Part::kGate: return feed_forward("gate_proj", spelling.gate, "weight");
    case Part::kUp: return feed_forward("up_proj", spelling.up, "weight");
    case Part::kDown: return feed_forward("down_proj", spelling.down, "weight");
    case Part::kGateBias: return feed_forward("gate_proj", spelling.gate, "bias");
    case Part::kUpBias: return feed_forward("up_proj", spelling.up, "bias");
    case Part::kDownBias: return feed_forward("down_proj", spelling.down, "bias");
    case Part::kRouter: return fmt::format("{}.gate.weight", spelling.mixture);
    case Part::kRouterBias: return fmt::format("{}.gate.e_score_correction_bias", spelling.mixture);
    case Part::kSharedGate: return shared("gate_proj");
    case Part::kSharedUp: return shared("up_proj");
    case Part::kSharedDown: return shared("down_proj");
    case Part::kSharedScale: return fmt::format("{}.{}_gate.weight", spelling.mixture, spelling.shared);
    case Part::kPredictTokenNorm: return "enorm.weight";
    case Part::kPredictHiddenNorm: return "hnorm.weight";
    case Part::kPredictProjection: return "eh_proj.weight";
    case Part::kPredictFinalNorm: return "shared_head.norm.weight";
    case Part::kEmbedding:
    case Part::kFinalNorm:
    case Part::kHead: break;
  }
  assert(false && "a part of the model, not of a layer");
  return "";
}

std::string name_of(const Parameter& parameter, const Spelling& spelling) {
  switch (parameter.part) {
    case Part::kEmbedding: return kEmbeddingName;
    case Part::kFinalNorm: return "model.norm.weight";
    case Part::kHead: return kHeadName;
    default: return fmt::format("model.layers.{}.{}", parameter.layer, name_in_layer(parameter, spelling));
  }
}

std::tuple<Part, int, int> place_of(const Parameter& parameter) {
  return {parameter.part, parameter.layer, parameter.expert};
}

}  // namespace

HfNames::HfNames(const Model& model) : parameters_(list_parameters(model)) {
  const Spelling spelling = spelling_of(model.family);
  names_.reserve(parameters_.size());
  by_name_.reserve(parameters_.size());
  for (std::size_t parameter_idx = 0; parameter_idx < parameters_.size(); ++parameter_idx) {
    names_.push_back(name_of(parameters_[parameter_idx], spelling));
    [[maybe_unused]] const bool is_new = by_name_.emplace(names_.back(), parameter_idx).second;
    assert(is_new);
    by_place_[place_of(parameters_[parameter_idx])] = parameter_idx;
  }
  add_copies(model);
}

void HfNames::add_copies(const Model& model) {
  const std::size_t embedding = by_name_.at(kEmbeddingName);
  if (model.tied_embeddings) by_name_[kHeadName] = embedding;
  for (int predict_idx = 0; predict_idx < model.predict_layers; ++predict_idx) {
    const std::string layer = fmt::format("model.layers.{}.", model.num_layers() + predict_idx);
    by_name_[layer + "embed_tokens.weight"] = embedding;
    by_name_[layer + "shared_head.head.weight"] = by_name_.at(kHeadName);
  }
}

const std::string& HfNames::name(const Parameter& parameter) const { return names_[by_place_.at(place_of(parameter))]; }

const Parameter* HfNames::find(const std::string& name) const {
  const auto at = by_name_.find(name);
  return at == by_name_.end() ? nullptr : &parameters_[at->second];
}

}  // namespace msmoe::executor
