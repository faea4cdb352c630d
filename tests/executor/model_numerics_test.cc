#include "executor/model_numerics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "core/data_files.h"
#include "core/error.h"
#include "core/json_reader.h"

namespace msmoe::executor {
namespace {

Json shipped(const std::string& name) {
  return Json::parse(read_text_file(std::string(MSMOE_SOURCE_DIR) + "/models/" + name + ".json"));
}

ModelNumerics numerics_of(const Json& config) {
  const std::string text = config.dump();
  return parse_numerics(parse_model("test", text), "test", text);
}

// What is said of the file with this key changed; empty: nothing. "a.b" is key b within a.
std::string complaint(const std::string& name, const std::string& path, const Json& value) {
  Json config = shipped(name);
  const std::size_t dot = path.find('.');
  (dot == path.npos ? config[path] : config[path.substr(0, dot)][path.substr(dot + 1)]) = value;
  try {
    numerics_of(config);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(ModelNumerics, Mixtral) {
  const ModelNumerics numerics = read_numerics(find_model("mixtral-8x7b"));
  EXPECT_EQ(numerics.norm_epsilon, 1e-5);
  EXPECT_EQ(numerics.rope_base, 1e6);
  EXPECT_FALSE(numerics.rope_interleaved);
  EXPECT_EQ(numerics.attention_scale, 1 / std::sqrt(128.0));
  EXPECT_TRUE(numerics.normalize_gates);  // whatever the file says
  EXPECT_EQ(numerics.gate_scale, 1);
  EXPECT_EQ(numerics.initializer_range, 0.02);
  EXPECT_EQ(numerics.aux_loss, 0.02);
  EXPECT_TRUE(numerics.defaulted.empty());
}

TEST(ModelNumerics, WhatAFileLeavesOutIsTheFamilysAndIsListed) {
  Json config = shipped("mixtral-8x7b");
  for (const char* key : {"rms_norm_eps", "rope_theta", "initializer_range", "router_aux_loss_coef"}) config.erase(key);
  const ModelNumerics mixtral = numerics_of(config);
  EXPECT_EQ(mixtral.norm_epsilon, 1e-5);
  EXPECT_EQ(mixtral.rope_base, 1e6);
  EXPECT_EQ(mixtral.aux_loss, 0);
  EXPECT_EQ(mixtral.defaulted, (std::vector<std::string>{"rope_theta = 1000000 (class default of mixtral)",
                                                         "rms_norm_eps = 1e-05 (class default of mixtral)",
                                                         "initializer_range = 0.02 (class default of mixtral)"}));
  config = shipped("qwen3-30b-a3b");
  for (const char* key : {"rms_norm_eps", "rope_theta", "norm_topk_prob"}) config.erase(key);
  const ModelNumerics qwen = numerics_of(config);
  EXPECT_EQ(qwen.norm_epsilon, 1e-6);
  EXPECT_EQ(qwen.rope_base, 10000);
  EXPECT_FALSE(qwen.normalize_gates);
  EXPECT_EQ(qwen.defaulted.size(), 3u);
}

TEST(ModelNumerics, Qwen3Moe) {
  const ModelNumerics numerics = read_numerics(find_model("qwen3-30b-a3b"));
  EXPECT_EQ(numerics.norm_epsilon, 1e-6);
  EXPECT_EQ(numerics.attention_scale, 1 / std::sqrt(128.0));
  EXPECT_TRUE(numerics.normalize_gates);
  EXPECT_EQ(numerics.aux_loss, 0.001);
  Json config = shipped("qwen3-30b-a3b");
  config["norm_topk_prob"] = false;
  config["routed_scaling_factor"] = 3;  // means nothing to the family
  EXPECT_FALSE(numerics_of(config).normalize_gates);
  EXPECT_EQ(numerics_of(config).gate_scale, 1);
}

// The published file scales positions and has a prediction layer.
TEST(ModelNumerics, DeepSeekV3) {
  Json config = shipped("deepseek-v3");
  config.erase("rope_scaling");
  config["num_nextn_predict_layers"] = 0;
  const ModelNumerics numerics = numerics_of(config);
  EXPECT_TRUE(numerics.rope_interleaved);
  EXPECT_EQ(numerics.rope_base, 10000);
  EXPECT_EQ(numerics.attention_scale, 1 / std::sqrt(192.0));  // 128 columns without positions and 64 with
  EXPECT_TRUE(numerics.normalize_gates);
  EXPECT_EQ(numerics.gate_scale, 2.5);

  const Model model = parse_model("test", config.dump());
  const kernels::RouterShape router = router_shape(model.kinds.back().feed_forward, numerics);
  EXPECT_EQ(router.scoring, kernels::Scoring::kSigmoid);
  EXPECT_EQ(router.top_k, 8);
  EXPECT_EQ(router.groups, 8);
  EXPECT_EQ(router.top_groups, 4);
  EXPECT_TRUE(router.normalize);
  EXPECT_EQ(router.scale, 2.5);

  config["rope_interleave"] = false;
  EXPECT_FALSE(numerics_of(config).rope_interleaved);
}

TEST(ModelNumerics, DeepSeekV2) {
  const ModelNumerics numerics = read_numerics(find_model("deepseek-v2-lite"));
  EXPECT_TRUE(numerics.rope_interleaved);
  EXPECT_FALSE(numerics.normalize_gates);
  EXPECT_EQ(numerics.gate_scale, 1);
  EXPECT_EQ(numerics.aux_loss, 0.001);
  const kernels::RouterShape router = router_shape(find_model("deepseek-v2-lite").kinds.back().feed_forward, numerics);
  EXPECT_EQ(router.scoring, kernels::Scoring::kSoftmax);
  EXPECT_EQ(router.groups, 1);
  EXPECT_FALSE(router.normalize);
}

// transformers 5 writes rope_parameters where earlier versions wrote rope_theta and rope_scaling.
TEST(ModelNumerics, RopeParametersOfNewFiles) {
  Json config = shipped("qwen3-30b-a3b");
  config.erase("rope_theta");
  config.erase("rope_scaling");
  config["rope_parameters"] = {{"rope_theta", 12345.0}, {"rope_type", "default"}};
  EXPECT_EQ(numerics_of(config).rope_base, 12345);
  EXPECT_TRUE(numerics_of(config).defaulted.empty());
  config["rope_theta"] = 12345;
  EXPECT_EQ(numerics_of(config).rope_base, 12345);
  EXPECT_EQ(complaint("qwen3-30b-a3b", "rope_parameters.rope_theta", 5),
            "test: rope_parameters.rope_theta: 5 here, but 1000000 elsewhere in the file; leave one of them out");
  EXPECT_EQ(complaint("qwen3-30b-a3b", "rope_parameters.rope_type", "linear"),
            "test: rope_parameters.rope_type: found \"linear\"; default is allowed: positions are rotated without "
            "scaling");
  EXPECT_NE(complaint("qwen3-30b-a3b", "rope_parameters.mrope_section", {1, 2}), "");
  EXPECT_EQ(complaint("qwen3-30b-a3b", "rope_scaling.type", "default"), "");
}

TEST(ModelNumerics, ShippedModels) {
  std::set<std::string> trained;
  std::map<std::string, std::string> refused;  // by which key, other than model_type
  for (const std::string& name : shipped_names("models")) {
    const Model model = find_model(name);
    try {
      read_numerics(model);
      trained.insert(name);
    } catch (const UserError& error) {
      if (error.place() != "model_type") refused[name] = error.place();
    }
  }
  EXPECT_EQ(trained,
            (std::set<std::string>{"deepseek-moe-16b", "deepseek-v2", "deepseek-v2-lite", "llama-2-7b", "llama3-8x70b",
                                   "megascale-352b", "mixtral-8x22b", "mixtral-8x22b-g8t8", "mixtral-8x7b", "olmoe",
                                   "qwen3-235b-a22b", "qwen3-30b-a3b", "qwen3-8b", "tiny-moe"}));
  EXPECT_EQ(refused, (std::map<std::string, std::string>{{"deepseek-v3", "num_nextn_predict_layers"},
                                                         {"glm-4.5", "num_nextn_predict_layers"},
                                                         {"glm-4.5-air", "num_nextn_predict_layers"},
                                                         {"kimi-k2", "rope_scaling.type"},
                                                         {"llama-3.1-405b", "rope_scaling.rope_type"},
                                                         {"llama-3.1-70b", "rope_scaling.rope_type"},
                                                         {"llama-3.1-8b", "rope_scaling.rope_type"},
                                                         {"llama4-maverick", "text_config"},
                                                         {"llama4-scout", "text_config"},
                                                         {"qwen1.5-moe-a2.7b", "qkv_bias"},
                                                         {"qwen2-57b-a14b", "qkv_bias"}}));
}

TEST(ModelNumerics, WhatCannotBeComputedIsRefusedByName) {
  const struct {
    const char *model, *key;
    Json value;
    const char* message;
  } cases[] = {
      {"mixtral-8x7b", "hidden_act", "gelu", "hidden_act: found \"gelu\"; silu is allowed"},
      {"mixtral-8x7b", "attention_dropout", 0.1,
       "attention_dropout: found 0.1; a step draws no random numbers; 0 is allowed"},
      {"mixtral-8x7b", "router_jitter_noise", 0.5,
       "router_jitter_noise: found 0.5; a step draws no random numbers; 0 is allowed"},
      {"mixtral-8x7b", "attn_logit_softcapping", 50,
       "attn_logit_softcapping: found 50; nothing is clipped or capped here; null is allowed"},
      {"mixtral-8x7b", "rms_norm_eps", "small", "rms_norm_eps: found \"small\"; a number is expected"},
      {"mixtral-8x7b",
       "rope_scaling",
       {{"type", "yarn"}, {"factor", 4}},
       "rope_scaling.type: found \"yarn\"; default is allowed: positions are rotated without scaling"},
      {"mixtral-8x7b", "partial_rotary_factor", 0.5,
       "partial_rotary_factor: 0.5 of a head's columns are rotated; 1, all of them, is allowed"},
      {"olmoe", "clip_qkv", 8, "clip_qkv: found 8; nothing is clipped or capped here; null is allowed"},
      {"qwen3-30b-a3b", "attention_bias", true,
       "attention_bias: biases of projections are not trained; false is allowed"},
      {"llama-2-7b", "mlp_bias", true, "mlp_bias: biases of projections are not trained; false is allowed"},
      {"deepseek-v2-lite", "mlp_bias", true, "mlp_bias: biases of projections are not trained; false is allowed"},
      {"deepseek-v2-lite", "attention_bias", true,
       "attention_bias: biases of projections are not trained; false is allowed"},
      {"qwen1.5-moe-a2.7b", "hidden_act", "silu", "qkv_bias: biases of projections are not trained; false is allowed"},
      {"qwen1.5-moe-a2.7b", "qkv_bias", false,
       "shared_expert_intermediate_size: a shared expert has a gate of its own in this family, which is not trained; "
       "0, "
       "no shared expert, is allowed"},
      {"deepseek-v2-lite", "num_nextn_predict_layers", 2,
       "num_nextn_predict_layers: found 2; prediction layers are not trained; 0 is allowed"},
      {"deepseek-v2-lite", "norm_topk_prob", true,
       "norm_topk_prob: found true, of which there are two readings; false is allowed"},
      {"deepseek-v2-lite", "scoring_func", "sigmoid",
       "scoring_func: routers of deepseek_v2 score otherwise; softmax is allowed"},
      {"deepseek-v2-lite", "topk_method", "noaux_tc",
       "topk_method: found \"noaux_tc\"; greedy, group_limited_greedy are allowed"},
      {"deepseek-moe-16b", "moe_layer_freq", 2, "moe_layer_freq: found 2; 1 is allowed"},
  };
  for (const auto& one : cases)
    EXPECT_EQ(complaint(one.model, one.key, one.value), std::string("test: ") + one.message) << one.model;
}

TEST(ModelNumerics, GroupsAreChosenAsTheFamilyDoes) {
  Json v2 = shipped("deepseek-v2-lite");
  v2["n_group"] = 8;
  v2["topk_group"] = 3;
  EXPECT_NO_THROW(numerics_of(v2));  // greedy: groups play no part
  v2["topk_method"] = "group_limited_greedy";
  EXPECT_NO_THROW(numerics_of(v2));
  v2.erase("topk_method");  // of transformers' class: greedy
  EXPECT_THROW(numerics_of(v2), UserError);

  Json v3 = shipped("deepseek-v3");
  v3.erase("rope_scaling");
  v3["num_nextn_predict_layers"] = 0;
  v3.erase("topk_method");
  EXPECT_NO_THROW(numerics_of(v3));
  for (const char* method : {"greedy", "group_limited_greedy"}) {
    v3["topk_method"] = method;
    EXPECT_THROW(numerics_of(v3), UserError);
  }
  Json v1 = shipped("deepseek-moe-16b");
  v1["n_group"] = 8;
  v1["topk_group"] = 8;
  EXPECT_THROW(numerics_of(v1), UserError);
}

// GLM-4.5 rotates the first half of a head, unless told otherwise.
TEST(ModelNumerics, GlmIsTrainedOnlyWithWholeHeadsRotated) {
  Json config = shipped("glm-4.5-air");
  config["num_nextn_predict_layers"] = 0;
  config["attention_bias"] = false;
  config.erase("partial_rotary_factor");
  EXPECT_THROW(numerics_of(config), UserError);
  config["partial_rotary_factor"] = 1;
  EXPECT_TRUE(numerics_of(config).normalize_gates);
  EXPECT_EQ(numerics_of(config).gate_scale, 1);
}

TEST(ModelNumerics, WrappersAreRefused) {
  Json config = shipped("mixtral-8x7b");
  const std::string text = Json{{"model_type", "wrapper"}, {"text_config", config}}.dump();
  EXPECT_THROW(parse_numerics(parse_model("test", text), "test", text), UserError);
}

TEST(ModelNumerics, WindowsBindOnlyLongerSequences) {
  Json config = shipped("mixtral-8x7b");
  config["sliding_window"] = 4096;
  EXPECT_NO_THROW(numerics_of(config));
  const Model model = parse_model("test", config.dump());
  EXPECT_NO_THROW(check_windows(model, 4096));
  try {
    check_windows(model, 4097);
    ADD_FAILURE();
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(),
                 "test: sliding_window: 4096, less than the 4097 tokens of a sequence; sequences of up to 4096 tokens "
                 "are allowed");
  }
  EXPECT_NO_THROW(check_windows(find_model("mixtral-8x7b"), 1 << 20));
}

TEST(ModelNumerics, TiedEmbeddingsAreFine) { EXPECT_EQ(complaint("mixtral-8x7b", "tie_word_embeddings", true), ""); }

}  // namespace
}  // namespace msmoe::executor
