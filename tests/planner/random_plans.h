// Random valid plans over models and clusters that ship: small jobs of every shape, the same from the same seed.
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/cluster.h"
#include "core/model.h"
#include "core/plan.h"

namespace msmoe {

struct RandomPlan {
  const Model& model;
  const Cluster& cluster;
  Plan plan;
};

class RandomPlans {
 public:
  // others_too: schedules with parted or merged passes, too.
  explicit RandomPlans(std::uint64_t seed, bool others_too = false) : random_(seed), others_too_(others_too) {}

  // The references hold as long as this lives.
  RandomPlan next() {
    for (;;) {
      // Latent attention, dense first layers, prediction layers, windows, shared experts, and no experts at all.
      const Model& model = model_of(one_of<const char*>(
          {"mixtral-8x7b", "qwen3-30b-a3b", "deepseek-v2-lite", "deepseek-moe-16b", "phi-3.5-moe", "olmoe",
           "gpt-oss-20b", "glm-4.5-air", "deepseek-v3", "megascale-352b", "llama-3.1-8b"}));
      const Cluster& cluster = cluster_of(one_of<const char*>({"h100", "h100-4nic", "h800", "h20", "gh200"}));
      Plan plan = draw(model, cluster);
      if (is_valid(model, cluster, plan)) return {model, cluster, std::move(plan)};
    }
  }

 private:
  template <class T>
  T one_of(const std::vector<T>& choices) {
    return choices[random_() % choices.size()];
  }
  bool coin() { return random_() % 2 == 0; }

  const Model& model_of(const std::string& name) {
    const auto found = models_.find(name);
    return found != models_.end() ? found->second : models_.emplace(name, find_model(name)).first->second;
  }
  const Cluster& cluster_of(const std::string& name) {
    const auto found = clusters_.find(name);
    return found != clusters_.end() ? found->second : clusters_.emplace(name, find_cluster(name)).first->second;
  }

  // In range, though not always valid.
  Plan draw(const Model& model, const Cluster& cluster) {
    Plan plan;
    plan.model = model.name;
    plan.cluster = cluster.name;
    plan.seq_len = one_of<std::int64_t>({2048, 4096, 8192});
    plan.micro_batch = one_of<std::int64_t>({1, 1, 2, 4});
    plan.attention = one_of<AttentionParallelism>(
        {AttentionParallelism::kTensor, AttentionParallelism::kSequence, AttentionParallelism::kContext});
    plan.attention_degree = one_of<std::int64_t>({1, 2, 4, 8});
    plan.context_degree = one_of<std::int64_t>({1, 1, 1, 2});
    plan.ep = one_of<std::int64_t>({1, 2, 4, 8, 16});
    plan.etp = one_of<std::int64_t>({1, 1, 2, 4});
    plan.dispatch = coin() ? Dispatch::kAllToAll : Dispatch::kAllGather;
    plan.pp = one_of<std::int64_t>({1, 2, 3, 4, 8});
    plan.vpp = plan.pp > 1 ? one_of<std::int64_t>({1, 2, 3, 4}) : 1;
    plan.schedule = plan.vpp > 1 ? PipelineSchedule::kInterleaved : PipelineSchedule::k1F1B;
    if (others_too_) draw_schedule(plan);
    plan.zero = one_of<int>({0, 1, 1, 2, 3});
    plan.recompute = one_of<Recompute>(
        {kRecomputeNone, Recompute::kNorm | Recompute::kActivation, kRecomputeSelective, kRecomputeFull});
    plan.in_layer_overlap =
        one_of<InLayerOverlap>({InLayerOverlap::kNone, InLayerOverlap::kInterOperator, InLayerOverlap::kIntraOperator});
    plan.overlap_grad_reduce = coin();
    plan.overlap_param_gather = coin();
    plan.overlap_p2p = coin();
    plan.grad_wire = coin() ? WireFormat::kFp32 : WireFormat::kBf16;
    plan.loss = coin() ? LossKind::kFull : LossKind::kChunked;
    const std::int64_t dp = one_of<std::int64_t>({1, 2, 4, 8, 32});
    plan.gpus = dp * plan.model_ranks();
    // Few enough for data-parallel traffic to matter, and for tests to run every operator.
    std::int64_t micro_batches = static_cast<std::int64_t>(1 + random_() % 3) * plan.pp;
    if (plan.schedule == PipelineSchedule::kDualPipe) micro_batches += plan.pp;
    plan.global_batch = micro_batches * plan.micro_batch * dp;
    return plan;
  }

  void draw_schedule(Plan& plan) {
    plan.schedule = static_cast<PipelineSchedule>(random_() % 5);
    if (plan.pp == 1) plan.schedule = PipelineSchedule::k1F1B;
    plan.merge_passes = coin() && (plan.pp == 1 || plan.schedule == PipelineSchedule::kInterleaved);
    plan.delay_weight_gradients = coin() && (plan.merge_passes || plan.schedule == PipelineSchedule::kDualPipe);
    plan.vpp = plan.schedule == PipelineSchedule::kInterleaved ? one_of<std::int64_t>({2, 3, 4})
               : plan.schedule == PipelineSchedule::kZbV       ? 2
                                                               : 1;
  }

  std::mt19937_64 random_;
  bool others_too_;
  std::map<std::string, Model> models_;
  std::map<std::string, Cluster> clusters_;
};

}  // namespace msmoe
