// Attention's operators: what they send, against MegaScale-MoE's equations (arXiv 2505.11432, section 3.1), and the
// shapes they work on. b sequences of s tokens of width h in a micro-batch, n ranks, m query heads a key/value head.
#include <gtest/gtest.h>

#include "tests/core/lowering_samples.h"

namespace msmoe {
namespace {

constexpr double kTokens = 8192;  // b s
// Mixtral-8x7B: h = 4096 = 32 heads of 128, 8 key/value heads, so m = 4; no shared expert, so that all traffic of the
// attention group is attention's.
constexpr double kHidden = 4096, kTokensTimesHidden = kTokens * kHidden, kQueriesPerKey = 4;

Module lower_last_layer(const Model& model, const Plan& plan) {
  return lower_layer(model, plan, model.layers.back(), {});
}

double attention_sent(const Operators& operators, const Plan& plan) {
  return sent_elements(operators, plan, over_group(GroupKind::kAttention));
}

class AttentionTraffic : public testing::TestWithParam<const char*> {
 protected:
  double ranks() const { return std::stod(GetParam()); }
  double away() const { return (ranks() - 1) / ranks(); }  // the part of a payload that leaves its rank
  Plan plan(const char* attention) const {
    return plan_with({{"attention", attention}, {"attention_degree", GetParam()}});
  }
  const Model mixtral = find_model("mixtral-8x7b");
};

// Equation 1: tokens gathered, partial sums scattered, bsh (n-1)/n each. Backward the other way round.
TEST_P(AttentionTraffic, Tensor) {
  const Plan tensor = plan("tp");
  const Module layer = lower_last_layer(mixtral, tensor);
  const double expected = 2 * kTokensTimesHidden * away();
  EXPECT_DOUBLE_EQ(attention_sent(layer.forward, tensor), expected);
  EXPECT_DOUBLE_EQ(attention_sent(layer.backward, tensor), expected);
}

// Equation 2, counted exactly: a rank's qkv is bs/n rows of h (1 + 2/m), its attention output bs/n rows of h; of each
// (n-1)/n leaves. The equation as printed has a leading 2, which these shapes (its Fig. 9) do not bear out.
TEST_P(AttentionTraffic, Sequence) {
  const Plan sequence = plan("sp");
  const Module layer = lower_last_layer(mixtral, sequence);
  const double expected = kTokensTimesHidden * away() * (2 + 2 / kQueriesPerKey) / ranks();
  EXPECT_DOUBLE_EQ(attention_sent(layer.forward, sequence), expected);
  EXPECT_DOUBLE_EQ(attention_sent(layer.backward, sequence), expected);
}

// Keys and values, bsh/m each, go all the way round; backward they go again, and their gradients come back.
TEST_P(AttentionTraffic, Context) {
  const Plan context = plan("cp");
  const Module layer = lower_last_layer(mixtral, context);
  const double forward = kTokensTimesHidden * away() * 2 / kQueriesPerKey;
  EXPECT_DOUBLE_EQ(attention_sent(layer.forward, context), forward);
  EXPECT_DOUBLE_EQ(attention_sent(layer.backward, context), 2 * forward);
}

// Beside tensor or sequence parallelism the ring carries this rank's heads of key/value over half of the tokens:
// payload bs * (8/n heads) * 256, half of it leaves one of two context ranks.
TEST_P(AttentionTraffic, ContextBesideTensorAndSequence) {
  for (const char* attention : {"tp", "sp"}) {
    Plan both = plan(attention);
    both.context_degree = 2;
    const Module layer = lower_last_layer(mixtral, both);
    EXPECT_DOUBLE_EQ(sent_elements(layer.forward, both, over_group(GroupKind::kContext)),
                     kTokens * (8 / ranks()) * 256 / 2);
  }
}

// DeepSeek-V3, 128 heads of 192 + 192 + 128. Tensor ranks gather the compressed streams, 1536 + 512 + 64 wide, instead
// of the hidden state, 7168, which only the reduce-scatter carries. Without query compression (V2-Lite: h 2048, 576
// compressed) the hidden state is gathered beside them.
TEST_P(AttentionTraffic, Latent) {
  const Model v3 = find_model("deepseek-v3");
  Plan tensor = plan("tp");
  // The dense first layers and the shared expert gather and scatter the hidden state once more.
  const double feed_forward = 2 * kTokens * 7168 * away();
  Module layer = lower_last_layer(v3, tensor);
  const double forward = kTokens * (1536 + 576 + 7168) * away();
  EXPECT_DOUBLE_EQ(attention_sent(layer.forward, tensor) - feed_forward, forward);
  EXPECT_DOUBLE_EQ(attention_sent(layer.backward, tensor) - feed_forward, forward);

  const Model lite = find_model("deepseek-v2-lite");
  layer = lower_last_layer(lite, tensor);
  EXPECT_DOUBLE_EQ(attention_sent(layer.forward, tensor) - 2 * kTokens * 2048 * away(),
                   kTokens * (576 + 2048 + 2048) * away());

  const Plan sequence = plan("sp");
  layer = lower_last_layer(v3, sequence);
  EXPECT_DOUBLE_EQ(attention_sent(layer.forward, sequence), kTokens / ranks() * 128 * (192 + 192 + 128 + 128) * away());
}

INSTANTIATE_TEST_SUITE_P(Ranks, AttentionTraffic, testing::Values("2", "4", "8"));

// Qwen3-30B: 32 heads and 4 key/value heads of 128. On 8 Ulysses ranks each key/value head is sent twice, so that every
// rank has one: bs/8 rows of (32 + 2*8) * 128, and of 32 * 128 on the way back.
TEST(Attention, KeyValueHeadsFewerThanRanksAreReplicated) {
  const Model qwen = find_model("qwen3-30b-a3b");
  Plan plan = plan_with({{"attention", "sp"}, {"attention_degree", "8"}});
  Module layer = lower_last_layer(qwen, plan);
  EXPECT_DOUBLE_EQ(attention_sent(layer.forward, plan), kTokens / 8 * (48 + 32) * 128 * 7 / 8);
  // Tensor ranks hold one head's projection each, twice in all: h * (4 + 2) heads * 128 rows of weights.
  plan.attention = AttentionParallelism::kTensor;
  layer = lower_last_layer(qwen, plan);
  EXPECT_EQ(find_operator(layer.forward, "qkv").compute.n, (32 / 8 + 2) * 128);
}

// 4 of 32 heads on each of 8 ranks see all tokens under TP and Ulysses; under CP all heads see an eighth of the
// queries. Each query meets 4096 keys on average. FLOPs: 2 * 8192 * 4096 * 4 * 256 in all three.
TEST(Attention, HeadsOrQueriesAreSplit) {
  const Model mixtral = find_model("mixtral-8x7b");
  for (const auto& [attention, queries, heads] :
       {std::tuple{"tp", 8192, 4}, std::tuple{"sp", 8192, 4}, std::tuple{"cp", 1024, 32}}) {
    const Plan plan = plan_with({{"attention", attention}, {"attention_degree", "8"}});
    const Module layer = lower_last_layer(mixtral, plan);
    const Compute& work = find_operator(layer.forward, "attention").compute;
    EXPECT_EQ(work.m, queries);
    EXPECT_EQ(work.groups, heads);
    EXPECT_EQ(work.n, 4096);
    EXPECT_EQ(work.flops.count, 2.0 * 8192 * 4096 * 4 * 256);
    EXPECT_EQ(find_operator(layer.backward, "d_attention").compute.flops.count, 2.5 * work.flops.count);
  }
}

// gpt-oss: every other layer sees 128 tokens at most, 128 (1 - 128 / (2 * 8192)) = 127 on average.
TEST(Attention, WindowsBoundTheSpan) {
  const Model gpt_oss = find_model("gpt-oss-120b");
  ASSERT_EQ(gpt_oss.kinds.size(), 2u);
  for (std::size_t kind = 0; kind < 2; ++kind) {
    const Module layer = lower_layer(gpt_oss, plan_with({}), static_cast<int>(kind), {});
    const double span = gpt_oss.kinds[kind].attention.window == 128 ? 127 : 4096;
    EXPECT_DOUBLE_EQ(find_operator(layer.forward, "attention").compute.flops.count, 2 * 8192 * span * 64 * 128);
  }
}

// RoPE lies between the QKV projection and the exchange (the paper's Fig. 8a).
TEST(Attention, OrderOfUlysses) {
  const Plan plan = plan_with({{"attention", "sp"}, {"attention_degree", "8"}, {"ep", "8"}});
  const std::vector<std::string> names = names_of(lower_last_layer(find_model("mixtral-8x7b"), plan).forward);
  EXPECT_EQ(names, (std::vector<std::string>{"ln1", "qkv", "rope", "qkv_a2a", "attention", "attn_a2a", "out",
                                             "residual1", "ln2", "router", "topk", "permute", "dispatch", "fc1",
                                             "swiglu", "fc2", "combine", "unpermute", "residual2"}));
}

}  // namespace
}  // namespace msmoe
