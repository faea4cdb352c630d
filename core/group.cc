#include "core/group.h"

namespace msmoe {
namespace {

// DualPipe trains two copies of each stage, on stages that lie far apart, whose gradients are summed.
Group with_copies(const Plan& plan, Group group, std::int64_t gpus_per_node) {
  if (plan.schedule != PipelineSchedule::kDualPipe) return group;
  const std::int64_t copies_per_node = plan.gpus <= gpus_per_node ? 2 : 1;
  return {2 * group.size, copies_per_node * group.ranks_per_node};
}

}  // namespace

Group group_of(GroupKind kind, const Plan& plan, std::int64_t gpus_per_node) {
  const std::int64_t stage_ranks = plan.gpus / plan.pp;
  switch (kind) {
    case GroupKind::kAttention: return make_group(plan.attention_degree, 1, gpus_per_node);
    case GroupKind::kContext: return make_group(plan.context_degree, plan.attention_degree, gpus_per_node);
    case GroupKind::kExpert: return make_group(plan.ep, plan.etp, gpus_per_node);
    case GroupKind::kExpertTensor: return make_group(plan.etp, 1, gpus_per_node);
    case GroupKind::kExpertAll: return make_group(plan.expert_ranks(), 1, gpus_per_node);
    case GroupKind::kDenseData:
      // Tensor ranks hold different weights; sequence and context ranks hold replicas, which join the data ranks.
      return with_copies(plan,
                         plan.attention == AttentionParallelism::kTensor
                             ? make_group(stage_ranks / plan.attention_degree, plan.attention_degree, gpus_per_node)
                             : make_group(stage_ranks, 1, gpus_per_node),
                         gpus_per_node);
    case GroupKind::kExpertData:
      return with_copies(plan, make_group(plan.expert_dp(), plan.expert_ranks(), gpus_per_node), gpus_per_node);
    case GroupKind::kPipeline: return {2, plan.gpus <= gpus_per_node ? 2 : 1};
    case GroupKind::kWorld: return make_group(plan.gpus, 1, gpus_per_node);
  }
  return {};
}

}  // namespace msmoe
