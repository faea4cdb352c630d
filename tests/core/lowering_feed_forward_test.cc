// The feed-forward's operators: what the two ways of dispatching send, against MegaScale-MoE's equations (arXiv
// 2505.11432, section 3.1), and the rows that experts work on.
#include <gtest/gtest.h>

#include "tests/core/lowering_samples.h"

namespace msmoe {
namespace {

// Mixtral-8x7B: h = 4096, 8 experts of 14336, k = 2 of them a token; s = 8192 and b = 1.
constexpr double kTokens = 8192, kHidden = 4096, kTopK = 2, kWidth = 14336;
constexpr double kTokensTimesHidden = kTokens * kHidden;

class FeedForwardTest : public testing::Test {
 protected:
  void lower_with(const Fields& fields, const LoweringOptions& options = {}) {
    plan = plan_with({{"attention", "sp"}, {"attention_degree", "8"}});
    for (const auto& [key, value] : fields) set_plan_field(plan, key, value);
    layer = lower_layer(model, plan, model.layers.back(), options);
  }
  double sent(const Operators& operators, GroupKind group) { return sent_elements(operators, plan, over_group(group)); }
  double payload(const Operators& operators, const char* name) {
    return find_operator(operators, name).transfer.payload.count / 2;
  }

  Model model = find_model("mixtral-8x7b");
  Plan plan;
  Module layer;
};

// Equation 3: k copies of a rank's bs/n tokens, (n-1)/n of them to other ranks, and back: 2k/n bsh (n-1)/n.
TEST_F(FeedForwardTest, AllToAll) {
  for (const double ranks : {2, 4, 8}) {
    lower_with({{"attention_degree", ranks == 2   ? "2"
                                     : ranks == 4 ? "4"
                                                  : "8"},
                {"ep", ranks == 2   ? "2"
                       : ranks == 4 ? "4"
                                    : "8"}});
    const double expected = 2 * kTopK / ranks * kTokensTimesHidden * (ranks - 1) / ranks;
    EXPECT_DOUBLE_EQ(sent(layer.forward, GroupKind::kExpert), expected);
    EXPECT_DOUBLE_EQ(sent(layer.backward, GroupKind::kExpert), expected);
  }
}

// Equation 4: every token to every rank, and the partial sums back: 2 bsh (n-1)/n, however experts are split.
TEST_F(FeedForwardTest, AllGatherAndReduceScatter) {
  for (const auto& [ep, etp] : {std::pair{"8", "1"}, {"4", "2"}, {"1", "8"}}) {
    lower_with({{"ep", ep}, {"etp", etp}, {"dispatch", "ag_rs"}});
    EXPECT_DOUBLE_EQ(sent(layer.forward, GroupKind::kExpertAll), 2 * kTokensTimesHidden * 7 / 8);
    EXPECT_DOUBLE_EQ(sent(layer.backward, GroupKind::kExpertAll), 2 * kTokensTimesHidden * 7 / 8);
  }
}

// With all-to-all dispatch, expert-tensor ranks gather copies instead of tokens: k times equation 4 where etp is all.
TEST_F(FeedForwardTest, ExpertTensorRanksGatherCopies) {
  lower_with({{"etp", "8"}});
  EXPECT_DOUBLE_EQ(sent(layer.forward, GroupKind::kExpertTensor), 2 * kTopK * kTokensTimesHidden * 7 / 8);
  EXPECT_FALSE(has_operator(layer.forward, "dispatch"));
  // ep 4, etp 2: 2048 copies of a rank to 4 ranks, then joined with those of its neighbour.
  lower_with({{"ep", "4"}, {"etp", "2"}});
  EXPECT_DOUBLE_EQ(sent(layer.forward, GroupKind::kExpert), 2 * 2048 * kHidden * 3 / 4);
  EXPECT_DOUBLE_EQ(sent(layer.forward, GroupKind::kExpertTensor), 2 * 4096 * kHidden * 1 / 2);
}

// What dispatch carries to the experts, the gradient of dispatch carries back; likewise combine.
TEST_F(FeedForwardTest, GradientsTravelAsFarAsTokens) {
  lower_with({{"ep", "4"}, {"etp", "2"}});
  EXPECT_EQ(payload(layer.forward, "dispatch"), 2048 * kHidden);
  for (const char* stage : {"", "_etp"}) {
    const std::string dispatch = std::string("dispatch") + stage, combine = std::string("combine") + stage;
    EXPECT_EQ(payload(layer.forward, dispatch.c_str()), payload(layer.backward, ("d_" + dispatch).c_str()));
    EXPECT_EQ(payload(layer.forward, combine.c_str()), payload(layer.backward, ("d_" + combine).c_str()));
    EXPECT_EQ(payload(layer.forward, dispatch.c_str()), payload(layer.forward, combine.c_str()));
  }
}

// 1024 tokens a rank make 2048 rows; 8 ranks send as many as they receive. FC1 is gate and up side by side.
TEST_F(FeedForwardTest, RowsAndWidthsOfExperts) {
  for (const char* dispatch : {"a2a", "ag_rs"}) {
    lower_with({{"ep", "8"}, {"dispatch", dispatch}});
    const Compute& fc1 = find_operator(layer.forward, "fc1").compute;
    EXPECT_EQ(std::tuple(fc1.groups, fc1.m, fc1.n, fc1.k), std::tuple(1, 2048, 28672, 4096));
    EXPECT_EQ(fc1.flops.count, 2 * 2048 * kHidden * 2 * kWidth);
    // ep 4, etp 2: two experts of half the width, and the rows of both expert-tensor ranks.
    lower_with({{"ep", "4"}, {"etp", "2"}, {"dispatch", dispatch}});
    const Compute& half = find_operator(layer.forward, "fc1").compute;
    EXPECT_EQ(std::tuple(half.groups, half.m, half.n, half.k), std::tuple(2, 4096, 14336, 4096));
    // Gradient of its weights: two products of [4096, 2048] and [2048, 14336].
    const Compute& weight = find_operator(layer.backward, "w_fc1").compute;
    EXPECT_EQ(std::tuple(weight.groups, weight.m, weight.n, weight.k), std::tuple(2, 2 * 4096, 14336, 2048));
    EXPECT_EQ(weight.flops, half.flops);
  }
}

// The rank with 1.5 times the rows works, receives and holds 1.5 times as much; all-gather sends every token anyway,
// and a rank with all experts has all rows whatever is chosen.
TEST_F(FeedForwardTest, ImbalanceScalesExpertRows) {
  const Fields all_to_all = {{"ep", "8"}, {"recompute", "selective"}};
  lower_with(all_to_all);
  const Module balanced = layer;
  lower_with(all_to_all, {.imbalance = 1.5});
  for (const char* name : {"fc1", "swiglu", "fc2"}) {
    EXPECT_DOUBLE_EQ(find_operator(layer.forward, name).compute.flops.count,
                     1.5 * find_operator(balanced.forward, name).compute.flops.count);
  }
  EXPECT_DOUBLE_EQ(payload(layer.forward, "dispatch"), 1.5 * payload(balanced.forward, "dispatch"));
  EXPECT_DOUBLE_EQ(payload(layer.backward, "d_dispatch"), 1.5 * payload(balanced.backward, "d_dispatch"));
  EXPECT_EQ(find_operator(layer.forward, "qkv").compute.flops, find_operator(balanced.forward, "qkv").compute.flops);
  // Kept beside the rest: half of 2048 rows more of FC1's result, and of two gates and two places of each row.
  EXPECT_DOUBLE_EQ((layer.kept - balanced.kept).count, 1024 * (2 * kWidth * 2 + 4 * 4));

  lower_with({{"ep", "8"}, {"dispatch", "ag_rs"}}, {.imbalance = 1.5});
  EXPECT_EQ(payload(layer.forward, "dispatch"), kTokensTimesHidden);
  EXPECT_EQ(find_operator(layer.forward, "fc1").compute.m, 3072);
  lower_with({{"ep", "1"}}, {.imbalance = 1.5});
  EXPECT_EQ(find_operator(layer.forward, "fc1").compute.m, 2048);
}

// Rows come by source rank, and are sorted by expert where a rank has several. On one rank they are permuted once.
TEST_F(FeedForwardTest, SortsWhereARankHasSeveralExperts) {
  lower_with({{"ep", "8"}});
  EXPECT_FALSE(has_operator(layer.forward, "scatter"));
  lower_with({{"ep", "4"}});
  EXPECT_TRUE(has_operator(layer.forward, "scatter"));
  lower_with({{"ep", "1"}});
  EXPECT_TRUE(has_operator(layer.forward, "permute"));
  EXPECT_FALSE(has_operator(layer.forward, "scatter"));
}

// The 352B model's shared expert is 14336 wide: whole on every Ulysses rank, for its own 1024 tokens; cut in eight by
// tensor parallelism, for all 8192, which are gathered and scattered.
TEST_F(FeedForwardTest, SharedExpert) {
  model = find_model("megascale-352b");
  lower_with({{"ep", "8"}});
  const Compute whole = find_operator(layer.forward, "dense_fc1").compute;
  EXPECT_EQ(std::tuple(whole.m, whole.n, whole.k), std::tuple(1024, 2 * 14336, 4096));
  EXPECT_FALSE(has_operator(layer.forward, "dense_ag"));
  lower_with({{"attention", "tp"}, {"ep", "8"}});
  const Compute cut = find_operator(layer.forward, "dense_fc1").compute;
  EXPECT_EQ(std::tuple(cut.m, cut.n, cut.k), std::tuple(8192, 2 * 14336 / 8, 4096));
  EXPECT_EQ(payload(layer.forward, "dense_ag"), kTokensTimesHidden);
  EXPECT_EQ(payload(layer.forward, "dense_rs"), kTokensTimesHidden);
  EXPECT_EQ(cut.flops, whole.flops);
}

// FP8 on the wire: one byte an element and a scale of four bytes for 128 of them, 1.03125 bytes in place of two, after
// a kernel that quantizes.
TEST_F(FeedForwardTest, Fp8Wire) {
  lower_with({{"ep", "8"}, {"precision", "fp8"}, {"act_wire", "fp8"}});
  EXPECT_DOUBLE_EQ(find_operator(layer.forward, "dispatch").transfer.payload.count, 2048 * kHidden * 1.03125);
  EXPECT_EQ(std::count_if(layer.forward.begin(), layer.forward.end(),
                          [](const Operator& op) { return op.name == std::string("quantize"); }),
            4);  // queries, keys and values; attention's result; dispatch; combine
}

}  // namespace
}  // namespace msmoe
