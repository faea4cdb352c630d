// The families of models that can be read: for each model_type the defaults of its Hugging Face configuration class
// and the function that turns its keys into layers.
#pragma once

#include <string_view>
#include <vector>

#include "core/model_config.h"

namespace msmoe {

struct Family {
  std::string_view model_type;
  std::vector<Default> defaults;
  // One LayerKind a layer. model has its name, hidden, vocab and embedding; the function may change its final norm,
  // head and extra prediction layers.
  std::vector<LayerKind> (*read_layers)(ModelConfig& config, Model& model, std::int64_t num_layers);
};

// All of them, in the order in which messages list them.
const std::vector<Family>& model_families();

// Families of core/model_families_*.cc.
using ReadLayers = std::vector<LayerKind>(ModelConfig& config, Model& model, std::int64_t num_layers);
ReadLayers read_llama, read_mistral, read_qwen2, read_qwen3, read_plain;               // dense
ReadLayers read_mixtral, read_phimoe, read_olmoe, read_grok, read_dbrx, read_gpt_oss;  // every layer a mixture
ReadLayers read_minimax_m2, read_megascale;
ReadLayers read_qwen2_moe, read_qwen3_moe, read_deepseek, read_deepseek_v2, read_deepseek_v3;  // mixtures and dense
ReadLayers read_glm4_moe, read_llama4, read_hunyuan;
ReadLayers read_qwen3_next, read_jamba, read_minimax;  // with mixers that are no attention

}  // namespace msmoe
