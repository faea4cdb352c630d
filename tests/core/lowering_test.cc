// Properties of every lowered module, over a grid of plans; the modules outside the layers; whole programs.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/core/data_flow_checker.h"
#include "tests/core/lowering_samples.h"

namespace msmoe {
namespace {

const char* const kModels[] = {"mixtral-8x7b", "megascale-352b", "deepseek-v3",  "deepseek-v2-lite", "qwen3-30b-a3b",
                               "gpt-oss-120b", "hunyuan-large",  "llama4-scout", "deepseek-moe-16b"};
const char* const kRecomputeSetsTried[] = {"none", "selective", "full", "norm", "dispatch", "attention", "expert"};
const char* const kOverlaps[] = {"none", "inter", "intra"};

double matrices_of(const LayerParameters& count, std::int64_t top_k) {
  return static_cast<double>(count.attention_matrices + count.router_matrices + count.dense_matrices +
                             top_k * count.expert_matrices);
}

class EveryModel : public testing::TestWithParam<const char*> {
 protected:
  template <class Check>  // check(plan, layer kind, its index)
  void for_each_layer(const Check& check) {
    for (Plan& plan : grid_of_plans(model)) {
      for (std::size_t kind = 0; kind < model.kinds.size(); ++kind) {
        SCOPED_TRACE(describe_plan(plan));
        check(plan, model.kinds[kind], static_cast<int>(kind));
        if (HasFatalFailure()) return;
      }
    }
  }
  const Model model = find_model(GetParam());
};

// The ranks that share a micro-batch do the layer's work between them, however it is split: 2 FLOPs per active matrix
// parameter and token, and 2 * heads * (query width + value width) * average span per token for attention.
TEST_P(EveryModel, ForwardFlopsDoNotDependOnThePlan) {
  for_each_layer([&](const Plan& plan, const LayerKind& kind, int kind_idx) {
    const Module layer = lower_layer(model, plan, kind_idx, {});
    const double tokens = static_cast<double>(plan.micro_batch * plan.seq_len);
    const auto widths =
        static_cast<double>(kind.attention.heads * (kind.attention.head_dim + kind.attention.value_dim));
    const double expected = 2 * tokens * matrices_of(count_layer(model, kind), kind.feed_forward.top_k) +
                            2 * tokens * widths * average_span(kind.attention, plan.seq_len);
    const double found = flops_of(layer.forward) * static_cast<double>(plan.attention_ranks());
    EXPECT_NEAR(found / expected, 1, 1e-12);
  });
}

// Backward multiplies each output gradient with the weights and with the inputs: as much work each as forward. Of
// attention it does five products where forward does two (FlashAttention-2, arXiv 2307.08691).
TEST_P(EveryModel, BackwardIsTwiceForward) {
  for_each_layer([&](const Plan& plan, const LayerKind&, int kind_idx) {
    const Module layer = lower_layer(model, plan, kind_idx, {});
    const double attention = flops_of(layer.forward, is_attention);
    const double matrices = flops_of(layer.forward) - attention;
    EXPECT_NEAR(flops_of(layer.backward, of_pass(Pass::kBackwardWeight)) / matrices, 1, 1e-12);
    EXPECT_NEAR(flops_of(layer.backward, of_pass(Pass::kBackwardInput)) / (matrices + 2.5 * attention), 1, 1e-12);
  });
}

// Gradients are exchanged as tokens are; only the ring of context parallelism carries twice as much backward.
TEST_P(EveryModel, BackwardSendsWhatForwardSends) {
  for_each_layer([&](const Plan& plan, const LayerKind&, int kind_idx) {
    const Module layer = lower_layer(model, plan, kind_idx, {});
    const Choose ring = [](const Operator& op) { return is_attention(op); };
    const Choose others = [](const Operator& op) { return !is_attention(op); };
    EXPECT_NEAR(sent_elements(layer.backward, plan, others), sent_elements(layer.forward, plan, others), 1);
    EXPECT_NEAR(sent_elements(layer.backward, plan, ring), 2 * sent_elements(layer.forward, plan, ring), 1);
  });
}

// Splitting parameters loses none: attention ranks hold matrices whole (or, by tensor parallelism, each 1/n of them),
// norms and the router whole; ep * etp ranks share the experts' matrices, and the ep ranks their biases. What tensor
// ranks hold whole, each for the tokens of its shard, is shared.
TEST_P(EveryModel, ParametersAddUp) {
  for_each_layer([&](const Plan& plan, const LayerKind& kind, int kind_idx) {
    const Module layer = lower_layer(model, plan, kind_idx, {});
    const LayerParameters count = count_layer(model, kind);
    const bool splits = plan.attention == AttentionParallelism::kTensor;
    const double split = splits ? static_cast<double>(plan.attention_degree) : 1;
    const Attention& attention = kind.attention;
    const bool latent = attention.kind == AttentionKind::kLatent;
    // The compressions of latent attention are small, and held whole.
    const double whole =
        latent ? static_cast<double>(model.hidden * (attention.query_rank + attention.kv_rank + attention.rope_dim))
               : 0;
    const double cut = static_cast<double>(count.attention_matrices + count.dense_matrices) - whole;
    const auto vectors = static_cast<double>(count.attention_vectors + count.norm_vectors + count.feed_forward_vectors);
    const double alike = whole + static_cast<double>(count.router_matrices) + vectors;
    EXPECT_DOUBLE_EQ(layer.parameters.dense, cut / split + alike);
    EXPECT_DOUBLE_EQ(layer.parameters.shared, split > 1 ? alike : 0);
    const double expert =
        static_cast<double>(count.experts * count.expert_matrices) / static_cast<double>(plan.expert_ranks());
    const double expert_vectors =
        static_cast<double>(count.experts * count.expert_vectors) / static_cast<double>(plan.ep);
    EXPECT_NEAR(layer.parameters.expert, expert + expert_vectors, 1);
  });
}

// Overlap changes streams and fuses operators; the work, and what crosses the wires, stay.
TEST_P(EveryModel, OverlapKeepsWorkAndTraffic) {
  for_each_layer([&](const Plan& plan, const LayerKind&, int kind_idx) {
    for (const char* recompute : {"none", "selective"}) {
      Plan variant = plan;
      set_plan_field(variant, "recompute", recompute);
      set_plan_field(variant, "overlap", "none");
      const Module serial = lower_layer(model, variant, kind_idx, {});
      for (const char* overlap : {"inter", "intra"}) {
        set_plan_field(variant, "overlap", overlap);
        const Module layer = lower_layer(model, variant, kind_idx, {});
        EXPECT_EQ(layer.kept, serial.kept);
        EXPECT_NEAR(flops_of(layer.forward) / flops_of(serial.forward), 1, 1e-12);
        EXPECT_NEAR(flops_of(layer.backward) / flops_of(serial.backward), 1, 1e-12);
        for (int kind = 0; kind < kNumGroupKinds; ++kind) {
          const Choose group = over_group(static_cast<GroupKind>(kind));
          EXPECT_NEAR(sent_elements(layer.forward, plan, group), sent_elements(serial.forward, plan, group), 1);
          EXPECT_NEAR(sent_elements(layer.backward, plan, group), sent_elements(serial.backward, plan, group), 1);
        }
      }
    }
  });
}

// Fused operators come with intra-operator overlap alone (the ring overlaps by nature); without overlap all operators
// share one stream; with it, transfers have one of their own.
TEST_P(EveryModel, OverlapLevels) {
  for_each_layer([&](const Plan& plan, const LayerKind&, int kind_idx) {
    for (const char* overlap : kOverlaps) {
      Plan variant = plan;
      set_plan_field(variant, "overlap", overlap);
      const Module layer = lower_layer(model, variant, kind_idx, {});
      for (const Operators* pass : {&layer.forward, &layer.backward}) {
        for (const Operator& op : *pass) {
          if (is_fused(op)) {
            EXPECT_TRUE(is_attention(op) || variant.in_layer_overlap == InLayerOverlap::kIntraOperator) << op.name;
          }
          const bool moves = op.compute.kind == ComputeKind::kNone;
          const bool apart = moves && variant.in_layer_overlap != InLayerOverlap::kNone;
          EXPECT_EQ(op.stream, apart ? Stream::kCommunication : Stream::kCompute) << op.name;
        }
      }
    }
  });
}

TEST_P(EveryModel, NothingIsReadBeforeItIsThere) {
  for_each_layer([&](const Plan& plan, const LayerKind&, int kind_idx) {
    for (const char* recompute : kRecomputeSetsTried) {
      for (const char* overlap : kOverlaps) {
        Plan variant = plan;
        set_plan_field(variant, "recompute", recompute);
        set_plan_field(variant, "overlap", overlap);
        SCOPED_TRACE(std::string(recompute) + " " + overlap);
        const Module layer = lower_layer(model, variant, kind_idx, {});
        DataFlow(layer).check();
        if (HasFailure()) return;
      }
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Shipped, EveryModel, testing::ValuesIn(kModels), [](const auto& param_info) {
  std::string name = param_info.param;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
  return name;
});

TEST(Module, PeaksFollowFromLifetimes) {
  const Model model = find_model("megascale-352b");
  for (const char* recompute : kRecomputeSetsTried) {
    for (const char* overlap : kOverlaps) {
      const Plan plan = plan_with({{"attention", "sp"},
                                   {"attention_degree", "8"},
                                   {"ep", "8"},
                                   {"dispatch", "ag_rs"},
                                   {"recompute", recompute},
                                   {"overlap", overlap}});
      for (const Module& module : {lower_layer(model, plan, 0, {}), lower_head(model, plan, {})}) {
        EXPECT_DOUBLE_EQ(module.forward_peak.count, DataFlow(module).peak(module.forward));
        EXPECT_DOUBLE_EQ(module.backward_peak.count, DataFlow(module).peak(module.backward));
      }
    }
  }
}

// Tile-level operators reach their peers over NVLink: a group of 8 is fused in a node of 8, not over two of 4.
TEST(Module, FusesInsideANodeOnly) {
  const Model model = find_model("megascale-352b");
  const Plan plan = plan_with(
      {{"attention", "sp"}, {"attention_degree", "8"}, {"ep", "8"}, {"dispatch", "ag_rs"}, {"overlap", "intra"}});
  EXPECT_EQ(names_of(lower_layer(model, plan, 0, {.gpus_per_node = 8}).forward, is_fused),
            (std::vector<std::string>{"qkv+a2a", "a2a+out", "ag+scatter+fc1", "fc2+gather+rs"}));
  EXPECT_TRUE(names_of(lower_layer(model, plan, 0, {.gpus_per_node = 4}).forward, is_fused).empty());
}

// ---- Outside the layers.

// A head of 4096 x 32000 over 8192 tokens: 2 * 8192 * 4096 * 32000 FLOPs forward, three times that in all. In chunks
// everything happens backward, and no more of it.
TEST(Head, ChunkedLossDoesTheSameWork) {
  const Model mixtral = find_model("mixtral-8x7b");
  const double product = 2.0 * 8192 * 4096 * 32000;
  const Module full = lower_head(mixtral, plan_with({{"loss", "full"}}), {});
  const Module chunked = lower_head(mixtral, plan_with({{"loss", "chunked"}}), {});
  EXPECT_DOUBLE_EQ(flops_of(full.forward), product);
  EXPECT_DOUBLE_EQ(flops_of(full.backward), 2 * product);
  EXPECT_EQ(flops_of(chunked.forward), 0);
  EXPECT_DOUBLE_EQ(flops_of(chunked.backward), 3 * product);
  EXPECT_EQ(find_operator(chunked.backward, "head").compute.kernels, 4);  // of 2048 tokens
}

// Full: bf16 logits of 8192 tokens are kept with their maximum, sum and target, and stand beside fp32 ones for a while.
// Chunked: 2048 tokens at a time, bf16 logits, their gradient or the fp32 ones, and never kept. The norm keeps its
// input, its result, and one number of each token.
TEST(Head, LogitsInMemory) {
  const Model mixtral = find_model("mixtral-8x7b");
  const double logits = 8192.0 * 32000, hidden = 8192.0 * 4096 * 2;
  const Module full = lower_head(mixtral, plan_with({{"loss", "full"}}), {});
  EXPECT_EQ(kept_names(full), (std::set<std::string>{"hidden", "final_norm", "final_norm_stats", "logits", "loss"}));
  EXPECT_DOUBLE_EQ(full.kept.count, 2 * hidden + 8192 * 4 + 2 * logits + 8192 * 3 * 4);
  EXPECT_DOUBLE_EQ(full.forward_peak.count, 4 * logits);
  const Module chunked = lower_head(mixtral, plan_with({{"loss", "chunked"}}), {});
  EXPECT_EQ(kept_names(chunked), (std::set<std::string>{"hidden", "final_norm", "final_norm_stats"}));
  EXPECT_DOUBLE_EQ(chunked.backward_peak.count, (2 + 4) * logits / 4 + 2048 * 3 * 4);
}

// 32000 tokens of vocabulary on 8 tensor ranks: 4000 each, padded to 4096, the next multiple of 128. Ulysses ranks hold
// the whole, 250 * 128.
TEST(Head, VocabularyIsSplitAndPadded) {
  const Model mixtral = find_model("mixtral-8x7b");
  const Plan tensor = plan_with({{"attention", "tp"}, {"attention_degree", "8"}, {"loss", "full"}});
  const Module head = lower_head(mixtral, tensor, {});
  EXPECT_EQ(find_operator(head.forward, "head").compute.n, 4096);
  EXPECT_EQ(find_operator(head.forward, "head").compute.m, 8192);
  EXPECT_DOUBLE_EQ(head.parameters.dense, 4096.0 * 4096 + 4096);  // and the final norm
  EXPECT_DOUBLE_EQ(lower_embedding(mixtral, tensor, {}).parameters.dense, 4096.0 * 4096);

  const Plan sequence = plan_with({{"attention", "sp"}, {"attention_degree", "8"}, {"loss", "full"}});
  const Module whole = lower_head(mixtral, sequence, {});
  EXPECT_EQ(find_operator(whole.forward, "head").compute.n, 32000);
  EXPECT_EQ(find_operator(whole.forward, "head").compute.m, 1024);
  EXPECT_DOUBLE_EQ(lower_embedding(mixtral, sequence, {}).parameters.dense, 32000.0 * 4096);
}

// Tensor ranks look up what lies in their range and sum while they scatter: bsh (n-1)/n, and back. No arithmetic.
TEST(Embedding, PartialLookUpsAreScattered) {
  const Model mixtral = find_model("mixtral-8x7b");
  const Plan plan = plan_with({{"attention", "tp"}, {"attention_degree", "8"}});
  const Module embedding = lower_embedding(mixtral, plan, {});
  EXPECT_EQ(sent_elements(embedding.forward, plan), 8192 * 4096 * 7 / 8);
  EXPECT_EQ(sent_elements(embedding.backward, plan), 8192 * 4096 * 7 / 8);
  EXPECT_EQ(flops_of(embedding.forward) + flops_of(embedding.backward), 0);
  EXPECT_EQ(embedding.kept.count, 0);
}

// DeepSeek-V3's prediction layer: a layer like the last, the projection of both states (2h x h), and the head again,
// whose matrix it shares. What it adds in parameters is what the model counts.
TEST(PredictLayer, IsALayerAProjectionAndTheHead) {
  const Model v3 = find_model("deepseek-v3");
  ASSERT_EQ(v3.predict_layers, 1);
  const Plan plan = plan_with({{"ep", "8"}, {"loss", "full"}});
  const Module predict = lower_predict_layer(v3, plan, {});
  const Module layer = lower_layer(v3, plan, v3.predict_kind, {}), head = lower_head(v3, plan, {});
  const double projection = 2.0 * 8192 * (2 * 7168) * 7168;
  EXPECT_DOUBLE_EQ(flops_of(predict.forward), flops_of(layer.forward) + flops_of(head.forward) + projection);
  EXPECT_DOUBLE_EQ(flops_of(predict.backward), flops_of(layer.backward) + flops_of(head.backward) + 2 * projection);
  EXPECT_DOUBLE_EQ(predict.parameters.dense + 8 * predict.parameters.expert,
                   static_cast<double>(count_parameters(v3).predict_layers));
  for (const char* recompute : kRecomputeSetsTried) {
    const Plan variant = plan_with({{"ep", "8"}, {"recompute", recompute}});
    const Module module = lower_predict_layer(v3, variant, {});
    DataFlow(module).check();
  }
}

// The head's gradients come first, from what it kept; then projection and layer run again, and the head does not.
TEST(PredictLayer, FullRecomputationLeavesTheHeadAlone) {
  const Model v3 = find_model("deepseek-v3");
  for (const char* loss : {"full", "chunked"}) {
    const Plan plan = plan_with({{"ep", "8"}, {"loss", loss}, {"recompute", "full"}});
    const Module predict = lower_predict_layer(v3, plan, {});
    DataFlow(predict).check();
    EXPECT_DOUBLE_EQ(flops_of(predict.backward, of_pass(Pass::kRecompute)),
                     flops_of(lower_layer(v3, plan, v3.predict_kind, {}).forward) + 2.0 * 8192 * (2 * 7168) * 7168);
  }
}

// ZeRO-3 gathers a layer's parameters before each pass over it and sends its gradients after; ZeRO-2 only the latter.
// Experts have replicas of their own.
TEST(Module, ShardedParametersTravelBesideIt) {
  const Model mixtral = find_model("mixtral-8x7b");
  const std::vector<std::string> gathers = {"param_gather", "expert_param_gather"},
                                 reduces = {"grad_reduce", "expert_grad_reduce"};
  std::vector<std::string> both = gathers;
  both.insert(both.end(), reduces.begin(), reduces.end());
  const Choose sync = of_pass(Pass::kSync);
  for (const auto& [zero, forward, backward] :
       {std::tuple{"1", std::vector<std::string>{}, std::vector<std::string>{}},
        std::tuple{"2", std::vector<std::string>{}, reduces}, std::tuple{"3", gathers, both}}) {
    const Plan plan = plan_with({{"ep", "8"}, {"zero", zero}});
    const Module layer = lower_layer(mixtral, plan, 0, {});
    EXPECT_EQ(names_of(layer.forward, sync), forward);
    EXPECT_EQ(names_of(layer.backward, sync), backward);
    for (const Operator& op : layer.backward) {
      if (op.pass != Pass::kSync) continue;
      EXPECT_EQ(op.stream, Stream::kData);
      const bool expert = op.transfer.group == GroupKind::kExpertData;
      EXPECT_DOUBLE_EQ(op.transfer.payload.count,
                       2 * (expert ? layer.parameters.expert : layer.parameters.dense));  // bf16 either way
    }
  }
}

// The head's own matrix is 128,256 * 4096 padded to 128 columns. Tied to the embedding, it is none on the only stage;
// with prediction layers, the last of several stages also holds a copy of the embedding.
TEST(Head, HoldsTheVocabularyOnceForEachUse) {
  auto matrices = [](Model model, bool tied, int predict_layers, const char* pp) {
    model.tied_embeddings = tied;
    model.predict_layers = predict_layers;
    const Plan plan = plan_with({{"pp", pp}});
    const double vocab = 128 * std::ceil(static_cast<double>(model.vocab) / 128);
    return std::round(lower_head(model, plan, {}).parameters.dense / (vocab * static_cast<double>(model.hidden)));
  };
  const Model llama = find_model("llama-3.1-8b");
  EXPECT_EQ(matrices(llama, false, 0, "1"), 1);
  EXPECT_EQ(matrices(llama, false, 0, "2"), 1);
  EXPECT_EQ(matrices(llama, true, 0, "1"), 0);
  EXPECT_EQ(matrices(llama, true, 0, "2"), 1);
  EXPECT_EQ(matrices(llama, false, 1, "1"), 1);
  EXPECT_EQ(matrices(llama, false, 1, "2"), 2);
  EXPECT_EQ(matrices(llama, true, 1, "2"), 1);
}

// ---- Whole programs.

// The 352B plan of MegaScale-MoE, one micro-batch of 8192 tokens over 8 ranks and all stages: 282.5 GFLOP a token
// by the usual count, and half of attention's forward work more, since its backward does 2.5 times forward, not twice.
TEST(Program, FlopsOfAStep) {
  const Model model = find_model("megascale-352b");
  const Plan plan = find_plan("megascale-moe-352b");
  const Program program = lower(model, find_cluster("h800"), plan);
  double flops = 0;
  for (const Stage& stage : program.stages) {
    for (const Chunk& chunk : stage.chunks) {
      for (const std::int16_t module_idx : chunk.modules) {
        const Module& module = program.modules[static_cast<std::size_t>(module_idx)];
        flops += flops_of(module.forward) + flops_of(module.backward);
      }
    }
  }
  const double per_token = flops * 8 / 8192;
  const double attention_forward = 60 * 2.0 * 32 * (128 + 128) * 4096;
  EXPECT_NEAR(per_token, flops_per_token(model, 8192).count + attention_forward / 2, 1);
  EXPECT_NEAR(per_token - attention_forward / 2, 282.51e9, 0.01e9);
}

// 60 layers over 15 stages of two chunks: two layers each, the embedding before the first, the head after the last. All
// layers are one module.
TEST(Program, LaysModulesOverChunks) {
  const Model model = find_model("megascale-352b");
  const Plan plan = find_plan("megascale-moe-352b");
  const Program program = lower(model, find_cluster("h800"), plan);
  ASSERT_EQ(program.modules.size(), 3u);
  ASSERT_EQ(program.stages.size(), 15u);
  std::size_t layers = 0;
  ModuleParameters parameters;
  for (std::size_t stage = 0; stage < 15; ++stage) {
    ASSERT_EQ(program.stages[stage].chunks.size(), 2u);
    EXPECT_EQ(program.stages[stage].slots.size(), 2u * 2 * 60);
    for (std::size_t chunk = 0; chunk < 2; ++chunk) {
      std::vector<ModuleKind> kinds;
      for (const std::int16_t module_idx : program.stages[stage].chunks[chunk].modules)
        kinds.push_back(program.modules[static_cast<std::size_t>(module_idx)].kind);
      layers += static_cast<std::size_t>(std::count(kinds.begin(), kinds.end(), ModuleKind::kLayer));
      const bool first = stage == 0 && chunk == 0, last = stage == 14 && chunk == 1;
      EXPECT_EQ(kinds.front() == ModuleKind::kEmbedding, first);
      EXPECT_EQ(kinds.back() == ModuleKind::kHead, last);
      EXPECT_EQ(kinds.size(), 2u + (first ? 1 : 0) + (last ? 1 : 0));
      parameters.dense += program.stages[stage].chunks[chunk].parameters.dense;
      parameters.expert += program.stages[stage].chunks[chunk].parameters.expert;
    }
  }
  EXPECT_EQ(layers, 60u);
  EXPECT_DOUBLE_EQ(parameters.dense + 8 * parameters.expert, static_cast<double>(count_parameters(model).total));
}

}  // namespace
}  // namespace msmoe
