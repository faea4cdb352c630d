// Data-parallel synchronisation, the optimizer step, and the messages between pipeline stages.
//
// Gradients leave as a reduce-scatter in the plan's wire format. bf16 on the wire is summed in fp32 by the receiver and
// sends half the bytes of fp32 (MegaScale-MoE, arXiv 2505.11432, section 5); the group's shape decides the path: where
// replicas share a node (Ulysses attention weights), the collective is the paper's four-step one (appendix A.1), inside
// the node and between nodes at once.
#include <algorithm>

#include "core/lowering/module_builder.h"

namespace msmoe {
namespace {

Operator data_transfer(const Plan& plan, const char* name, Collective collective, GroupKind group, double bytes) {
  Operator op{.name = name, .pass = Pass::kSync, .stream = Stream::kData};
  op.transfer = {collective, group, {bytes}};
  op.sms = plan.communication_sms;
  return op;
}

double shards(const Plan& plan, GroupKind group) {
  // A node size does not change how many ranks a group has.
  return plan.zero >= 1 ? static_cast<double>(group_of(group, plan, 1).size) : 1;
}

}  // namespace

ChunkSync lower_sync(const Plan& plan, const ModuleParameters& parameters) {
  ChunkSync sync;
  const double parameter_bytes = weight_bytes(plan.precision);
  const double wire = plan.grad_wire == WireFormat::kFp32 ? 4 : 2;
  struct Part {
    const char *gather, *cast, *reduce;
    GroupKind group;
    double count;
  };
  for (const Part& part : {Part{"param_gather", "grad_cast", "grad_reduce", GroupKind::kDenseData, parameters.dense},
                           Part{"expert_param_gather", "expert_grad_cast", "expert_grad_reduce", GroupKind::kExpertData,
                                parameters.expert}}) {
    if (part.count <= 0 || group_of(part.group, plan, 1).size <= 1) continue;
    // ZeRO-3 gathers and ZeRO-2 reduces inside every module.
    if (plan.zero == 1 || plan.zero == 2)
      sync.gather.push_back(
          data_transfer(plan, part.gather, Collective::kAllGather, part.group, part.count * parameter_bytes));
    if (plan.zero >= 2) continue;
    if (wire < plan.grad_bytes) {
      Operator cast{.name = part.cast, .pass = Pass::kSync, .stream = Stream::kData};
      cast.compute = elementwise({part.count * (plan.grad_bytes + wire)});
      sync.reduce.push_back(cast);
    }
    const Collective collective = plan.zero == 0 ? Collective::kAllReduce : Collective::kReduceScatter;
    sync.reduce.push_back(data_transfer(plan, part.reduce, collective, part.group, part.count * wire));
  }
  // Then what tensor ranks hold alike, of the gradients that a rank has now: the worst rank's shard is all of this
  // kind.
  if (parameters.shared > 0) {
    const double held = std::min(parameters.shared, parameters.dense / shards(plan, GroupKind::kDenseData));
    sync.reduce.push_back(data_transfer(plan, "shared_grad_reduce", Collective::kAllReduce, GroupKind::kAttention,
                                        held * plan.grad_bytes));
  }
  // One after the other: the stream's order says so, and so do the waits.
  for (std::vector<Operator>* list : {&sync.gather, &sync.reduce})
    for (std::size_t op_idx = 1; op_idx < list->size(); ++op_idx)
      (*list)[op_idx].waits.push_back(static_cast<std::int16_t>(op_idx - 1));
  return sync;
}

std::vector<Operator> lower_optimizer(const Plan& plan, const ModuleParameters& stage_parameters) {
  const double owned = stage_parameters.dense / shards(plan, GroupKind::kDenseData) +
                       stage_parameters.expert / shards(plan, GroupKind::kExpertData);
  std::vector<Operator> operators;
  Operator square{.name = "grad_norm", .pass = Pass::kOptimizer};
  square.compute = elementwise({owned * plan.grad_bytes});
  operators.push_back(square);
  if (plan.gpus > 1) {
    Operator reduce{.name = "grad_norm_reduce", .pass = Pass::kOptimizer};
    reduce.transfer = {Collective::kAllReduce, GroupKind::kWorld, {4}};
    reduce.waits = {0};
    operators.push_back(reduce);
  }
  // AdamW reads gradient, master weight and both moments, and writes all but the gradient, and the bf16 weight.
  Operator adam{.name = "adamw", .pass = Pass::kOptimizer};
  adam.compute = elementwise(
      {owned * (plan.grad_bytes + 2 * (plan.master_bytes + 2 * plan.moment_bytes) + element_bytes(plan.precision))});
  adam.compute.kind = ComputeKind::kOptimizer;
  adam.waits = {static_cast<std::int16_t>(operators.size() - 1)};
  operators.push_back(adam);
  return operators;
}

Operator lower_pipeline_send(const Model& model, const Plan& plan) {
  Operator send{.name = "pipeline_send", .pass = Pass::kSync};
  send.stream = plan.overlap_p2p ? Stream::kPipeline : Stream::kCompute;
  const double tokens = static_cast<double>(plan.micro_batch) * static_cast<double>(plan.seq_len) /
                        static_cast<double>(plan.attention_ranks());
  send.transfer = {Collective::kSend,
                   GroupKind::kPipeline,
                   {tokens * static_cast<double>(model.hidden) * element_bytes(plan.precision)}};
  return send;
}

}  // namespace msmoe
