// Small models, plans of every kind for them, and jobs whose ranks are threads that hold a ParameterStore each.
#pragma once

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/model.h"
#include "core/plan.h"
#include "core/random_bits.h"
#include "executor/backend/cpu_backend.h"
#include "executor/parameters/parameter_store.h"
#include "tests/executor/thread_communicator.h"

namespace msmoe::executor {

// Grouped attention with two key/value heads, four experts in every layer.
inline Model grouped_model() {
  return parse_model("grouped", R"({"model_type": "mixtral", "hidden_size": 16, "num_hidden_layers": 4,
      "num_attention_heads": 8, "num_key_value_heads": 2, "intermediate_size": 12, "num_local_experts": 4,
      "num_experts_per_tok": 2, "vocab_size": 300, "tie_word_embeddings": false})");
}
// Latent attention, router biases, a shared expert; the first layer is dense.
inline Model latent_model() {
  return parse_model("latent", R"({"model_type": "deepseek_v3", "hidden_size": 16, "num_hidden_layers": 4,
      "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 24, "moe_intermediate_size": 8,
      "n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1,
      "moe_layer_freq": 1, "n_group": 1, "topk_group": 1, "q_lora_rank": 8, "kv_lora_rank": 6, "qk_nope_head_dim": 4,
      "qk_rope_head_dim": 4, "v_head_dim": 4, "num_nextn_predict_layers": 0, "vocab_size": 200,
      "tie_word_embeddings": false})");
}
// Biases of queries, keys and values, and a shared expert with a scale.
inline Model biased_model() {
  return parse_model("biased", R"({"model_type": "qwen2_moe", "hidden_size": 16, "num_hidden_layers": 4,
      "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 24, "moe_intermediate_size": 8,
      "shared_expert_intermediate_size": 8, "num_experts": 4, "num_experts_per_tok": 2, "decoder_sparse_step": 1,
      "mlp_only_layers": [], "qkv_bias": true, "vocab_size": 100, "tie_word_embeddings": false})");
}
// Dense, all of its biases, and one matrix for embedding and head.
inline Model tied_model() {
  return parse_model("tied", R"({"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 4,
      "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 12, "vocab_size": 10,
      "attention_bias": true, "mlp_bias": true, "tie_word_embeddings": true})");
}

struct ModelAndPlan {
  std::string name;
  Model model;
  Plan plan;
};

// Valid plans as far as parameters are concerned; gradients cross wires in fp32.
inline std::vector<ModelAndPlan> plans_of_every_kind() {
  using enum AttentionParallelism;
  struct Row {
    const char* name;
    Model model;
    std::int64_t gpus;
    AttentionParallelism attention;
    std::int64_t degree, context, ep, etp, pp;
    PipelineSchedule schedule = PipelineSchedule::k1F1B;
  };
  std::vector<ModelAndPlan> plans;
  for (const Row& row : {
           Row{"one rank", grouped_model(), 1, kTensor, 1, 1, 1, 1, 1},
           Row{"data", latent_model(), 3, kTensor, 1, 1, 1, 1, 1},
           Row{"tensor, shared heads", grouped_model(), 8, kTensor, 4, 1, 2, 2, 1},
           Row{"tensor, one head each", biased_model(), 4, kTensor, 2, 1, 4, 1, 1},
           Row{"tensor, latent", latent_model(), 8, kTensor, 2, 2, 4, 2, 1},
           Row{"tensor, shared biases", biased_model(), 8, kTensor, 4, 1, 2, 1, 2},
           Row{"tensor, tied", tied_model(), 4, kTensor, 4, 1, 1, 1, 1},
           Row{"sequence", latent_model(), 4, kSequence, 2, 1, 2, 2, 1},
           Row{"context", grouped_model(), 8, kContext, 4, 1, 1, 4, 2},
           Row{"tied", tied_model(), 2, kTensor, 1, 1, 1, 1, 1},
           Row{"chunks", latent_model(), 4, kTensor, 2, 1, 2, 1, 2, PipelineSchedule::kInterleaved},
           Row{"V", grouped_model(), 4, kTensor, 1, 1, 2, 1, 2, PipelineSchedule::kZbV},
           Row{"DualPipe", latent_model(), 8, kTensor, 2, 1, 2, 1, 2, PipelineSchedule::kDualPipe},
       }) {
    Plan plan;
    plan.gpus = row.gpus;
    plan.global_batch = 24;
    plan.attention = row.attention;
    plan.attention_degree = row.degree;
    plan.context_degree = row.context;
    plan.ep = row.ep;
    plan.etp = row.etp;
    plan.pp = row.pp;
    plan.schedule = row.schedule;
    const bool has_two_chunks =
        row.schedule == PipelineSchedule::kInterleaved || row.schedule == PipelineSchedule::kZbV;
    plan.vpp = has_two_chunks ? 2 : 1;
    plan.grad_wire = WireFormat::kFp32;
    plans.push_back({row.name, row.model, plan});
  }
  return plans;
}

// What a rank of a plan holds, chunk after chunk.
inline std::vector<ModuleId> modules_of_rank(const Model& model, const Plan& plan, int rank) {
  std::vector<ModuleId> modules;
  for (const auto& chunk : stage_modules(model, plan, place_of(plan, rank).stage))
    modules.insert(modules.end(), chunk.begin(), chunk.end());
  return modules;
}

// As GPUs have them: weights in bf16 beside masters in fp32.
class NarrowBackend : public CpuBackend {
 public:
  kernels::Element element() const override { return kernels::Element::kBf16; }
};

// act(rank, store, communicator) on every rank at once; communicator(kind) is the rank's own.
template <class BackendType = CpuBackend, class Act>
void run_job(const Model& model, const Plan& plan, Act act) {
  ThreadWorld world(plan);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < plan.gpus; ++rank)
    threads.emplace_back([&, rank] {
      BackendType backend;
      const auto communicator = [&](GroupKind kind) -> Communicator& { return world.communicator(kind, rank); };
      ParameterStore store(model, plan, place_of(plan, rank), modules_of_rank(model, plan, rank), backend,
                           communicator);
      act(rank, store, communicator);
    });
  for (std::thread& thread : threads) thread.join();
}

// The index in the whole tensor of each element of a piece, and what there is of it in a state.
template <class Visit>
void for_each_element(const LocalParameter& local, std::int64_t begin, std::int64_t end, Visit visit) {
  const std::int64_t columns = whole_box(local.whole).columns();
  for_each_row(local.slice, begin, end,
               [&](std::int64_t row, std::int64_t column_begin, std::int64_t column_end, std::int64_t at) {
                 for (std::int64_t column = column_begin; column < column_end; ++column, ++at)
                   visit(row * columns + column, at);
               });
}

// In [0.5, 1.5): different for every element of every parameter.
inline float some_value(std::uint64_t seed, const Parameter& parameter, std::int64_t element_idx) {
  const auto bits_of = [](std::int64_t number) { return static_cast<std::uint64_t>(number); };
  const std::uint64_t bits = draw_key({seed, bits_of(static_cast<std::int64_t>(parameter.part)),
                                       bits_of(parameter.layer), bits_of(parameter.expert), bits_of(element_idx)});
  return 0.5F + static_cast<float>(bits >> 40) * 0x1p-24F;
}

}  // namespace msmoe::executor
