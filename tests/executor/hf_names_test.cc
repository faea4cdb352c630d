#include "executor/checkpoint/hf_names.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <string>

#include "core/error.h"

namespace msmoe::executor {
namespace {

std::vector<std::string> shipped_models() {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(MSMOE_SOURCE_DIR) + "/models"))
    if (entry.path().extension() == ".json") paths.push_back(entry.path().string());
  std::sort(paths.begin(), paths.end());
  return paths;
}

Model shipped(const std::string& name) {
  return read_model(std::string(MSMOE_SOURCE_DIR) + "/models/" + name + ".json");
}

bool is_supported(const Model& model) {
  return std::find(supported_families().begin(), supported_families().end(), model.family) !=
         supported_families().end();
}

std::vector<std::int64_t> shape_in(const HfNames& names, const std::string& name) {
  const Parameter* const parameter = names.find(name);
  EXPECT_NE(parameter, nullptr) << name;
  return parameter == nullptr ? std::vector<std::int64_t>{} : parameter->shape;
}

using Shape = std::vector<std::int64_t>;

// core/model_count.cc counts by formulas and knows nothing of single tensors: every parameter is listed, none twice.
TEST(HfNames, AllParametersOfEveryShippedModelAreListed) {
  std::set<std::string> families;
  for (const std::string& path : shipped_models()) {
    const Model model = read_model(path);
    if (!is_supported(model)) continue;
    families.insert(model.family);
    const HfNames names(model);
    std::int64_t total = 0, predict = 0;
    std::set<std::string> distinct;
    for (std::size_t idx = 0; idx < names.parameters().size(); ++idx) {
      const Parameter& parameter = names.parameters()[idx];
      distinct.insert(names.name(idx));
      EXPECT_EQ(names.find(names.name(idx)), &parameter);
      EXPECT_EQ(names.name(parameter), names.name(idx));
      if (!parameter.is_counted()) continue;
      (parameter.layer < model.num_layers() ? total : predict) += parameter.elements();
    }
    EXPECT_EQ(distinct.size(), names.parameters().size()) << path;
    EXPECT_EQ(total, count_parameters(model).total) << path;
    EXPECT_EQ(predict, count_parameters(model).predict_layers) << path;
  }
  EXPECT_EQ(families,
            (std::set<std::string>{"deepseek", "deepseek_v2", "deepseek_v3", "glm4_moe", "kimi_k2", "llama",
                                   "megascale_moe", "mixtral", "olmoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe"}));
}

// 32 layers of hidden size 4096: 3 tensors beside them; in each 4 matrices of attention, 2 norms, a router and 8
// experts of 3. The published index lists as many.
TEST(HfNames, Mixtral) {
  const HfNames names(shipped("mixtral-8x7b"));
  EXPECT_EQ(names.parameters().size(), 3u + 32 * (4 + 2 + 1 + 8 * 3));
  EXPECT_EQ(shape_in(names, "model.embed_tokens.weight"), (Shape{32000, 4096}));
  EXPECT_EQ(shape_in(names, "model.layers.31.self_attn.q_proj.weight"), (Shape{4096, 4096}));
  EXPECT_EQ(shape_in(names, "model.layers.0.self_attn.k_proj.weight"), (Shape{1024, 4096}));
  EXPECT_EQ(shape_in(names, "model.layers.0.block_sparse_moe.gate.weight"), (Shape{8, 4096}));
  EXPECT_EQ(shape_in(names, "model.layers.0.block_sparse_moe.experts.7.w1.weight"), (Shape{14336, 4096}));
  EXPECT_EQ(shape_in(names, "model.layers.0.block_sparse_moe.experts.7.w2.weight"), (Shape{4096, 14336}));
  EXPECT_EQ(*names.find("model.layers.4.block_sparse_moe.experts.7.w3.weight"),
            (Parameter{Part::kUp, 4, 7, {14336, 4096}}));
  EXPECT_EQ(shape_in(names, "model.norm.weight"), (Shape{4096}));
  EXPECT_EQ(shape_in(names, "lm_head.weight"), (Shape{32000, 4096}));
  for (const char* name : {"model.layers.32.self_attn.q_proj.weight",
                           "model.layers.0.block_sparse_moe.experts.8.w1.weight", "model.layers.0.mlp.gate.weight", ""})
    EXPECT_EQ(names.find(name), nullptr) << name;
}

