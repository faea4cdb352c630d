// What an executor relies on: which tensors operators read and write, in which order, and how large they are.
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "tests/core/data_flow_checker.h"
#include "tests/core/lowering_samples.h"

namespace msmoe {
namespace {

using Names = std::vector<std::string>;

Names names_of_tensors(const Module& module, const std::vector<std::int16_t>& ids) {
  Names names;
  for (const std::int16_t id : ids) names.emplace_back(module.tensors[static_cast<std::size_t>(id)].name);
  return names;
}

// REQUIRES that the tensor is there.
double size_of(const Module& module, const std::string& name) {
  return std::find_if(module.tensors.begin(), module.tensors.end(), [&](const Tensor& t) { return t.name == name; })
      ->size.count;
}

void expect_reads_and_writes(const Module& module, const Operator& op, const Names& reads, const Names& writes) {
  EXPECT_EQ(names_of_tensors(module, op.reads), reads) << op.name;
  EXPECT_EQ(names_of_tensors(module, op.writes), writes) << op.name;
}

Module lower_last_layer(const Model& model, const Plan& plan) {
  return lower_layer(model, plan, model.layers.back(), {});
}

// ---- Routed experts

class RoutedTensors : public testing::Test {
 protected:
  void lower_with(const Fields& fields) {
    plan = plan_with({{"attention", "sp"}, {"attention_degree", "8"}});
    for (const auto& [key, value] : fields) set_plan_field(plan, key, value);
    layer = lower_last_layer(model, plan);
  }
  void expect_forward(const char* name, const Names& reads, const Names& writes) const {
    expect_reads_and_writes(layer, find_operator(layer.forward, name), reads, writes);
  }
  void expect_backward(const char* name, const Names& reads, const Names& writes) const {
    expect_reads_and_writes(layer, find_operator(layer.backward, name), reads, writes);
  }

