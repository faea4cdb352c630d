// Parameters and FLOPs against published numbers and against counts by hand.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>

#include "core/data_files.h"
#include "core/json_reader.h"
#include "core/model.h"

namespace msmoe {
namespace {

Model read_patched(const std::string& name, const Json& patch) {
  Json config = Json::parse(read_text_file(find_data_file("models", name)));
  config.merge_patch(patch);
  return parse_model(name, config.dump());
}

// Billions of parameters, total and active, embeddings included. active 0: not compared.
struct Anchor {
  const char* name;
  double total;
  double active;
  double tolerance = 0.01;
};
void PrintTo(const Anchor& anchor, std::ostream* out) { *out << anchor.name; }

class Anchors : public testing::TestWithParam<Anchor> {};

TEST_P(Anchors, AreMet) {
  const Anchor& anchor = GetParam();
  const ParameterCount count = count_parameters(find_model(anchor.name));
  EXPECT_NEAR(static_cast<double>(count.total) / 1e9, anchor.total, anchor.tolerance * anchor.total);
  if (anchor.active == 0) return;
  EXPECT_NEAR(static_cast<double>(count.active) / 1e9, anchor.active, anchor.tolerance * anchor.active);
}

INSTANTIATE_TEST_SUITE_P(Models, Anchors,
                         testing::Values(Anchor{"mixtral-8x7b", 46.7, 12.88}, Anchor{"mixtral-8x22b", 140.6, 39.2},
                                         Anchor{"dbrx", 131.6, 36.5}, Anchor{"phi-3.5-moe", 41.9, 6.6},
                                         Anchor{"olmoe", 6.92, 1.28}, Anchor{"deepseek-v2-lite", 15.7, 2.66},
                                         Anchor{"deepseek-v2", 235.7, 21.4}, Anchor{"deepseek-v3", 671.0, 37.6},
                                         Anchor{"kimi-k2", 1026, 32.9}, Anchor{"qwen3-30b-a3b", 30.5, 3.35},
                                         Anchor{"qwen3-235b-a22b", 235.1, 22.2}, Anchor{"gpt-oss-120b", 116.8, 5.7},
                                         Anchor{"glm-4.5-air", 106.85, 13.4}, Anchor{"glm-4.5", 352.8, 33.6},
                                         Anchor{"llama4-scout", 107.8, 17.2}, Anchor{"llama4-maverick", 400.7, 17.2},
                                         Anchor{"minimax-m2", 228.7, 11.0}, Anchor{"qwen3-next-80b-a3b", 79.0, 0, 0.02},
                                         Anchor{"grok-1", 315.7, 0, 0.02}, Anchor{"hunyuan-a13b", 80.9, 0},
                                         // Published: 389B with 52B active (arXiv 2411.02265), 52B with 12B (arXiv
                                         // 2403.19887), 456B with 45.9B (arXiv 2501.08313, which leaves embeddings
                                         // out of the active ones: 48.4B - 2.46B).
                                         Anchor{"hunyuan-large", 389, 52, 0.02}, Anchor{"jamba", 52, 12, 0.02},
                                         Anchor{"minimax-text-01", 456, 45.9 + 2.46},
                                         Anchor{"qwen1.5-moe-a2.7b", 14.3, 2.7}, Anchor{"qwen2-57b-a14b", 57.4, 14.2},
                                         Anchor{"deepseek-moe-16b", 16.4, 2.8, 0.02},
                                         Anchor{"megascale-352b", 351.86, 45.34, 0.001}),
                         [](const auto& test) {
                           std::string name = test.param.name;
                           for (char& c : name)
                             if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
                           return name;
                         });

// The published file ties the embedding to the head. Untied, one more 128,167 * 4096 = 0.525e9 is both there and
// active: 80.39 + 0.525 and 12.75 + 0.525.
TEST(Count, HunyuanA13bUntied) {
  const ParameterCount count = count_parameters(read_patched("hunyuan-a13b", {{"tie_word_embeddings", false}}));
  EXPECT_NEAR(static_cast<double>(count.total), 80.9e9, 0.01 * 80.9e9);
  EXPECT_NEAR(static_cast<double>(count.active), 13.3e9, 0.01 * 13.3e9);
}

// Element counts of the published checkpoints. Those of DeepSeek-V3 and Kimi-K2 also hold a correction bias of one
// value an expert in each of 58 and 60 layers, which is no parameter: 671,026,419,200 - 58 * 256 and
// 1,026,408,232,448 - 60 * 384. For GLM-4.5-Air it is what Hugging Face's own class counts.
TEST(Count, IsExactToTheLastBias) {
  const std::vector<std::pair<const char*, std::int64_t>> published = {{"glm-4.5-air", 106'852'245'504},
                                                                       {"mixtral-8x7b", 46'702'792'704},
                                                                       {"qwen3-30b-a3b", 30'532'122'624},
                                                                       {"qwen3-235b-a22b", 235'093'634'560},
                                                                       {"qwen3-8b", 8'190'735'360},
                                                                       {"qwen2.5-7b", 7'615'616'512},
                                                                       {"llama-3.1-8b", 8'030'261'248},
                                                                       {"llama-3.1-70b", 70'553'706'496},
                                                                       {"llama-3.1-405b", 405'853'388'800},
                                                                       {"olmoe", 6'919'161'856},
                                                                       {"deepseek-v3", 671'026'419'200 - 58 * 256},
                                                                       {"kimi-k2", 1'026'408'232'448 - 60 * 384}};
  for (const auto& [name, total] : published) EXPECT_EQ(count_parameters(find_model(name)).total, total) << name;
}

// A model small enough to count by hand: h = 8, 4 heads of 2, 2 key/value heads, 3 experts of width 5, 2 a token,
// vocabulary 10, one layer.
//   attention   8 * 8 queries + 2 * 8 * 4 keys and values + 8 * 8 output = 192
//   experts     3 * 8 * 5 = 120 each; router 8 * 3 = 24; norms 2 * 8 = 16
//   outside     2 * 10 * 8 embedding and head, 8 final norm = 168
TEST(Count, SmallMixtralByHand) {
  const Model model = parse_model("small", R"({"model_type": "mixtral", "hidden_size": 8, "num_hidden_layers": 1,
      "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 5, "num_local_experts": 3,
      "num_experts_per_tok": 2, "vocab_size": 10})");
  const LayerParameters layer = count_layer(model, model.layer(0));
  EXPECT_EQ(layer.attention_matrices, 192);
  EXPECT_EQ(layer.expert_matrices, 120);
  EXPECT_EQ(layer.router_matrices, 24);
  const ParameterCount count = count_parameters(model);
  EXPECT_EQ(count.total, 192 + 3 * 120 + 24 + 16 + 168);
  EXPECT_EQ(count.active, 192 + 2 * 120 + 24 + 16 + 168);
  EXPECT_EQ(count.active_matrices, 192 + 2 * 120 + 24 + 80);
  // 6 * 536, and at 100 tokens 6 * 4 heads * (2 + 2) * 50.
  EXPECT_EQ(flops_per_token(model, 100).count, 6 * 536 + 6 * 4 * 4 * 50);
}

// h = 8, 2 heads with 3 + 2 = 5 of queries and keys and 4 of values, query rank 6, key/value rank 7:
//   8 * 6 + 6 * 10 queries, 8 * (7 + 2) down, 7 * 2 * (3 + 4) up, 2 * 4 * 8 output = 342; norms 6 + 7.
// Without query compression the queries take 8 * 10 instead of 108.
TEST(Count, LatentAttentionByHand) {
  Json config = {{"model_type", "deepseek_v3"}, {"hidden_size", 8},      {"num_hidden_layers", 1},
                 {"num_attention_heads", 2},    {"vocab_size", 10},      {"intermediate_size", 5},
                 {"n_routed_experts", 16},      {"q_lora_rank", 6},      {"kv_lora_rank", 7},
                 {"qk_nope_head_dim", 3},       {"qk_rope_head_dim", 2}, {"v_head_dim", 4},
                 {"first_k_dense_replace", 1}};
  const Model model = parse_model("latent", config.dump());
  EXPECT_EQ(count_layer(model, model.layer(0)).attention_matrices, 342);
  EXPECT_EQ(count_layer(model, model.layer(0)).attention_vectors, 13);
  config["q_lora_rank"] = nullptr;
  const Model plain = parse_model("latent", config.dump());
  EXPECT_EQ(count_layer(plain, plain.layer(0)).attention_matrices, 342 - 108 + 80);
}

// A prediction layer of DeepSeek-V3: a mixture layer, [2 * 7168, 7168] and three norms, beside the 61 layers.
TEST(Count, PredictionLayersAreBesideTheTotal) {
  const Model model = find_model("deepseek-v3");
  const std::int64_t layer = count_layer(model, model.layer(60)).total();
  EXPECT_EQ(count_parameters(model).predict_layers, layer + 2 * 7168 * 7168 + 3 * 7168);
  const Model without = read_patched("deepseek-v3", {{"num_nextn_predict_layers", 0}});
  EXPECT_EQ(count_parameters(without).total, count_parameters(model).total);
  EXPECT_EQ(count_parameters(without).predict_layers, 0);
  EXPECT_EQ(flops_per_token(without, 4096), flops_per_token(model, 4096));
}

// arXiv 2505.11432: the MFUs of Table 3 follow from 282.51 GFLOP a token.
//   6 * (60 * (2.5 h^2 + 4 * 3 h * 14336 + 32 h) + 65536 h) + 60 * 6 * 32 * 256 * 4096, h = 4096
TEST(Flops, Megascale352b) {
  EXPECT_NEAR(flops_per_token(find_model("megascale-352b"), 8192).count, 282.51e9, 0.002 * 282.51e9);
}

// The same paper trains Mixtral-8x7B with its own vocabulary of 65,536: 83.8 GFLOP a token. With the published one of
// 32,000 the head is 0.137e9 smaller, 0.82 GFLOP.
TEST(Flops, Mixtral8x7b) {
  EXPECT_NEAR(flops_per_token(read_patched("mixtral-8x7b", {{"vocab_size", 65536}}), 8192).count, 83.8e9,
              0.002 * 83.8e9);
  EXPECT_NEAR(flops_per_token(find_model("mixtral-8x7b"), 8192).count, 82.93e9, 0.002 * 82.93e9);
}

// Tokens seen by position 0..s-1 (the fluid limit: position p sees p, at most the window): by direct summation.
TEST(Flops, SpanIsTheMeanOverPositions) {
  const auto mean = [](std::int64_t seq_len, std::int64_t window, bool chunked) {
    double sum = 0;
    for (std::int64_t position = 0; position < seq_len; ++position) {
      const double seen =
          chunked ? static_cast<double>(position % window) : static_cast<double>(std::min(position, window));
      sum += seen + (chunked || position < window ? 0.5 : 0.0);  // the middle of the step from p to p + 1
    }
    return sum / static_cast<double>(seq_len);
  };
  Attention attention;
  EXPECT_DOUBLE_EQ(average_span(attention, 1000), mean(1000, 1000, false));
  attention.window = 128;
  EXPECT_DOUBLE_EQ(average_span(attention, 1000), mean(1000, 128, false));
  EXPECT_DOUBLE_EQ(average_span(attention, 100), 50);
  attention.chunked = true;
  EXPECT_DOUBLE_EQ(average_span(attention, 1000), mean(1000, 128, true));
  EXPECT_DOUBLE_EQ(average_span(attention, 1024), 64);
  attention.kind = AttentionKind::kLinear;
  EXPECT_EQ(average_span(attention, 1000), 0);
}

}  // namespace
}  // namespace msmoe
