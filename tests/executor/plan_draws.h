// Plans drawn over the whole plan space, for models small enough to train under all of them.
#pragma once

#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "core/plan.h"
#include "core/plan_names.h"
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

// `count` different plans that are valid for the model, the same in every run.
inline std::vector<Plan> draw_plans(const TinyModel& tiny, std::uint32_t seed, std::size_t count) {
  std::mt19937 random(seed);
  std::vector<Plan> plans;
  std::set<std::string> known;
  while (plans.size() < count) {
    const Plan plan = draw_plan(tiny, random);
    if (can_run(tiny, plan) && known.insert(plan_to_json(plan)).second) plans.push_back(plan);
  }
  return plans;
}

}  // namespace msmoe::executor
