#include "executor/communication/mesh.h"

#include <algorithm>
#include <cassert>

namespace msmoe::executor {
namespace {

// count ranks from first on, stride apart.
std::vector<int> strided(int first, int stride, int count) {
  std::vector<int> ranks;
  for (int idx = 0; idx < count; ++idx) ranks.push_back(first + idx * stride);
  return ranks;
}

// DualPipe runs the pipeline in both directions at once: stage s also holds a copy of stage pp - 1 - s, so the ranks of
// the two sum their gradients.
std::vector<int> with_copies(const Plan& plan, int stage, std::vector<int> ranks) {
  if (plan.schedule != PipelineSchedule::kDualPipe) return ranks;
  const int pp = static_cast<int>(plan.pp);
  const int to_mirror = (pp - 1 - 2 * stage) * static_cast<int>(plan.gpus / plan.pp);
  const std::size_t size = ranks.size();
  for (std::size_t idx = 0; idx < size; ++idx) ranks.push_back(ranks[idx] + to_mirror);
  std::sort(ranks.begin(), ranks.end());
  return ranks;
}

}  // namespace

MeshPlace place_of(const Plan& plan, int rank) {
  assert(rank >= 0 && rank < plan.gpus);
  const int stage_ranks = static_cast<int>(plan.gpus / plan.pp);
  const int attention_degree = static_cast<int>(plan.attention_degree);
  const int context_degree = static_cast<int>(plan.context_degree);
  const int etp = static_cast<int>(plan.etp), ep = static_cast<int>(plan.ep);
  const int in_stage = rank % stage_ranks;
  return {.attention = in_stage % attention_degree,
          .context = in_stage / attention_degree % context_degree,
          .data = in_stage / (attention_degree * context_degree),
          .stage = rank / stage_ranks,
          .expert_tensor = in_stage % etp,
          .expert = in_stage / etp % ep,
          .expert_data = in_stage / (etp * ep)};
}

std::vector<int> ranks_of_group(GroupKind kind, const Plan& plan, int rank) {
  const MeshPlace place = place_of(plan, rank);
  const int stage_ranks = static_cast<int>(plan.gpus / plan.pp);
  const int first_of_stage = place.stage * stage_ranks;
  const int attention_degree = static_cast<int>(plan.attention_degree);
  const int context_degree = static_cast<int>(plan.context_degree);
  const int etp = static_cast<int>(plan.etp), ep = static_cast<int>(plan.ep);
  const int expert_ranks = etp * ep;
  switch (kind) {
    case GroupKind::kAttention: return strided(rank - place.attention, 1, attention_degree);
    case GroupKind::kContext: return strided(rank - place.context * attention_degree, attention_degree, context_degree);
    case GroupKind::kExpert: return strided(rank - place.expert * etp, etp, ep);
    case GroupKind::kExpertTensor: return strided(rank - place.expert_tensor, 1, etp);
    case GroupKind::kExpertAll: return strided(first_of_stage + place.expert_data * expert_ranks, 1, expert_ranks);
    case GroupKind::kDenseData:
      // Tensor ranks hold different weights; sequence and context ranks hold replicas, which join the data ranks.
      return with_copies(
          plan, place.stage,
          plan.attention == AttentionParallelism::kTensor
              ? strided(first_of_stage + place.attention, attention_degree, stage_ranks / attention_degree)
              : strided(first_of_stage, 1, stage_ranks));
    case GroupKind::kExpertData:
      return with_copies(plan, place.stage,
                         strided(rank - place.expert_data * expert_ranks, expert_ranks, stage_ranks / expert_ranks));
    case GroupKind::kPipeline: return strided(rank - first_of_stage, stage_ranks, static_cast<int>(plan.pp));
    case GroupKind::kWorld: return strided(0, 1, static_cast<int>(plan.gpus));
  }
  return {};
}

}  // namespace msmoe::executor