TEST(HfNames, Qwen3Moe) {
  const HfNames names(shipped("qwen3-30b-a3b"));
  EXPECT_EQ(names.parameters().size(), 3u + 48 * (4 + 2 + 2 + 1 + 128 * 3));
  EXPECT_EQ(shape_in(names, "model.layers.0.self_attn.q_proj.weight"), (Shape{4096, 2048}));
  EXPECT_EQ(shape_in(names, "model.layers.0.self_attn.q_norm.weight"), (Shape{128}));
  EXPECT_EQ(shape_in(names, "model.layers.47.mlp.gate.weight"), (Shape{128, 2048}));
  EXPECT_EQ(shape_in(names, "model.layers.0.mlp.experts.127.down_proj.weight"), (Shape{2048, 768}));
}

TEST(HfNames, Qwen2MoeHasBiasesAndASharedExpertOfItsOwnScale) {
  const HfNames names(shipped("qwen1.5-moe-a2.7b"));
  EXPECT_EQ(shape_in(names, "model.layers.0.self_attn.v_proj.bias"), (Shape{2048}));
  EXPECT_EQ(shape_in(names, "model.layers.0.mlp.shared_expert.up_proj.weight"), (Shape{5632, 2048}));
  EXPECT_EQ(shape_in(names, "model.layers.0.mlp.shared_expert_gate.weight"), (Shape{1, 2048}));
}

// Layers 0 to 2 are dense, 61 is the prediction layer.
TEST(HfNames, DeepSeekV3) {
  const HfNames names(shipped("deepseek-v3"));
  EXPECT_EQ(shape_in(names, "model.layers.0.self_attn.q_a_proj.weight"), (Shape{1536, 7168}));
  EXPECT_EQ(shape_in(names, "model.layers.0.self_attn.q_a_layernorm.weight"), (Shape{1536}));
  EXPECT_EQ(shape_in(names, "model.layers.0.self_attn.q_b_proj.weight"), (Shape{24576, 1536}));
  EXPECT_EQ(shape_in(names, "model.layers.0.self_attn.kv_a_proj_with_mqa.weight"), (Shape{576, 7168}));
  EXPECT_EQ(shape_in(names, "model.layers.0.self_attn.kv_a_layernorm.weight"), (Shape{512}));
  EXPECT_EQ(shape_in(names, "model.layers.0.self_attn.kv_b_proj.weight"), (Shape{32768, 512}));
  EXPECT_EQ(shape_in(names, "model.layers.0.self_attn.o_proj.weight"), (Shape{7168, 16384}));
  EXPECT_EQ(shape_in(names, "model.layers.2.mlp.gate_proj.weight"), (Shape{18432, 7168}));
  EXPECT_EQ(shape_in(names, "model.layers.3.mlp.gate.weight"), (Shape{256, 7168}));
  EXPECT_EQ(shape_in(names, "model.layers.3.mlp.gate.e_score_correction_bias"), (Shape{256}));
  EXPECT_EQ(shape_in(names, "model.layers.60.mlp.experts.255.up_proj.weight"), (Shape{2048, 7168}));
  EXPECT_EQ(shape_in(names, "model.layers.60.mlp.shared_experts.down_proj.weight"), (Shape{7168, 2048}));
  EXPECT_EQ(shape_in(names, "model.layers.61.eh_proj.weight"), (Shape{7168, 14336}));
  EXPECT_EQ(shape_in(names, "model.layers.61.shared_head.norm.weight"), (Shape{7168}));
  EXPECT_EQ(shape_in(names, "model.layers.61.mlp.experts.0.up_proj.weight"), (Shape{2048, 7168}));
  EXPECT_EQ(names.find("model.layers.61.embed_tokens.weight"), names.find("model.embed_tokens.weight"));
  EXPECT_EQ(names.find("model.layers.61.shared_head.head.weight"), names.find("lm_head.weight"));
  EXPECT_EQ(names.find("model.layers.2.mlp.gate.weight"), nullptr);
}

