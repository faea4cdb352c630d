// The names that Hugging Face's files give to a model's parameters (list_parameters), both ways:
//
//   model.embed_tokens.weight   model.norm.weight   lm_head.weight
//   model.layers.N.input_layernorm.weight           model.layers.N.post_attention_layernorm.weight
//   model.layers.N.self_attn.{q,k,v,o}_proj.{weight,bias}            {q,k}_norm.weight
//   model.layers.N.self_attn.{q_a_proj,q_a_layernorm,q_b_proj,kv_a_proj_with_mqa,kv_a_layernorm,kv_b_proj}.weight
//   model.layers.N.mlp.{gate,up,down}_proj.weight                    dense
//   model.layers.N.block_sparse_moe.gate.weight, .experts.E.{w1,w3,w2}.weight        Mixtral: gate, up, down
//   model.layers.N.mlp.gate.weight, .experts.E.{gate,up,down}_proj.weight            all others
//   model.layers.N.mlp.gate.e_score_correction_bias
//   model.layers.N.mlp.shared_experts.{gate,up,down}_proj.weight     DeepSeek and kin
//   model.layers.N.mlp.shared_expert.{gate,up,down}_proj.weight, .shared_expert_gate.weight   Qwen2-MoE
//   model.layers.N.{enorm,hnorm,eh_proj,shared_head.norm}.weight     prediction layers, N from num_layers() on
//
// The models of MegaScale-MoE were not published; they are named as DeepSeek-MoE, whose structure is theirs.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "core/model.h"
#include "executor/checkpoint/model_parameters.h"

namespace msmoe::executor {

class HfNames {
 public:
  // Throws as list_parameters does.
  explicit HfNames(const Model& model);

  const std::vector<Parameter>& parameters() const { return parameters_; }
  // The name of parameters()[parameter_idx].
  const std::string& name(std::size_t parameter_idx) const { return names_[parameter_idx]; }
  // REQUIRES one of parameters(), or a copy.
  const std::string& name(const Parameter& parameter) const;

  // The parameter that a tensor of a file holds; nullptr: none of the model's. Files may repeat the embedding and the
  // head in a prediction layer, or a tied head; these names lead to the one parameter that they are copies of.
  const Parameter* find(const std::string& name) const;

 private:
  void add_copies(const Model& model);

  std::vector<Parameter> parameters_;
  std::vector<std::string> names_;
  std::unordered_map<std::string, std::size_t> by_name_;
  std::map<std::tuple<Part, int, int>, std::size_t> by_place_;  // part, layer, expert
};

}  // namespace msmoe::executor
