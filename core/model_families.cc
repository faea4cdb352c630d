// One row a model_type. The defaults are those of the Hugging Face configuration classes (transformers
// models/TYPE/configuration_TYPE.py, and the hub's own code for deepseek, kimi_k2, grok-1, hunyuan and
// minimax_text_01). Not in the table, because a model is nothing without them: layers, hidden size, heads, vocabulary
// and layer widths.
#include "core/model_families.h"

namespace msmoe {
namespace {

using Defaults = std::vector<Default>;

Defaults operator+(Defaults left, const Defaults& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

const Defaults kUntied = {{"tie_word_embeddings", false}};
const Defaults kNoBias = kUntied + Defaults{{"attention_bias", false}};

const Defaults kQwenWindow = {{"use_sliding_window", false}, {"sliding_window", 4096}, {"max_window_layers", 28}};

const Defaults kLatent = kNoBias + Defaults{{"q_lora_rank", 1536},    {"kv_lora_rank", 512}, {"qk_nope_head_dim", 128},
                                            {"qk_rope_head_dim", 64}, {"v_head_dim", 128},   {"moe_layer_freq", 1}};

const Defaults kDeepseekV3 = kLatent + Defaults{{"n_routed_experts", 256},
                                                {"num_experts_per_tok", 8},
                                                {"n_shared_experts", 1},
                                                {"first_k_dense_replace", 3},
                                                {"n_group", 8},
                                                {"topk_group", 4},
                                                {"num_nextn_predict_layers", 0}};

const Defaults kLlama4 = kNoBias + Defaults{{"head_dim", 128},
                                            {"num_key_value_heads", 8},
                                            {"num_local_experts", 16},
                                            {"num_experts_per_tok", 1},
                                            {"interleave_moe_layer_step", 1},
                                            {"attention_chunk_size", 8192},
                                            {"no_rope_layer_interval", 4}};

Defaults hunyuan(bool always) {
  return kNoBias + Defaults{{"num_experts", 1},       {"moe_topk", 1},         {"use_mixed_mlp_moe", always},
                            {"num_shared_expert", 1}, {"use_qk_norm", always}, {"moe_layer_num_skipped", 0},
                            {"use_cla", false},       {"cla_share_factor", 2}, {"use_mla", false},
                            {"mlp_bias", false}};
}

std::vector<Family> make_families() {
  return {
      {"llama", kNoBias + Defaults{{"mlp_bias", false}}, read_llama},
      {"mistral", kUntied + Defaults{{"num_key_value_heads", 8}, {"sliding_window", 4096}}, read_mistral},
      {"qwen2", kUntied + kQwenWindow + Defaults{{"num_key_value_heads", 32}}, read_qwen2},
      {"qwen3", kNoBias + kQwenWindow + Defaults{{"num_key_value_heads", 32}, {"head_dim", 128}}, read_qwen3},
      {"nemotron", kNoBias + Defaults{{"mlp_bias", false}}, read_plain},
      {"gpt_neox", kUntied + Defaults{{"attention_bias", true}, {"mlp_bias", true}}, read_plain},
      {"mixtral", kUntied + Defaults{{"num_key_value_heads", 8}, {"num_local_experts", 8}, {"num_experts_per_tok", 2}},
       read_mixtral},
      {"phimoe",
       kNoBias + Defaults{{"num_key_value_heads", 8},
                          {"num_local_experts", 16},
                          {"num_experts_per_tok", 2},
                          {"lm_head_bias", false}},
       read_phimoe},
      {"qwen2_moe",
       kUntied + kQwenWindow +
           Defaults{{"qkv_bias", true},
                    {"num_key_value_heads", 16},
                    {"num_experts", 60},
                    {"num_experts_per_tok", 4},
                    {"moe_intermediate_size", 1408},
                    {"shared_expert_intermediate_size", 5632},
                    {"decoder_sparse_step", 1}},
       read_qwen2_moe},
      {"qwen3_moe",
       kNoBias + Defaults{{"use_sliding_window", false},
                          {"sliding_window", 4096},
                          {"num_key_value_heads", 4},
                          {"num_experts", 128},
                          {"num_experts_per_tok", 8},
                          {"moe_intermediate_size", 768},
                          {"decoder_sparse_step", 1}},
       read_qwen3_moe},
      {"qwen3_next",
       kNoBias + Defaults{{"num_key_value_heads", 2},
                          {"head_dim", 256},
                          {"full_attention_interval", 4},
                          {"linear_conv_kernel_dim", 4},
                          {"linear_key_head_dim", 128},
                          {"linear_value_head_dim", 128},
                          {"linear_num_key_heads", 16},
                          {"linear_num_value_heads", 32},
                          {"num_experts", 512},
                          {"num_experts_per_tok", 10},
                          {"moe_intermediate_size", 512},
                          {"shared_expert_intermediate_size", 512},
                          {"decoder_sparse_step", 1}},
       read_qwen3_next},
      {"deepseek",
       kNoBias + Defaults{{"n_routed_experts", 64},
                          {"n_shared_experts", 2},
                          {"moe_intermediate_size", 1407},
                          {"first_k_dense_replace", 0},
                          {"moe_layer_freq", 1}},
       read_deepseek},
      {"deepseek_v2",
       kLatent + Defaults{{"n_routed_experts", 64},
                          {"n_shared_experts", 2},
                          {"moe_intermediate_size", 1407},
                          {"first_k_dense_replace", 0}},
       read_deepseek_v2},
      {"deepseek_v3", kDeepseekV3 + Defaults{{"moe_intermediate_size", 2048}}, read_deepseek_v3},
      {"kimi_k2", kDeepseekV3 + Defaults{{"moe_intermediate_size", 2048}}, read_deepseek_v3},
      {"glm4_moe",
       kNoBias + Defaults{{"num_key_value_heads", 8},
                          {"use_qk_norm", false},
                          {"n_routed_experts", 128},
                          {"num_experts_per_tok", 8},
                          {"moe_intermediate_size", 1408},
                          {"n_shared_experts", 1},
                          {"first_k_dense_replace", 1},
                          {"n_group", 1},
                          {"topk_group", 1},
                          {"num_nextn_predict_layers", 0}},
       read_glm4_moe},
      {"gpt_oss",
       kUntied + Defaults{{"attention_bias", true},
                          {"num_key_value_heads", 8},
                          {"head_dim", 64},
                          {"num_local_experts", 128},
                          {"num_experts_per_tok", 4},
                          {"sliding_window", 128}},
       read_gpt_oss},
      {"llama4_text", kLlama4, read_llama4},
      {"dbrx", kUntied + Defaults{{"kv_n_heads", 1}, {"moe_num_experts", 4}, {"moe_top_k", 1}}, read_dbrx},
      {"grok-1", Defaults{{"tie_word_embeddings", true}, {"num_experts", 8}, {"num_experts_per_tok", 2}}, read_grok},
      {"hunyuan", hunyuan(false), read_hunyuan},
      {"hunyuan_v1_moe", hunyuan(true), read_hunyuan},
      {"olmoe", kNoBias + Defaults{{"num_experts", 64}, {"num_experts_per_tok", 8}}, read_olmoe},
      {"jamba",
       kUntied + Defaults{{"num_key_value_heads", 8},
                          {"num_experts", 16},
                          {"num_experts_per_tok", 2},
                          {"expert_layer_period", 2},
                          {"expert_layer_offset", 1},
                          {"attn_layer_period", 8},
                          {"attn_layer_offset", 4},
                          {"mamba_d_state", 16},
                          {"mamba_d_conv", 4},
                          {"mamba_expand", 2},
                          {"mamba_conv_bias", true},
                          {"mamba_proj_bias", false}},
       read_jamba},
      {"minimax", kUntied + Defaults{{"num_key_value_heads", 8}, {"num_local_experts", 8}, {"num_experts_per_tok", 2}},
       read_minimax},
      {"minimax_text_01",
       kUntied + Defaults{{"num_key_value_heads", 8}, {"num_local_experts", 8}, {"num_experts_per_tok", 2}},
       read_minimax},
      {"minimax_m2",
       kUntied + Defaults{{"num_key_value_heads", 8},
                          {"head_dim", 128},
                          {"num_local_experts", 256},
                          {"num_experts_per_tok", 8},
                          {"use_qk_norm", true},
                          {"use_mtp", false},
                          {"num_mtp_modules", 1},
                          {"mtp_transformer_layers", 1}},
       read_minimax_m2},
      {"megascale_moe", kUntied + Defaults{{"n_shared_experts", 0}}, read_megascale},
  };
}

}  // namespace

const std::vector<Family>& model_families() {
  static const std::vector<Family> families = make_families();
  return families;
}

}  // namespace msmoe
