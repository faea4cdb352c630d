// Plans drawn over the whole plan space, for models small enough to train under all of them.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "core/plan.h"
#include "tests/executor/tiny_training.h"

namespace msmoe::executor {

template <class T>
T one_of(std::mt19937& random, std::initializer_list<T> choices) {
  return choices.begin()[random() % choices.size()];
}

inline bool can_run(const TinyModel& tiny, const Plan& plan) {
  // Two copies of a stage run their modules in another order each: nothing is sharded there (ParameterStore).
  if (plan.schedule == PipelineSchedule::kDualPipe && plan.zero > 1) return false;
  return is_valid(tiny.model, tiny.cluster, plan);
}

inline Plan draw_plan(const TinyModel& tiny, std::mt19937& random) {
  Plan plan = tiny.plan();
  plan.gpus = one_of<std::int64_t>(random, {2, 2, 4, 4, 4, 8});
  plan.attention =
      one_of(random, {AttentionParallelism::kTensor, AttentionParallelism::kSequence, AttentionParallelism::kContext});
  plan.attention_degree = one_of<std::int64_t>(random, {1, 2, 2, 4});
  plan.context_degree = one_of<std::int64_t>(random, {1, 1, 2});
  plan.ep = one_of<std::int64_t>(random, {1, 2, 2, 4, 8});
  plan.etp = one_of<std::int64_t>(random, {1, 1, 2});
  plan.dispatch = one_of(random, {Dispatch::kAllToAll, Dispatch::kNodeAllToAll, Dispatch::kAllGather});
  plan.pp = one_of<std::int64_t>(random, {1, 1, 2, 4});
  plan.schedule = one_of(random, {PipelineSchedule::k1F1B, PipelineSchedule::k1F1B, PipelineSchedule::kInterleaved,
                                  PipelineSchedule::kZbH1, PipelineSchedule::kZbV, PipelineSchedule::kDualPipe});
  plan.vpp = plan.schedule == PipelineSchedule::kInterleaved || plan.schedule == PipelineSchedule::kZbV ? 2 : 1;
  plan.merge_passes = random() % 5 == 0;
  plan.delay_weight_gradients = plan.merge_passes && random() % 2 == 0;
  plan.zero = one_of(random, {0, 1, 2, 3});
  plan.micro_batch = one_of<std::int64_t>(random, {1, 2, 4});
  plan.recompute = one_of(random, {kRecomputeNone, kRecomputeSelective, kRecomputeFull, Recompute::kUpProjection,
                                   Recompute::kDispatch | Recompute::kExpert, Recompute::kAttention});
  plan.in_layer_overlap = one_of(random, {InLayerOverlap::kNone, InLayerOverlap::kInterOperator,
                                          InLayerOverlap::kDecomposed, InLayerOverlap::kIntraOperator});
  plan.loss = one_of(random, {LossKind::kFull, LossKind::kChunked});
  return plan;
}

// What a drawing is likely to miss. Each model gets a plan with each, where it can have one.
inline std::vector<std::function<bool(const Plan&)>> rare_features() {
  const auto degree = [](const Plan& plan, AttentionParallelism kind, std::int64_t at_least) {
    return plan.attention == kind && plan.attention_degree >= at_least;
  };
  return {
      [degree](const Plan& p) { return degree(p, AttentionParallelism::kSequence, 4); },  // more ranks than KV heads
      [degree](const Plan& p) { return degree(p, AttentionParallelism::kTensor, 4); },    // likewise
      [degree](const Plan& p) { return degree(p, AttentionParallelism::kSequence, 2) && p.context_degree > 1; },
      [degree](const Plan& p) { return degree(p, AttentionParallelism::kTensor, 2) && p.context_degree > 1; },
      [](const Plan& p) { return p.schedule == PipelineSchedule::kDualPipe; },
      [](const Plan& p) { return p.schedule == PipelineSchedule::kDualPipe && p.ep > 1; },
      [](const Plan& p) { return p.schedule == PipelineSchedule::kZbV && p.pp == 2; },
      [](const Plan& p) { return p.schedule == PipelineSchedule::kZbH1 && p.pp == 4; },
      [](const Plan& p) { return p.schedule == PipelineSchedule::kInterleaved && p.zero == 3; },
      [degree](const Plan& p) {  // shared experts within the routed ones' exchange
        return degree(p, AttentionParallelism::kTensor, 2) && p.dispatch == Dispatch::kAllGather &&
               p.expert_ranks() == p.attention_degree;
      },
      [](const Plan& p) { return p.dispatch != Dispatch::kAllGather && p.ep > 1 && p.etp > 1; },
      [](const Plan& p) { return p.dispatch == Dispatch::kAllGather && p.ep > 1 && p.etp > 1; },
  };
}

// Of drawn plans each so-manieth runs: every 3rd, every 9th where sanitizers make all slow; all with MSMOE_ALL_PLANS=1.
inline std::size_t plan_stride() {
  if (std::getenv("MSMOE_ALL_PLANS") != nullptr) return 1;
#ifdef __SANITIZE_ADDRESS__
  return 9;
#else
  return 3;
#endif
}

// `count` different plans that are valid for the model, the same in every run: first the rare ones.
inline std::vector<Plan> draw_plans(const TinyModel& tiny, std::uint32_t seed, std::size_t count) {
  std::mt19937 random(seed);
  std::vector<Plan> plans;
  std::set<std::string> known;
  const auto draw = [&](const std::function<bool(const Plan&)>& wanted) {
    for (int attempt = 0; attempt < 20000 && plans.size() < count; ++attempt) {
      const Plan plan = draw_plan(tiny, random);
      if (!wanted(plan) || !can_run(tiny, plan) || !known.insert(plan_to_json(plan)).second) continue;
      plans.push_back(plan);
      return;
    }
  };
  for (const auto& feature : rare_features()) draw(feature);
  while (plans.size() < count) draw([](const Plan&) { return true; });
  return plans;
}

}  // namespace msmoe::executor
