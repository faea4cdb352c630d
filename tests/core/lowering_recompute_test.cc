// What a layer keeps between forward and backward, and what backward rebuilds, under each recompute set; against the
// activation table of MegaScale-MoE (arXiv 2505.11432, Fig. 9 and section 4.1).
#include <gtest/gtest.h>

#include "tests/core/lowering_samples.h"

namespace msmoe {
namespace {

using Names = std::set<std::string>;

// The 352B model on SP8 + EP8: h = 4096, m = 4, k = 3, f = 14336 / 4096 = 3.5, n = 8, b = 1, s = 8192.
constexpr double kTokens = 8192.0 / 8;    // of one rank
constexpr double kUnit = kTokens * 4096;  // bsh/n elements
constexpr double kWidth = 14336;

class RecomputeTest : public testing::Test {
 protected:
  void lower_with(const Fields& fields) {
    plan = plan_with({{"attention", "sp"}, {"attention_degree", "8"}, {"ep", "8"}, {"dispatch", "ag_rs"}});
    for (const auto& [key, value] : fields) set_plan_field(plan, key, value);
    layer = lower_layer(model, plan, model.layers.back(), {});
  }
  double kept_elements(const Names& names) const {
    double bytes = 0;
    for (const Tensor& tensor : layer.tensors)
      if (tensor.kept && names.count(tensor.name) > 0) bytes += tensor.size.count;
    return bytes / 2;
  }
  std::vector<std::string> rebuilt() const { return names_of(layer.backward, of_pass(Pass::kRecompute)); }