// Queries are not compressed, routers have no bias; two shared experts are one of twice the width.
TEST(HfNames, DeepSeekV2Lite) {
  const HfNames names(shipped("deepseek-v2-lite"));
  EXPECT_EQ(shape_in(names, "model.layers.0.self_attn.q_proj.weight"), (Shape{3072, 2048}));
  EXPECT_EQ(shape_in(names, "model.layers.1.mlp.shared_experts.gate_proj.weight"), (Shape{2816, 2048}));
  EXPECT_EQ(names.find("model.layers.0.self_attn.q_a_proj.weight"), nullptr);
  EXPECT_EQ(names.find("model.layers.1.mlp.gate.e_score_correction_bias"), nullptr);
}

TEST(HfNames, BiasesAndTiedEmbeddings) {
  const Model model = parse_model("test", R"({"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1,
      "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 12, "vocab_size": 10,
      "attention_bias": true, "mlp_bias": true, "tie_word_embeddings": true})");
  const HfNames names(model);
  EXPECT_EQ(names.parameters().size(), 2u + 2 + 2 * 4 + 2 * 3);
  EXPECT_EQ(shape_in(names, "model.layers.0.self_attn.k_proj.bias"), (Shape{4}));
  EXPECT_EQ(shape_in(names, "model.layers.0.self_attn.o_proj.bias"), (Shape{8}));
  EXPECT_EQ(shape_in(names, "model.layers.0.mlp.up_proj.bias"), (Shape{12}));
  EXPECT_EQ(shape_in(names, "model.layers.0.mlp.down_proj.bias"), (Shape{8}));
  EXPECT_EQ(names.find("lm_head.weight"), names.find("model.embed_tokens.weight"));
}

// attention_bias of DeepSeek reaches what the ranks are projected from, and the output.
TEST(HfNames, BiasesOfLatentAttention) {
  const Model model = parse_model("test", R"({"model_type": "deepseek_v2", "hidden_size": 8, "num_hidden_layers": 1,
      "num_attention_heads": 2, "intermediate_size": 12, "vocab_size": 10, "first_k_dense_replace": 1, "num_experts_per_tok": 2,
      "q_lora_rank": 6, "kv_lora_rank": 4, "qk_nope_head_dim": 4, "qk_rope_head_dim": 2, "v_head_dim": 4,
      "attention_bias": true})");
  const HfNames names(model);
  EXPECT_EQ(shape_in(names, "model.layers.0.self_attn.q_a_proj.bias"), (Shape{6}));
  EXPECT_EQ(shape_in(names, "model.layers.0.self_attn.kv_a_proj_with_mqa.bias"), (Shape{6}));
  EXPECT_EQ(shape_in(names, "model.layers.0.self_attn.o_proj.bias"), (Shape{8}));
  std::int64_t total = 0;
  for (const Parameter& parameter : names.parameters()) total += parameter.elements();
  EXPECT_EQ(total, count_parameters(model).total);
}

TEST(HfNames, WhatIsNotKnownIsRefused) {
  for (const std::string& path : shipped_models()) {
    const Model model = read_model(path);
    if (is_supported(model)) continue;
    EXPECT_THROW(HfNames{model}, UserError) << path;
  }
  Model model = shipped("mixtral-8x7b");
  model.kinds[0].attention.vector_parameters = 1;
  try {
    const HfNames names(model);
    ADD_FAILURE();
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(),
                 (model.name + ": attention of layer 0 has vectors that its family does not explain").c_str());
  }
}

}  // namespace
}  // namespace msmoe::executor
