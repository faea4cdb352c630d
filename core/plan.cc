#include "core/plan.h"

#include <fmt/format.h>

#include <cassert>

#include "core/plan_names.h"

namespace msmoe {
namespace {

// "SP8 CP2 EP8 ETP2 PP15 VPP2 DP12": degrees of 1 are left out, but for the attention's and the replicas'.
std::string degrees(const Plan& plan) {
  const char* const attention = plan.attention == AttentionParallelism::kTensor     ? "TP"
                                : plan.attention == AttentionParallelism::kSequence ? "SP"
                                                                                    : "CP";
  std::string text = fmt::format("{}{}", attention, plan.attention_degree);
  const auto add = [&](const char* label, std::int64_t degree) {
    if (degree > 1) text += fmt::format(" {}{}", label, degree);
  };
  add("CP", plan.context_degree);
  add("EP", plan.ep);
  add("ETP", plan.etp);
  add("PP", plan.pp);
  add("VPP", plan.vpp);
  if (plan.schedule > PipelineSchedule::kInterleaved)
    text += fmt::format(" {}", choice_name(kScheduleChoices, plan.schedule));
  if (plan.merge_passes) text += " merged";
  if (plan.delay_weight_gradients) text += " delayed-w";
  return text + " DP" + plan_field(plan, "dp");
}

}  // namespace

std::int64_t Plan::layers_of(std::int64_t virtual_stage, std::int64_t num_layers) const {
  assert(virtual_stage >= 0 && virtual_stage < virtual_stages());
  if (!layout.empty()) return layout[static_cast<std::size_t>(virtual_stage)];
  const std::int64_t everywhere = num_layers / virtual_stages();
  const std::int64_t left = num_layers % virtual_stages();
  const std::int64_t chunk = virtual_stage / pp, stage = virtual_stage % pp;
  const std::int64_t full_chunks = left / pp, middle_stages = left % pp;
  const std::int64_t first_middle = (pp - middle_stages) / 2;
  const bool is_middle = stage >= first_middle && stage < first_middle + middle_stages;
  const bool has_extra = chunk < full_chunks || (chunk == full_chunks && is_middle);
  return everywhere + (has_extra ? 1 : 0);
}

void set_precision(Plan& plan, Precision precision) {
  plan.precision = precision;
  const bool fp32 = precision == Precision::kFp32;
  plan.grad_wire = plan.act_wire = fp32 ? WireFormat::kFp32 : WireFormat::kBf16;
  plan.master_bytes = fp32 ? 0 : 4;
}

std::string short_plan(const Plan& plan) {
  std::string text = fmt::format("{} mb{}", degrees(plan), plan.micro_batch);
  if (plan.expert_ranks() > 1) text += fmt::format(" {}", choice_name(kDispatchChoices, plan.dispatch));
  if (plan.zero != 1) text += fmt::format(" zero{}", plan.zero);
  return text + fmt::format(" recompute={} overlap={}", recompute_name(plan.recompute),
                            choice_name(kOverlapChoices, plan.in_layer_overlap));
}

std::string describe_plan(const Plan& plan) {
  std::string text = degrees(plan);
  text += fmt::format(", {} GPUs, {} sequences of {} a step, micro-batch {}", plan.gpus, plan.global_batch,
                      plan.seq_len, plan.micro_batch);
  if (plan.ep > 1 || plan.etp > 1)
    text += fmt::format(", {} dispatch", plan.dispatch == Dispatch::kAllToAll       ? "all-to-all"
                                         : plan.dispatch == Dispatch::kNodeAllToAll ? "node-wise all-to-all"
                                                                                    : "all-gather");
  if (plan.capacity > 0) text += fmt::format(", capacity {}", plan.capacity);
  text += fmt::format(", ZeRO-{}", plan.zero);
  if (plan.optimizer_offload) text += " offloaded";
  text += fmt::format(", recompute {}", recompute_name(plan.recompute));
  text += fmt::format(", overlap {}", choice_name(kOverlapChoices, plan.in_layer_overlap));
  text += fmt::format(", {}", choice_name(kPrecisionChoices, plan.precision));
  text += fmt::format(", {} gradients", choice_name(kGradWireChoices, plan.grad_wire));
  const WireFormat uncut = plan.precision == Precision::kFp32 ? WireFormat::kFp32 : WireFormat::kBf16;
  if (plan.act_wire != uncut) text += fmt::format(", {} activations", choice_name(kActWireChoices, plan.act_wire));
  return text + " on the wire";
}

}  // namespace msmoe