  Model model = find_model("megascale-352b");
  Plan plan;
  Module layer;
};

// Beside the paper's table, whose sums leave them out, all in elements of 4 bytes: softmax statistics of 4 heads and
// 8192 queries; logits and probabilities of 32 experts.
constexpr double kStatistics = 8192 * 4 + kTokens * 2 * 32;
// Expert, gate, row and what lies in a row, of three copies a token; where each of 32 experts begins, and how many
// copies it has of one sequence.
constexpr double routes(double tokens) { return tokens * 3 * 4 + (32 + 1) + 32; }
// Of rows of this rank's 4 experts, as many as copies that it sends: gates as they arrived and as they lie, places
// before and after sorting; counts from 8 sources, where each expert begins; and routes of all 8192 gathered tokens.
constexpr double kArrivals = kTokens * 3 * 4 + 8 * 4 + (4 + 1) + routes(8192);
constexpr double kSmallBytes = (kStatistics + routes(kTokens) + kArrivals) * 4;
// Of both norms, where they do not run again.
constexpr double kNormBytes = 2 * kTokens * 4;

// (2kf + 4 + 2/m) bsh/n elements: 2kf for gate and up of three copies, 1 + 2/m for query, key and value after the
// exchange, 1 each for the layer's input, attention's result and the second norm's input: 25.5 units. The shared
// expert, which the table leaves out, keeps its gate and up too.
TEST_F(RecomputeTest, SelectiveKeepsThePapersSet) {
  lower_with({{"recompute", "selective"}});
  const Names paper = {"hidden", "qkv_a2a", "attn", "ln2_in", "fc1"};
  EXPECT_DOUBLE_EQ(kept_elements(paper), (2 * 3 * 3.5 + 4 + 2.0 / 4) * kUnit);
  EXPECT_DOUBLE_EQ(kept_elements({"dense_fc1"}), 2 * kWidth * kTokens);
  EXPECT_EQ(kept_names(layer), (Names{"hidden", "qkv_a2a", "attn", "attn_stats", "ln2_in", "router_logits",
                                      "router_probs", "routes", "arrivals", "fc1", "dense_fc1"}));
  EXPECT_DOUBLE_EQ(layer.kept.count, (25.5 * kUnit + 2 * kWidth * kTokens) * 2 + kSmallBytes);
}

// "No GEMM and no attention runs twice": norms, SwiGLU, permutation, and exchanges again; the router neither.
TEST_F(RecomputeTest, SelectiveRebuildsWithoutArithmetic) {
  for (const char* attention : {"sp", "tp", "cp"}) {
    for (const char* dispatch : {"ag_rs", "a2a"}) {
      for (const char* overlap : {"none", "inter", "intra"}) {
        lower_with(
            {{"attention", attention}, {"dispatch", dispatch}, {"recompute", "selective"}, {"overlap", overlap}});
        EXPECT_EQ(flops_of(layer.backward, of_pass(Pass::kRecompute)), 0) << describe_plan(plan);
      }
    }
  }
  lower_with({{"recompute", "selective"}});
  const std::vector<std::string> found = rebuilt();
  EXPECT_EQ(Names(found.begin(), found.end()),
            (Names{"ln1", "ln2", "dispatch", "scatter", "swiglu", "dense_act", "attn_a2a"}));
  EXPECT_EQ(found.size(), 7u);  // each once
}

// All-gathering the tokens again, beside the attention output's exchange: the only traffic that selective adds.
TEST_F(RecomputeTest, SelectiveSendsAgain) {
  lower_with({{"recompute", "selective"}});
  EXPECT_DOUBLE_EQ(sent_elements(layer.backward, plan, of_pass(Pass::kRecompute)), 8 * kUnit * 7 / 8 + kUnit * 7 / 8);
  // Fig. 8b: the gather starts before the gradient of FC2 needs anything, so that it has something to hide behind.
  const std::vector<std::string> names = names_of(layer.backward);
  EXPECT_LT(std::find(names.begin(), names.end(), "dispatch"), std::find(names.begin(), names.end(), "d_fc2"));
  EXPECT_LT(std::find(names.begin(), names.end(), "d_fc2"), std::find(names.begin(), names.end(), "scatter"));
}

// What the exchange learned of its rows is kept: it reads that when it runs again, and nobody waits for it but those
// who need its tokens. Where exchanges are fused, the gradients' exchange is beside it.
TEST_F(RecomputeTest, ExchangesDoNotLearnAgain) {
  for (const char* overlap : {"none", "inter", "intra"}) {
    lower_with({{"recompute", "selective"}, {"overlap", overlap}});
    const auto names = [&](const std::vector<std::int16_t>& ids) {
      std::vector<std::string> found;
      for (const std::int16_t id : ids) found.emplace_back(layer.tensors[static_cast<std::size_t>(id)].name);
      return found;
    };
    const Operator& again = find_operator(layer.backward, "dispatch");
    EXPECT_EQ(names(again.reads), (std::vector<std::string>{"ln2_out", "routes", "arrivals"}));
    EXPECT_EQ(names(again.writes), (std::vector<std::string>{"dispatch"}));
    const auto dispatch_idx = static_cast<std::int16_t>(&again - layer.backward.data());
    for (const Operator& op : layer.backward) {
      const bool waits = std::find(op.waits.begin(), op.waits.end(), dispatch_idx) != op.waits.end();
      EXPECT_EQ(waits, op.name == std::string("scatter")) << op.name;
    }
  }
}

// Nothing rebuilt: norms' outputs (2), attention's result after its exchange (1), k rows of expert input and k f of
// SwiGLU's output join the 25.5 units, and SwiGLU's output of the shared expert. (The paper's total is larger: it
// counts every row of its table, among them tensors that backward does not read.)
TEST_F(RecomputeTest, NoneKeepsWhatBackwardReads) {
  lower_with({{"recompute", "none"}});
  EXPECT_TRUE(rebuilt().empty());
  EXPECT_EQ(kept_names(layer), (Names{"hidden", "ln1_out", "ln1_stats", "qkv_a2a", "attn", "attn_stats", "attn_a2a",
                                      "ln2_in", "ln2_out", "ln2_stats", "router_logits", "router_probs", "routes",
                                      "arrivals", "scatter", "fc1", "swiglu", "dense_fc1", "dense_act"}));
  EXPECT_DOUBLE_EQ(layer.kept.count,
                   ((25.5 + 2 + 1 + 3 + 3 * 3.5) * kUnit + 3 * kWidth * kTokens) * 2 + kSmallBytes + kNormBytes);
}

// Only the layer's input stays. Backward runs the whole forward pass again, exchanges and all.
TEST_F(RecomputeTest, FullKeepsTheInputAndReplaysForward) {
  lower_with({{"recompute", "full"}});
  EXPECT_EQ(kept_names(layer), (Names{"hidden"}));
  EXPECT_DOUBLE_EQ(layer.kept.count, kUnit * 2);
  EXPECT_DOUBLE_EQ(flops_of(layer.backward, of_pass(Pass::kRecompute)), flops_of(layer.forward));
  const auto exchanges = [](const std::vector<Operator>& pass, Pass which) {
    return std::count_if(pass.begin(), pass.end(), [&](const Operator& op) {
      return op.pass == which && op.transfer.collective != Collective::kNone;
    });
  };
  EXPECT_EQ(exchanges(layer.backward, Pass::kRecompute), exchanges(layer.forward, Pass::kForward));
}

// Each class drops its tensors and no other.
TEST_F(RecomputeTest, ClassesAreApart) {
  lower_with({{"recompute", "none"}});
  const Names all = kept_names(layer);
  for (const auto& [element, dropped] :
       std::initializer_list<std::pair<const char*, Names>>{{"norm", {"ln1_out", "ln1_stats", "ln2_out", "ln2_stats"}},
                                                            {"activation", {"swiglu", "dense_act"}},
                                                            {"dispatch", {"scatter"}},
                                                            {"attention_out", {"attn_a2a"}},
                                                            {"expert", {"fc1", "dense_fc1"}}}) {
    lower_with({{"recompute", element}});
    Names expected = all;
    for (const std::string& name : dropped) expected.erase(name);
    EXPECT_EQ(kept_names(layer), expected) << element;
  }
}

// Tensor ranks keep the tokens that they gathered: nothing needs the first norm again, whose statistics stay.
TEST_F(RecomputeTest, NormsDoNotRunAgainForTheirStatistics) {
  lower_with({{"attention", "tp"}, {"recompute", "norm"}});
  EXPECT_EQ(rebuilt(), (std::vector<std::string>{"ln2"}));
  EXPECT_EQ(kept_names(layer).count("ln1_stats"), 1u);
  EXPECT_EQ(kept_names(layer).count("ln1_out"), 0u);
  EXPECT_EQ(kept_names(layer).count("ln2_stats"), 0u);
}

// What runs again is marked so, down to the parts of fused operators.
TEST_F(RecomputeTest, PartsOfWhatRunsAgainRunAgain) {
  lower_with({{"recompute", "full"}, {"overlap", "intra"}});
  int parts = 0;
  for (const Operator& op : layer.backward) {
    for (const Operator& part : op.parts) {
      EXPECT_EQ(part.pass, op.pass) << part.name;
      if (part.pass == Pass::kRecompute) ++parts;
    }
  }
  EXPECT_GT(parts, 0);
}

// DeepSeek-V3: queries, keys and values of 128 heads, 192 + 192 + 128 wide, come back from streams of 1536 + 512 + 64.
TEST_F(RecomputeTest, UpProjectionOfLatentAttention) {
  model = find_model("deepseek-v3");
  lower_with({{"attention", "tp"}, {"attention_degree", "1"}, {"recompute", "none"}});
  const Bytes before = layer.kept;
  lower_with({{"attention", "tp"}, {"attention_degree", "1"}, {"recompute", "up_projection"}});
  EXPECT_DOUBLE_EQ((before - layer.kept).count, 8192.0 * 128 * (192 + 192 + 128) * 2);
  EXPECT_DOUBLE_EQ(flops_of(layer.backward, of_pass(Pass::kRecompute)),
                   2 * 8192.0 * (1536 * 128 * 192 + 512 * 128 * (128 + 128)));
}

}  // namespace
}  // namespace msmoe
