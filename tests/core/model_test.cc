// What each family's config.json is read as. Expected shapes are the published architectures of the models.
#include "core/model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <functional>
#include <nlohmann/json.hpp>

#include "core/data_files.h"
#include "core/error.h"
#include "core/json_reader.h"
#include "tests/core/mutations.h"

namespace msmoe {
namespace {

std::string shipped_text(const std::string& name) { return read_text_file(find_data_file("models", name)); }

// A shipped config with some keys changed; a key patched to null is taken out (RFC 7396).
Json patched(const std::string& name, const Json& patch) {
  Json config = Json::parse(shipped_text(name));
  config.merge_patch(patch);
  return config;
}
Model read_patched(const std::string& name, const Json& patch) {
  return parse_model(name, patched(name, patch).dump());
}

std::string error_of(const std::string& text) {
  try {
    parse_model("config.json", text);
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}
std::string error_of(const std::string& name, const Json& patch) { return error_of(patched(name, patch).dump()); }

void expect_says(const std::string& text, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) EXPECT_NE(text.find(part), std::string::npos) << part << "\nnot in: " << text;
}
bool lists(const std::vector<std::string>& items, const std::string& part) {
  return std::any_of(items.begin(), items.end(),
                     [&](const std::string& item) { return item.find(part) != std::string::npos; });
}

int layers_where(const Model& model, const std::function<bool(const LayerKind&)>& holds) {
  int count = 0;
  for (const int kind : model.layers) count += holds(model.kinds[static_cast<std::size_t>(kind)]);
  return count;
}
bool is_moe(const LayerKind& kind) { return kind.feed_forward.is_moe(); }
bool has_window(const LayerKind& kind) { return kind.attention.window > 0; }

class ShippedModel : public testing::TestWithParam<std::string> {};

TEST_P(ShippedModel, IsReadAndSaysWhereItIsFrom) {
  const Model model = find_model(GetParam());
  EXPECT_EQ(model.name, GetParam());
  EXPECT_GT(model.num_layers(), 0);
  EXPECT_GT(model.max_seq_len, 0);
  for (const int kind : model.layers) ASSERT_LT(static_cast<std::size_t>(kind), model.kinds.size());
  expect_says(shipped_text(GetParam()), {"\"_source\""});
  EXPECT_FALSE(lists(model.ignored, "_source"));
}

TEST_P(ShippedModel, CanBePlannedUnlessAMixerIsNoAttention) {
  const std::vector<std::string> hybrids = {"jamba", "minimax-text-01", "qwen3-next-80b-a3b"};
  const bool is_hybrid = std::find(hybrids.begin(), hybrids.end(), GetParam()) != hybrids.end();
  EXPECT_EQ(find_model(GetParam()).can_be_planned(), !is_hybrid);
}

TEST_P(ShippedModel, SurvivesMutation) {
  const Survival survival =
      expect_survives(shipped_text(GetParam()), [](const std::string& text) { parse_model("mutant", text); });
  EXPECT_GT(survival.refused, 0);
}

INSTANTIATE_TEST_SUITE_P(All, ShippedModel, testing::ValuesIn(shipped_names("models")), [](const auto& test) {
  std::string name = test.param;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
  return name;
});

TEST(Model, MixtralIsOneKindOfLayer) {
  const Model model = find_model("mixtral-8x7b");
  ASSERT_EQ(model.kinds.size(), 1u);
  EXPECT_EQ(model.num_layers(), 32);
  const LayerKind& kind = model.layer(0);
  EXPECT_EQ(kind.attention.heads, 32);
  EXPECT_EQ(kind.attention.kv_heads, 8);
  EXPECT_EQ(kind.attention.head_dim, 128);  // 4096 / 32
  EXPECT_EQ(kind.attention.window, 0);      // "sliding_window": null
  EXPECT_EQ(kind.feed_forward.experts, 8);
  EXPECT_EQ(kind.feed_forward.top_k, 2);
  EXPECT_EQ(kind.feed_forward.width, 14336);
}

TEST(Model, Qwen3HeadDimComesFromTheFile) {
  // hidden / heads would be 2048 / 32 = 64.
  EXPECT_EQ(find_model("qwen3-30b-a3b").layer(0).attention.head_dim, 128);
}

TEST(Model, Qwen3MoeTakesLayersOutOfTheMixture) {
  // Every third layer (2, 5, ..., 47: 16 of them) less the two named: 2 and 5.
  const Model model = read_patched("qwen3-30b-a3b", {{"decoder_sparse_step", 3}, {"mlp_only_layers", {2, 5}}});
  EXPECT_EQ(layers_where(model, is_moe), 14);
  EXPECT_FALSE(is_moe(model.layer(2)));
  EXPECT_TRUE(is_moe(model.layer(8)));
  EXPECT_EQ(model.layer(0).feed_forward.width, 6144);  // intermediate_size
}

TEST(Model, Qwen2MoeSharedExpertHasItsOwnWidth) {
  const FeedForward feed_forward = find_model("qwen2-57b-a14b").layer(0).feed_forward;
  EXPECT_EQ(feed_forward.shared_width, 20480);
  EXPECT_EQ(feed_forward.vector_parameters, 3584);  // the gate of the shared expert
}

TEST(Model, DeepseekV3IsLatentAttentionAndThreeDenseLayers) {
  const Model model = find_model("deepseek-v3");
  EXPECT_EQ(layers_where(model, is_moe), 58);
  EXPECT_EQ(model.layer(2).feed_forward.width, 18432);
  const Attention& attention = model.layer(60).attention;
  EXPECT_EQ(attention.kind, AttentionKind::kLatent);
  EXPECT_EQ(attention.head_dim, 192);  // 128 without rotary positions, 64 with
  EXPECT_EQ(attention.value_dim, 128);
  EXPECT_EQ(attention.query_rank, 1536);
  const FeedForward& feed_forward = model.layer(60).feed_forward;
  EXPECT_EQ(feed_forward.router, RouterKind::kSigmoid);
  EXPECT_EQ(feed_forward.expert_groups, 8);
  EXPECT_EQ(feed_forward.groups_per_token, 4);
  EXPECT_EQ(feed_forward.shared_width, 2048);
  EXPECT_EQ(model.predict_layers, 1);
  EXPECT_EQ(model.predict_kind, model.layers.back());
}

TEST(Model, LatentAttentionDoesNotNeedKeyValueHeads) {
  // The file's num_key_value_heads is no limit of grouped-query attention: any value gives the same model.
  const Model model = read_patched("deepseek-v3", {{"num_key_value_heads", 7}, {"head_dim", 64}});
  EXPECT_EQ(model.kinds, find_model("deepseek-v3").kinds);
  EXPECT_TRUE(lists(model.ignored, "num_key_value_heads"));
  EXPECT_TRUE(lists(model.ignored, "head_dim"));
}

TEST(Model, DeepseekV2LiteDoesNotCompressQueriesNorLimitGroups) {
  const Model model = find_model("deepseek-v2-lite");  // "q_lora_rank": null, "topk_method": "greedy"
  EXPECT_EQ(model.layer(0).attention.query_rank, 0);
  EXPECT_EQ(model.layer(26).feed_forward.expert_groups, 1);
  EXPECT_EQ(model.layer(26).feed_forward.shared_width, 2816);  // 2 * 1408
  EXPECT_EQ(find_model("deepseek-v2").layer(59).feed_forward.groups_per_token, 3);
}

TEST(Model, GlmPredictsOneMoreTokenWithALayerLikeItsLast) {
  const Model model = find_model("glm-4.5-air");
  EXPECT_EQ(model.num_layers(), 46);
  EXPECT_EQ(model.predict_layers, 1);
  EXPECT_TRUE(is_moe(model.kinds[static_cast<std::size_t>(model.predict_kind)]));
  EXPECT_EQ(model.layer(0).attention.head_dim, 128);  // 4096 / 96 is no integer
  EXPECT_EQ(layers_where(model, is_moe), 45);
}

TEST(Model, GptOssAlternatesWindows) {
  const Model model = find_model("gpt-oss-120b");
  ASSERT_EQ(model.kinds.size(), 2u);
  EXPECT_EQ(model.layer(0).attention.window, 128);
  EXPECT_EQ(model.layer(1).attention.window, 0);
  EXPECT_EQ(layers_where(model, has_window), 18);
  // Query, key and value biases 64 * 64 + 2 * 8 * 64, output 2880, sinks 64; an expert: 2 * 2880 up, 2880 down.
  EXPECT_EQ(model.layer(0).attention.vector_parameters, 4096 + 1024 + 2880 + 64);
  EXPECT_EQ(model.layer(0).feed_forward.expert_vector_parameters, 3 * 2880);
}

TEST(Model, GptOssAlternatesByDefaultToo) {
  const Model model = read_patched("gpt-oss-20b", {{"layer_types", nullptr}});
  EXPECT_EQ(model.layers, find_model("gpt-oss-20b").layers);
  EXPECT_TRUE(lists(model.defaulted, "layer_types"));
}

TEST(Model, Llama4HidesASharedExpertAndInterleavesDenseLayers) {
  const Model scout = find_model("llama4-scout");
  EXPECT_EQ(layers_where(scout, is_moe), 48);
  EXPECT_EQ(scout.layer(0).feed_forward.shared_width, 8192);
  EXPECT_EQ(scout.layer(0).feed_forward.router, RouterKind::kSigmoid);

  const Model maverick = find_model("llama4-maverick");
  EXPECT_EQ(layers_where(maverick, is_moe), 24);
  EXPECT_FALSE(is_moe(maverick.layer(0)));
  EXPECT_TRUE(is_moe(maverick.layer(1)));
  EXPECT_EQ(maverick.layer(0).feed_forward.width, 16384);  // intermediate_size_mlp
  EXPECT_EQ(maverick.layer(1).feed_forward.width, 8192);   // intermediate_size
}

TEST(Model, Llama4AttendsInChunksButForEveryFourthLayer) {
  const Model model = find_model("llama4-scout");
  EXPECT_EQ(layers_where(model, has_window), 36);
  EXPECT_EQ(model.layer(0).attention.window, 8192);
  EXPECT_TRUE(model.layer(0).attention.chunked);
  EXPECT_EQ(model.layer(3).attention.window, 0);
}

TEST(Model, Llama4TakesMoeLayersFromAList) {
  const Model model = read_patched("llama4-maverick", {{"text_config", {{"moe_layers", {0, 47}}}}});
  EXPECT_EQ(layers_where(model, is_moe), 2);
  EXPECT_TRUE(is_moe(model.layer(0)));
}

TEST(Model, WrapperWithoutInnerTypeIsStillLlama4) {
  const Model model = read_patched("llama4-scout", {{"text_config", {{"model_type", nullptr}}}});
  EXPECT_EQ(model.family, "llama4_text");
}

TEST(Model, WrapperKeysAreListedWithTheirPaths) {
  const Model model = read_patched("llama4-scout", {{"vision_config", {{"hidden_size", 1408}}}});
  EXPECT_TRUE(lists(model.ignored, "text_config.rope_theta"));
  EXPECT_TRUE(lists(model.ignored, "vision_config"));
}

TEST(Model, HunyuanCountsMayDifferFromLayerToLayer) {
  std::vector<int> top_k(32, 8), width(32, 3072), shared(32, 1);
  top_k[31] = 4;
  width[31] = 1024;
  shared[31] = 2;
  const Model model = read_patched(
      "hunyuan-a13b", {{"moe_topk", top_k}, {"moe_intermediate_size", width}, {"num_shared_expert", shared}});
  ASSERT_EQ(model.kinds.size(), 2u);
  EXPECT_EQ(model.layer(0).feed_forward.shared_width, 3072);
  EXPECT_EQ(model.layer(31).feed_forward.top_k, 4);
  EXPECT_EQ(model.layer(31).feed_forward.shared_width, 2048);
}

TEST(Model, HunyuanSkipsTheFirstLayersAndDropsSharedExperts) {
  const Model model = read_patched("hunyuan-a13b", {{"moe_layer_num_skipped", 2}, {"use_mixed_mlp_moe", false}});
  EXPECT_FALSE(is_moe(model.layer(1)));
  EXPECT_TRUE(is_moe(model.layer(2)));
  EXPECT_EQ(model.layer(2).feed_forward.shared_width, 0);
}

TEST(Model, HunyuanLargeSharesKeysAndValuesBetweenPairsOfLayers) {
  const Model model = find_model("hunyuan-large");
  EXPECT_FALSE(model.layer(0).attention.shares_kv);
  EXPECT_TRUE(model.layer(1).attention.shares_kv);
  EXPECT_EQ(layers_where(model, [](const LayerKind& kind) { return kind.attention.shares_kv; }), 32);
}

TEST(Model, JambaHasTwoPeriods) {
  const Model model = find_model("jamba");
  const auto is_attention = [](const LayerKind& kind) { return kind.attention.kind == AttentionKind::kGrouped; };
  EXPECT_EQ(layers_where(model, is_attention), 4);  // layers 4, 12, 20, 28
  EXPECT_TRUE(is_attention(model.layer(12)));
  EXPECT_EQ(layers_where(model, is_moe), 16);  // the odd ones
  EXPECT_TRUE(is_moe(model.layer(1)));
  EXPECT_EQ(model.layer(0).attention.kind, AttentionKind::kStateSpace);
}

TEST(Model, HybridsAlternateLinearAndFullAttention) {
  const auto is_linear = [](const LayerKind& kind) { return kind.attention.kind == AttentionKind::kLinear; };
  const Model qwen = find_model("qwen3-next-80b-a3b");  // every fourth is full
  EXPECT_EQ(layers_where(qwen, is_linear), 36);
  EXPECT_FALSE(is_linear(qwen.layer(3)));
  EXPECT_TRUE(qwen.layer(3).attention.output_gate);
  EXPECT_EQ(layers_where(find_model("minimax-text-01"), is_linear), 70);  // every eighth of 80 is full
}

TEST(Model, DbrxKeysAreNested) {
  const Model model = find_model("dbrx");
  EXPECT_EQ(model.hidden, 6144);
  EXPECT_EQ(model.layer(0).attention.kv_heads, 8);
  EXPECT_EQ(model.layer(0).feed_forward.experts, 16);
  EXPECT_EQ(model.layer(0).feed_forward.top_k, 4);
  EXPECT_EQ(model.layer(0).feed_forward.width, 10752);
  EXPECT_EQ(model.max_seq_len, 32768);
  EXPECT_TRUE(lists(model.ignored, "attn_config.clip_qkv"));
  EXPECT_TRUE(lists(model.ignored, "ffn_config.moe_loss_weight"));
}

TEST(Model, GrokPortsNameTheirExpertsDifferently) {
  EXPECT_EQ(read_patched("grok-1", {{"num_experts", nullptr}, {"num_local_experts", 8}}).kinds,
            find_model("grok-1").kinds);
}

TEST(Model, MegascaleHasASharedExpert) {
  const Model model = find_model("megascale-352b");
  EXPECT_EQ(model.layer(0).feed_forward.shared_width, 14336);
  EXPECT_EQ(model.layer(0).attention.heads / model.layer(0).attention.kv_heads, 4);
}

TEST(Model, QwenWindowsAreOffUnlessAsked) {
  EXPECT_EQ(layers_where(find_model("qwen2.5-7b"), has_window), 0);
  const Model model = read_patched("qwen2.5-7b", {{"use_sliding_window", true}, {"max_window_layers", 20}});
  EXPECT_EQ(layers_where(model, has_window), 8);  // layers 20 to 27
  EXPECT_FALSE(has_window(model.layer(19)));
}

TEST(Model, DefaultsAreSaid) {
  const Model model =
      read_patched("qwen3-30b-a3b", {{"num_experts_per_tok", nullptr}, {"tie_word_embeddings", nullptr}});
  EXPECT_EQ(model.layer(0).feed_forward.top_k, 8);
  EXPECT_TRUE(lists(model.defaulted, "num_experts_per_tok = 8 (class default of qwen3_moe)"));
  EXPECT_TRUE(lists(model.defaulted, "tie_word_embeddings = false (class default of qwen3_moe)"));
}

TEST(Model, MissingKeyValueHeadsMeanAsManyAsHeads) {
  const Model model = read_patched("llama-3.1-8b", {{"num_key_value_heads", nullptr}});
  EXPECT_EQ(model.layer(0).attention.kv_heads, 32);
  EXPECT_TRUE(lists(model.defaulted, "num_key_value_heads = 32"));
}

TEST(Model, NullIsNotTheSameAsMissing) {
  // mistral: class default 4096, null none.
  const std::string head = R"({"model_type": "mistral", "hidden_size": 64, "num_hidden_layers": 1, "vocab_size": 10,
      "num_attention_heads": 8, "intermediate_size": 128)";
  EXPECT_EQ(parse_model("m", head + "}").layer(0).attention.window, 4096);
  EXPECT_EQ(parse_model("m", head + R"(, "sliding_window": null})").layer(0).attention.window, 0);
}

TEST(Model, IgnoredKeysKeepTheirOrder) {
  const Model model = find_model("mixtral-8x7b");
  EXPECT_EQ(model.ignored.front(), "attention_dropout");
  EXPECT_TRUE(lists(model.ignored, "rope_theta"));
  EXPECT_FALSE(lists(model.ignored, "hidden_size"));
  EXPECT_FALSE(lists(model.ignored, "model_type"));
}

TEST(ModelErrors, MissingKeyIsNamed) {
  expect_says(error_of("mixtral-8x7b", {{"hidden_size", nullptr}}), {"config.json: hidden_size: missing"});
  expect_says(error_of("dbrx", {{"ffn_config", {{"ffn_hidden_size", nullptr}}}}),
              {"ffn_config.ffn_hidden_size: missing"});
  expect_says(error_of("deepseek-v2", {{"num_experts_per_tok", nullptr}}), {"num_experts_per_tok: missing"});
  expect_says(error_of("llama4-scout", {{"text_config", {{"intermediate_size", nullptr}}}}),
              {"text_config.intermediate_size: missing"});
}

TEST(ModelErrors, ContradictionsAreNamed) {
  expect_says(error_of("mixtral-8x7b", {{"num_key_value_heads", 5}}),
              {"num_key_value_heads: 5 does not divide the 32 heads"});
  expect_says(error_of("mixtral-8x7b", {{"num_experts_per_tok", 9}}),
              {"num_experts_per_tok: 9 experts a token, but there are 8"});
  expect_says(error_of("mixtral-8x7b", {{"num_attention_heads", 24}}), {"not a multiple of 24 heads"});
  expect_says(error_of("mixtral-8x7b", {{"num_experts", 16}}), {"which means the same"});
  expect_says(error_of("gpt-oss-20b", {{"num_hidden_layers", 23}}),
              {"layer_types: lists 24 layers, but the model has 23"});
  expect_says(error_of("hunyuan-a13b", {{"moe_topk", {8, 8}}}), {"moe_topk: lists 2 layers"});
  expect_says(error_of("deepseek-v3", {{"n_group", 7}}), {"n_group: 7 groups do not divide 256 experts"});
  expect_says(error_of("deepseek-v3", {{"topk_group", 9}}), {"topk_group: 9 of 8 groups"});
  expect_says(error_of("deepseek-v3", {{"n_group", 64}, {"topk_group", 1}}), {"topk_group = 1 leaves 4"});
  expect_says(error_of("deepseek-v3", {{"first_k_dense_replace", 62}}), {"first_k_dense_replace: 62"});
  expect_says(error_of("deepseek-v3", {{"scoring_func", "tanh"}}), {"softmax, sigmoid"});
  expect_says(error_of("gpt-oss-20b", {{"layer_types", std::vector<std::string>(24, "linear_attention")}}),
              {"layer_types: found \"linear_attention\""});
  expect_says(error_of("jamba", {{"attn_layer_offset", 8}}), {"attn_layer_offset: 8"});
  expect_says(error_of("hunyuan-large", {{"mlp_bias", true}}), {"mlp_bias: found true"});
  expect_says(error_of("dbrx", {{"tie_word_embeddings", true}}), {"no tied embeddings"});
  expect_says(error_of("minimax-m2", {{"attn_type_list", std::vector<int>(62, 0)}}), {"linear attention"});
  expect_says(error_of("qwen3-30b-a3b", {{"mlp_only_layers", {48}}}), {"mlp_only_layers[0]: 48"});
}

TEST(ModelErrors, SizesAreBounded) {
  expect_says(error_of("mixtral-8x7b", {{"hidden_size", -4096}}), {"hidden_size: -4096 is out of range"});
  expect_says(error_of("mixtral-8x7b", {{"num_hidden_layers", 0}}), {"num_hidden_layers: 0"});
  expect_says(error_of("mixtral-8x7b", {{"intermediate_size", 1.5}}), {"intermediate_size"});
  // 32 layers * 250,000 experts * 3 * 4096 * 250,000 = 2.5e16 parameters.
  expect_says(error_of("mixtral-8x7b", {{"num_local_experts", 250000}, {"intermediate_size", 250000}}),
              {"parameters together"});
}

TEST(ModelErrors, UnknownFamilyListsKeysAndFamilies) {
  const std::string error = error_of(R"({"model_type": "mixtrall", "d_ff": 4, "n_embd": 8})");
  expect_says(error, {"\"mixtrall\" is not known", "d_ff, n_embd", "is \"mixtral\" meant?", "deepseek_v3"});
  expect_says(error_of(R"({"hidden_size": 4})"), {"model_type: missing; the keys found are hidden_size"});
  expect_says(error_of(R"({"model_type": "llava", "text_config": {"model_type": "phi", "n": 1}})"),
              {"text_config.model_type: \"phi\" is not known; the keys found are n"});
}

TEST(ModelErrors, UnknownNameIsRefused) { EXPECT_THROW(find_model("mixtral-9x9b"), UserError); }

}  // namespace
}  // namespace msmoe