  const Model model = find_model("mixtral-8x7b");  // 8 experts, 2 a token
  Plan plan;
  Module layer;
};

// Routes are of the tokens, arrivals of the rows: the first exchange brings them, and all that follows reads them.
TEST_F(RoutedTensors, AllToAll) {
  lower_with({{"ep", "4"}, {"etp", "2"}});
  expect_forward("router", {"ln2_out"}, {"router_logits"});
  expect_forward("topk", {"router_logits"}, {"router_probs", "routes"});
  expect_forward("permute", {"ln2_out", "routes"}, {"permute"});
  expect_forward("dispatch", {"permute", "routes"}, {"dispatch", "arrivals"});
  expect_forward("dispatch_etp", {"dispatch", "routes"}, {"dispatch_etp", "arrivals"});
  expect_forward("scatter", {"dispatch_etp", "routes", "arrivals"}, {"scatter"});
  expect_forward("fc1", {"scatter", "arrivals"}, {"fc1"});
  expect_forward("swiglu", {"fc1", "arrivals"}, {"swiglu"});
  expect_forward("fc2", {"swiglu", "arrivals"}, {"fc2"});
  expect_forward("gather", {"fc2", "routes", "arrivals"}, {"gather"});
  expect_forward("combine_etp", {"gather", "routes", "arrivals"}, {"combine_etp"});
  expect_forward("combine", {"combine_etp", "routes", "arrivals"}, {"combine"});
  expect_forward("unpermute", {"combine", "routes", "arrivals"}, {"unpermute"});

  expect_backward("d_unpermute", {"d_hidden_out", "routes", "arrivals"}, {"d_unpermute"});
  expect_backward("d_combine", {"d_unpermute", "routes", "arrivals"}, {"d_combine"});
  expect_backward("d_combine_etp", {"d_combine", "routes", "arrivals"}, {"d_combine_etp"});
  expect_backward("d_gather", {"d_combine_etp", "routes", "arrivals"}, {"d_gather"});
  expect_backward("d_fc2", {"d_gather", "arrivals"}, {"d_fc2"});
  expect_backward("w_fc2", {"swiglu", "d_gather", "arrivals"}, {});
  expect_backward("d_swiglu", {"fc1", "arrivals", "d_fc2"}, {"d_swiglu", "d_gates"});
  expect_backward("d_fc1", {"d_swiglu", "arrivals"}, {"d_fc1"});
  expect_backward("w_fc1", {"scatter", "d_swiglu", "arrivals"}, {});
  expect_backward("d_scatter", {"d_fc1", "routes", "arrivals"}, {"d_scatter"});
  expect_backward("d_topk", {"router_logits", "router_probs", "routes", "d_gates", "arrivals"}, {"d_topk"});
}

TEST_F(RoutedTensors, AllGather) {
  lower_with({{"ep", "8"}, {"dispatch", "ag_rs"}});
  expect_forward("dispatch", {"ln2_out", "routes"}, {"dispatch", "arrivals"});
  expect_forward("scatter", {"dispatch", "routes", "arrivals"}, {"scatter"});
  expect_forward("gather", {"fc2", "routes", "arrivals"}, {"gather"});
  expect_forward("combine", {"gather", "routes", "arrivals"}, {"combine"});
  expect_backward("d_combine", {"d_hidden_out", "routes", "arrivals"}, {"d_combine"});
}

// A rank with all experts learns of its rows as it permutes them.
TEST_F(RoutedTensors, Alone) {
  lower_with({{"ep", "1"}});
  expect_forward("permute", {"ln2_out", "routes"}, {"permute", "arrivals"});
  expect_backward("d_unpermute", {"d_hidden_out", "routes", "arrivals"}, {"d_unpermute"});
  lower_with({{"ep", "1"}, {"dispatch", "ag_rs"}});
  expect_forward("scatter", {"ln2_out", "routes"}, {"scatter", "arrivals"});
}

// 1024 tokens a rank make 2048 copies, and ep 4, etp 2 ranks have 4096 rows of 2 experts each. Gradients of gates: by
// row as they lie and as they arrived; of the copies as they come back and by token. Where tokens are gathered, also of
// all 16384 copies.
TEST_F(RoutedTensors, Sizes) {
  lower_with({{"ep", "4"}, {"etp", "2"}});
  EXPECT_EQ(size_of(layer, "routes"), (2048 * 4 + 9 + 8) * 4);
  EXPECT_EQ(size_of(layer, "arrivals"), (4096 * 4 + 8 * 2 + 3) * 4);
  EXPECT_EQ(size_of(layer, "d_gates"), (2 * 4096 + 2 * 2048) * 4);
  lower_with({{"ep", "8"}, {"dispatch", "ag_rs"}, {"micro_batch", "2"}});
  EXPECT_EQ(size_of(layer, "routes"), (4096 * 4 + 9 + 2 * 8) * 4);
  EXPECT_EQ(size_of(layer, "arrivals"), (4096 * 4 + 8 * 1 + 2 + 32768 * 4 + 9 + 2 * 8) * 4);
  EXPECT_EQ(size_of(layer, "d_gates"), (2 * 4096 + 32768 + 2 * 4096) * 4);
}

// ---- Attention

// Qwen3-30B: 32 heads and 4 key/value heads of 128, normed. Two tensor ranks have 16 and 2 of them.
TEST(AttentionTensors, NormsOfQueriesAndKeysKeepWhatTheyNorm) {
  Model qwen = find_model("qwen3-30b-a3b");
  const Plan plan = plan_with({{"attention_degree", "2"}});
  const Module layer = lower_last_layer(qwen, plan);
  expect_reads_and_writes(layer, find_operator(layer.forward, "rope"), {"qkv"}, {"qkv_rope", "qk_norm_stats"});
  expect_reads_and_writes(layer, find_operator(layer.backward, "d_rope"), {"d_attention", "qkv", "qk_norm_stats"},
                          {"d_rope"});
  EXPECT_TRUE(kept_names(layer).contains("qkv") && kept_names(layer).contains("qk_norm_stats"));
  EXPECT_EQ(size_of(layer, "qk_norm_stats"), 8192 * (16 + 2) * 4);
  // Gates are projected with the queries, and not normed; a layer without keys of its own norms none.
  qwen.kinds[0].attention.output_gate = true;
  EXPECT_EQ(size_of(lower_last_layer(qwen, plan), "qk_norm_stats"), 8192 * (16 + 2) * 4);
  qwen.kinds[0].attention.shares_kv = true;
  EXPECT_EQ(size_of(lower_last_layer(qwen, plan), "qk_norm_stats"), 8192 * 16 * 4);

  const Module plain = lower_last_layer(find_model("mixtral-8x7b"), plan);
  expect_reads_and_writes(plain, find_operator(plain.forward, "rope"), {"qkv"}, {"qkv_rope"});
  expect_reads_and_writes(plain, find_operator(plain.backward, "d_rope"), {"d_attention"}, {"d_rope"});
  EXPECT_FALSE(kept_names(plain).contains("qkv"));
}

// A recompute set with norms keeps one of what is normed and the norms' result, unless that has gone through Ulysses'
// exchange, which no norm brings back.
TEST(AttentionTensors, NormedQueriesAndKeysAreRebuilt) {
  const Model qwen = find_model("qwen3-30b-a3b");
  for (const auto& [attention, kept, gone] :
       {std::tuple{"tp", "qkv", "qkv_rope"}, {"cp", "qkv", "qkv_rope"}, {"sp", "qkv_a2a", "qkv_rope"}}) {
    const Plan plan = plan_with({{"attention", attention}, {"attention_degree", "4"}, {"recompute", "norm"}});
    const Module layer = lower_last_layer(qwen, plan);
    EXPECT_TRUE(kept_names(layer).contains(kept) && kept_names(layer).contains("qkv")) << attention;
    EXPECT_FALSE(kept_names(layer).contains(gone)) << attention;
    EXPECT_EQ(has_operator(layer.backward, "rope"), std::string(attention) != "sp") << attention;
    DataFlow(layer).check();
  }
}

// DeepSeek-V3 on 8 tensor ranks: 16 heads of 192 (128 and a rotary part of 64 that all share) and values of 128; 1024
// tokens of a shard compressed to 1536 + 512 + 64, each of the first two normed.
TEST(AttentionTensors, LatentAttention) {
  const Model v3 = find_model("deepseek-v3");
  const Plan plan = plan_with({{"attention_degree", "8"}, {"recompute", "none"}});
  const Module layer = lower_last_layer(v3, plan);
  expect_reads_and_writes(layer, find_operator(layer.forward, "latent_norm"), {"latent_down"},
                          {"latent", "latent_stats"});
  expect_reads_and_writes(layer, find_operator(layer.forward, "rope"), {"queries", "kv_up", "latent_ag"}, {"qkv_rope"});
  EXPECT_EQ(size_of(layer, "latent_down"), 1024 * 2112 * 2);
  EXPECT_EQ(size_of(layer, "latent_stats"), 1024 * 2 * 4);
  EXPECT_EQ(size_of(layer, "queries"), 8192 * 16 * 192 * 2);
  EXPECT_EQ(size_of(layer, "kv_up"), 8192 * 16 * (128 + 128) * 2);
  const std::set<std::string> kept = kept_names(layer);
  for (const char* name : {"latent_down", "latent_stats", "latent_ag", "qkv_rope", "ln1_out"})
    EXPECT_TRUE(kept.contains(name)) << name;
  for (const char* name : {"latent", "queries", "kv_up"}) EXPECT_FALSE(kept.contains(name)) << name;

  // The gradient of what is compressed is written from two sides, of keys and values first.
  expect_reads_and_writes(layer, find_operator(layer.backward, "d_kv_up"), {"d_rope"}, {"d_kv_up"});
  expect_reads_and_writes(layer, find_operator(layer.backward, "d_q_up"), {"d_rope", "d_kv_up"}, {"d_kv_up"});
  expect_reads_and_writes(layer, find_operator(layer.backward, "d_latent_norm"),
                          {"latent_down", "latent_stats", "d_latent_rs"}, {"d_latent_norm"});
  EXPECT_EQ(size_of(layer, "d_rope"), 8192 * (16 * (192 + 128 + 128) + 64) * 2);
  EXPECT_EQ(size_of(layer, "d_kv_up"), 8192 * 2112 * 2);

  // Uncompressed queries come from the tokens, 2048 wide, and so does their gradient.
  const Module lite = lower_last_layer(find_model("deepseek-v2-lite"), plan);
  expect_reads_and_writes(lite, find_operator(lite.forward, "q_up"), {"ln1_ag"}, {"queries"});
  expect_reads_and_writes(lite, find_operator(lite.backward, "d_q_up"), {"d_rope"}, {"d_q_up"});
  EXPECT_EQ(size_of(lite, "d_q_up"), 8192 * 2048 * 2);
  EXPECT_EQ(size_of(lite, "latent_stats"), 1024 * 4);
}

// Keys and values of 8192 tokens, 8 heads of 128 + 128, for a pass at a time; with their gradients backward.
TEST(AttentionTensors, RingGathersKeysAndValues) {
  const Model mixtral = find_model("mixtral-8x7b");
  const Module layer = lower_last_layer(mixtral, plan_with({{"attention", "cp"}, {"attention_degree", "8"}}));
  expect_reads_and_writes(layer, find_operator(layer.forward, "attention"), {"qkv_rope"},
                          {"attn", "attn_stats", "kv_ring"});
  expect_reads_and_writes(layer, find_operator(layer.backward, "d_attention"),
                          {"qkv_rope", "attn", "attn_stats", "d_out"}, {"d_attention", "d_kv_ring"});
  EXPECT_EQ(size_of(layer, "kv_ring"), 8192 * 8 * 256 * 2);
  EXPECT_EQ(size_of(layer, "d_kv_ring"), 2 * 8192 * 8 * 256 * 2);
  EXPECT_FALSE(kept_names(layer).contains("kv_ring"));
}

// ---- All modules

// Norms leave one number of each token, in fp32.
TEST(ModuleTensors, StatisticsOfNorms) {
  const Module layer =
      lower_last_layer(find_model("mixtral-8x7b"), plan_with({{"attention", "sp"}, {"attention_degree", "8"}}));
  expect_reads_and_writes(layer, find_operator(layer.forward, "ln1"), {"hidden"}, {"ln1_out", "ln1_stats"});
  expect_reads_and_writes(layer, find_operator(layer.backward, "d_ln1"), {"hidden", "ln1_stats", "d_qkv", "d_ln2"},
                          {"d_ln1"});
  EXPECT_EQ(size_of(layer, "ln1_stats"), 1024 * 4);
  EXPECT_EQ(size_of(layer, "ln2_stats"), 1024 * 4);
}

TEST(ModuleTensors, WhatPassesFromModuleToModule) {
  const Model v3 = find_model("deepseek-v3");
  for (const char* loss : {"full", "chunked"}) {
    for (const char* recompute : {"none", "selective", "full"}) {
      for (const char* overlap : {"none", "inter", "intra"}) {
        const Plan plan = plan_with({{"attention_degree", "8"},
                                     {"ep", "8"},
                                     {"dispatch", "ag_rs"},
                                     {"loss", loss},
                                     {"recompute", recompute},
                                     {"overlap", overlap}});
        const Module layer = lower_last_layer(v3, plan), embedding = lower_embedding(v3, plan, {}),
                     head = lower_head(v3, plan, {}), predict = lower_predict_layer(v3, plan, {});
        for (const Module* module : {&layer, &embedding, &head, &predict}) DataFlow(*module).check();
        const auto name = [](const Module& module, std::int16_t id) {
          return id < 0 ? std::string("none") : names_of_tensors(module, {id}).front();
        };
        const auto passing = [&](const Module& module) {
          return Names{name(module, module.input), name(module, module.output), name(module, module.output_gradient),
                       name(module, module.input_gradient)};
        };
        EXPECT_EQ(passing(layer), (Names{"hidden", "hidden_out", "d_hidden_out", "d_ln1"}));
        EXPECT_EQ(passing(embedding), (Names{"none", "embedding_rs", "d_embedding_out", "none"}));
        EXPECT_EQ(passing(head), (Names{"hidden", "none", "none", "d_final_norm"}));
        EXPECT_EQ(passing(predict), (Names{"hidden", "none", "none", "d_predict_norms"}));
      }
    }
  }
}

// What tensor ranks hold alike outside the layers: the final norm (7168), and the prediction layer's projection and
// three norms beside those of its layer. The vocabulary is split.
TEST(ModuleTensors, SharedParametersOutsideLayers) {
  const Model v3 = find_model("deepseek-v3");
  const Plan plan = plan_with({{"attention_degree", "8"}});
  EXPECT_EQ(lower_embedding(v3, plan, {}).parameters.shared, 0);
  EXPECT_EQ(lower_head(v3, plan, {}).parameters.shared, 7168);
  const double layer = lower_layer(v3, plan, v3.predict_kind, {}).parameters.shared;
  EXPECT_GT(layer, 0);
  EXPECT_EQ(lower_predict_layer(v3, plan, {}).parameters.shared, layer + 2.0 * 7168 * 7168 + 3 * 7168);
  // Ulysses ranks are replicas of each other, whose gradients meet in the data group.
  const Plan sequence = plan_with({{"attention", "sp"}, {"attention_degree", "8"}});
  for (const Module& module : {lower_head(v3, sequence, {}), lower_predict_layer(v3, sequence, {}),
                               lower_layer(v3, sequence, v3.predict_kind, {})})
    EXPECT_EQ(module.parameters.shared, 0);
}

// Qwen3-30B has 4 key/value heads: two of 8 tensor ranks have the same, h (128 + 128) weights, beside the router and
// the norms; a layer that projects none shares none.
TEST(ModuleTensors, SharedKeyAndValueHeads) {
  Model qwen = find_model("qwen3-30b-a3b");
  const auto shared = [&](const char* degree) {
    return lower_last_layer(qwen, plan_with({{"attention_degree", degree}})).parameters.shared;
  };
  EXPECT_EQ(shared("8") - shared("4"), 2048 * (128 + 128));
  qwen.kinds[0].attention.shares_kv = true;
  EXPECT_EQ(shared("8"), shared("4"));
}

// In fp32 all tensors are twice as large, but those that are fp32 or integers anyway.
TEST(ModuleTensors, Fp32DoublesActivations) {
  const std::set<std::string> wide = {"ln1_stats",  "ln2_stats", "qk_norm_stats", "latent_stats", "final_norm_stats",
                                      "attn_stats", "routes",    "arrivals",      "d_gates",      "router_logits",
                                      "d_topk",     "loss",      "logits_fp32",   "router_probs"};
  for (const char* name : {"mixtral-8x7b", "megascale-352b", "deepseek-v3", "qwen3-30b-a3b"}) {
    const Model model = find_model(name);
    for (const Plan& plan : grid_of_plans(model)) {
      Plan fp32 = plan;
      fp32.precision = Precision::kFp32;
      fp32.act_wire = fp32.grad_wire = WireFormat::kFp32;
      const auto modules = [&](const Plan& wanted) {
        return std::vector<Module>{lower_last_layer(model, wanted), lower_embedding(model, wanted, {}),
                                   lower_head(model, wanted, {})};
      };
      const std::vector<Module> narrow = modules(plan), doubled = modules(fp32);
      for (std::size_t m = 0; m < narrow.size(); ++m) {
        ASSERT_EQ(narrow[m].tensors.size(), doubled[m].tensors.size());
        for (std::size_t id = 0; id < narrow[m].tensors.size(); ++id) {
          const Tensor &tensor = narrow[m].tensors[id], &twice = doubled[m].tensors[id];
          EXPECT_EQ(twice.size.count, tensor.size.count * (wide.contains(tensor.name) ? 1 : 2)) << tensor.name;
        }
        EXPECT_EQ(flops_of(doubled[m].forward), flops_of(narrow[m].forward));
        for (const Operator& op : doubled[m].forward) {
          if (op.compute.flops.count > 0) {
            EXPECT_EQ(op.compute.precision, Precision::kFp32) << op.name;
          }
        }
      }
      EXPECT_EQ(lower_pipeline_send(model, fp32).transfer.payload.count,
                2 * lower_pipeline_send(model, plan).transfer.payload.count);
      if (HasFailure()) return;
    }
  }
}

// FP8 multiplies, and what lies in memory is bf16; attention, router and head are of no less.
TEST(ModuleTensors, Fp8KeepsBf16) {
  const Model mixtral = find_model("mixtral-8x7b");
  const Plan bf16 = plan_with({{"ep", "8"}}), fp8 = plan_with({{"ep", "8"}, {"precision", "fp8"}});
  const Module narrow = lower_last_layer(mixtral, fp8), layer = lower_last_layer(mixtral, bf16);
  EXPECT_EQ(narrow.kept, layer.kept);
  EXPECT_EQ(narrow.backward_peak, layer.backward_peak);
  for (const char* name : {"qkv", "out", "fc1", "fc2"})
    EXPECT_EQ(find_operator(narrow.forward, name).compute.precision, Precision::kFp8) << name;
  for (const char* name : {"attention", "router"})
    EXPECT_EQ(find_operator(narrow.forward, name).compute.precision, Precision::kBf16) << name;
}

// ---- Fused operators

// A line for each operator that does something by itself, with all that an executor sees of it.
std::multiset<std::string> unfused(const Module& module, const Operators& operators) {
  std::multiset<std::string> lines;
  const auto add = [&](const Operator& op) {
    std::string line = op.name;
    line += " pass " + std::to_string(static_cast<int>(op.pass)) + " stream " +
            std::to_string(static_cast<int>(op.stream)) + " flops " + std::to_string(op.compute.flops.count) + " hbm " +
            std::to_string(op.compute.hbm.count) + " payload " + std::to_string(op.transfer.payload.count) + " sms " +
            std::to_string(op.sms) + ":";
    for (const auto* ids : {&op.reads, &op.writes}) {
      for (const std::string& name : names_of_tensors(module, *ids)) line += " " + name;
      line += " ->";
    }
    lines.insert(line);
  };
  for (const Operator& op : operators) {
    if (op.parts.empty()) add(op);
    for (const Operator& part : op.parts) add(part);
  }
  return lines;
}

TEST(FusedOperators, PartsAreWhatIsEmittedWithoutFusion) {
  for (const char* name : {"mixtral-8x7b", "megascale-352b", "deepseek-v3", "qwen3-30b-a3b"}) {
    const Model model = find_model(name);
    int fused = 0;
    for (Plan plan : grid_of_plans(model)) {
      for (const char* recompute : {"none", "selective", "full"}) {
        set_plan_field(plan, "recompute", recompute);
        set_plan_field(plan, "overlap", "inter");
        const Module apart = lower_last_layer(model, plan);
        for (const char* overlap : {"decomposed", "intra"}) {
          set_plan_field(plan, "overlap", overlap);
          SCOPED_TRACE(describe_plan(plan));
          const Module layer = lower_last_layer(model, plan);
          EXPECT_EQ(unfused(layer, layer.forward), unfused(apart, apart.forward));
          EXPECT_EQ(unfused(layer, layer.backward), unfused(apart, apart.backward));
          fused +=
              static_cast<int>(names_of(layer.forward, [](const Operator& op) { return !op.parts.empty(); }).size());
          if (HasFailure()) return;
        }
      }
    }
    EXPECT_GT(fused, 0);
  }
}

// A fused operator reads what comes from outside, and writes all that its parts write, in their order; parts have what
// they read before they run.
TEST(FusedOperators, ReadAndWriteWhatPartsDo) {
  const Model model = find_model("megascale-352b");
  const Plan plan = plan_with(
      {{"attention", "sp"}, {"attention_degree", "8"}, {"ep", "8"}, {"dispatch", "ag_rs"}, {"overlap", "intra"}});
  const Module layer = lower_last_layer(model, plan);
  for (const Operators* pass : {&layer.forward, &layer.backward}) {
    for (const Operator& op : *pass) {
      if (op.parts.empty()) continue;
      std::vector<std::int16_t> written;
      std::set<std::int16_t> outside;
      for (const Operator& part : op.parts) {
        for (const std::int16_t id : part.reads)
          if (std::find(written.begin(), written.end(), id) == written.end()) outside.insert(id);
        written.insert(written.end(), part.writes.begin(), part.writes.end());
      }
      EXPECT_EQ(op.writes, written) << op.name;
      EXPECT_EQ(std::set<std::int16_t>(op.reads.begin(), op.reads.end()), outside) << op.name;
    }
  }
}

}  // namespace
}  // namespace msmoe
