#include "core/plan_rules.h"

#include <fmt/format.h>
#include <algorithm>

#include <array>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/error.h"
#include "core/plan_names.h"

namespace msmoe {
namespace {

template <class Holds>
bool every_kind(const RuleCase& c, Holds holds) {
  for (const LayerKind& kind : c.model.kinds)
    if (!holds(kind.attention, kind.feed_forward)) return false;
  return true;
}

bool has_recurrent_layers(const RuleCase& c) {
  return !every_kind(c, [](const Attention& attention, const FeedForward&) { return !is_recurrent(attention); });
}
bool is_tensor_parallel(const Plan& plan) { return plan.attention == AttentionParallelism::kTensor; }
bool is_interleaved(const Plan& plan) { return plan.schedule == PipelineSchedule::kInterleaved; }
bool is_dualpipe(const Plan& plan) { return plan.schedule == PipelineSchedule::kDualPipe; }

// ---- The mesh

bool world_divides(const RuleCase& c) { return c.dp > 0; }
bool expert_world_divides(const RuleCase& c) {
  return c.expert_ranks <= c.plan.gpus && divides(c.expert_ranks, c.plan.gpus);
}

// ---- Experts

bool dense_models_have_no_experts(const RuleCase& c) {
  if (c.plan.ep == 1 && c.plan.etp == 1) return true;
  for (const LayerKind& kind : c.model.kinds)
    if (kind.feed_forward.is_moe()) return true;
  return false;
}
bool experts_divide(const RuleCase& c) {
  return every_kind(c, [&](const Attention&, const FeedForward& ffn) { return divides(c.plan.ep, ffn.experts); });
}
bool expert_width_divides(const RuleCase& c) {
  return every_kind(
      c, [&](const Attention&, const FeedForward& ffn) { return !ffn.is_moe() || divides(c.plan.etp, ffn.width); });
}
bool top_k_is_possible(const RuleCase& c) {
  return every_kind(c, [](const Attention&, const FeedForward& ffn) { return ffn.top_k <= ffn.experts; });
}
bool limits_groups(const FeedForward& ffn) { return ffn.is_moe() && ffn.expert_groups > 1; }
bool expert_groups_divide(const RuleCase& c) {
  return every_kind(c, [](const Attention&, const FeedForward& ffn) {
    return !limits_groups(ffn) || divides(ffn.expert_groups, ffn.experts);
  });
}
bool groups_hold_top_k(const RuleCase& c) {
  return every_kind(c, [](const Attention&, const FeedForward& ffn) {
    return !limits_groups(ffn) || (ffn.groups_per_token <= ffn.expert_groups &&
                                   ffn.groups_per_token * (ffn.experts / ffn.expert_groups) >= ffn.top_k);
  });
}
bool groups_are_fewer(const RuleCase& c) {
  return every_kind(c, [](const Attention&, const FeedForward& ffn) {
    return !limits_groups(ffn) || ffn.groups_per_token < ffn.expert_groups;
  });
}

// ---- Attention

bool heads_divide(const RuleCase& c) {
  return every_kind(c, [&](const Attention& attention, const FeedForward&) {
    return is_recurrent(attention) || divides(c.split, attention.heads);
  });
}
// Fewer KV heads than ranks are replicated, each on as many ranks. Latent attention has no KV heads to split: its
// heads are built from one compressed vector. Where the heads themselves do not divide, that is said alone.
bool kv_heads_match(const RuleCase& c) {
  const auto match = [&](const Attention& attention, const FeedForward&) {
    return attention.kind != AttentionKind::kGrouped || divides(c.split, attention.kv_heads) ||
           divides(attention.kv_heads, c.split);
  };
  return every_kind(c, match) || !heads_divide(c);
}
bool kv_heads_divide(const RuleCase& c) {
  const auto divide = [&](const Attention& attention, const FeedForward&) {
    return attention.kind != AttentionKind::kGrouped || divides(c.split, attention.kv_heads);
  };
  return every_kind(c, divide) || !heads_divide(c);
}
bool ulysses_kv_heads_divide(const RuleCase& c) {
  return c.plan.attention != AttentionParallelism::kSequence || kv_heads_divide(c);
}
bool dense_width_divides(const RuleCase& c) {
  if (!is_tensor_parallel(c.plan)) return true;
  return every_kind(c, [&](const Attention&, const FeedForward& ffn) {
    return divides(c.split, ffn.shared_width) && (ffn.is_moe() || divides(c.split, ffn.width));
  });
}
bool one_context_degree(const RuleCase& c) {
  return c.plan.attention != AttentionParallelism::kContext || c.plan.context_degree == 1;
}
bool layers_can_be_planned(const RuleCase& c) { return !has_recurrent_layers(c); }
bool recurrent_layers_have_no_context(const RuleCase& c) { return c.context == 1 || !has_recurrent_layers(c); }

// ---- Sequence and batch

// Causal attention is balanced by giving each context rank one slice from the front and one from the back.
bool zigzag_divides(const RuleCase& c) { return c.context == 1 || divides(2 * c.context, c.plan.seq_len); }
bool sequence_splits(const RuleCase& c) { return divides(c.split * c.context, c.plan.seq_len); }
// Megatron runs Ulysses as context parallelism (--cp-comm-type a2a), whose loader always slices by 2 * CP.
bool ulysses_zigzag_divides(const RuleCase& c) {
  return c.plan.attention != AttentionParallelism::kSequence || c.split == 1 ||
         divides(2 * c.split * c.context, c.plan.seq_len);
}
bool batch_divides(const RuleCase& c) { return c.dp == 0 || c.micro_batches > 0; }
bool micro_batches_are_countable(const RuleCase& c) { return c.micro_batches <= kMostMicroBatches; }
bool chunks_are_countable(const RuleCase& c) { return c.plan.vpp <= kMostChunks; }

// ---- Pipeline

bool schedule_fits_chunks(const RuleCase& c) {
  if (c.plan.schedule == PipelineSchedule::kZbV) return c.plan.vpp == 2;
  return is_interleaved(c.plan) == (c.plan.vpp > 1);
}
bool parted_backward_has_stages(const RuleCase& c) {
  return c.plan.schedule <= PipelineSchedule::kInterleaved || c.plan.pp > 1;
}
bool dualpipe_stages_are_even(const RuleCase& c) { return !is_dualpipe(c.plan) || c.plan.pp % 2 == 0; }
bool dualpipe_has_micro_batches(const RuleCase& c) {
  return !is_dualpipe(c.plan) || c.micro_batches == 0 || (c.micro_batches % 2 == 0 && c.micro_batches >= 2 * c.plan.pp);
}
bool passes_can_merge(const RuleCase& c) {
  if (!c.plan.merge_passes) return true;
  return is_interleaved(c.plan) || (c.plan.schedule == PipelineSchedule::k1F1B && c.plan.pp == 1);
}
bool merged_passes_overlap(const RuleCase& c) {
  return !c.plan.merge_passes || c.plan.in_layer_overlap != InLayerOverlap::kNone;
}
bool delayed_passes_are_merged(const RuleCase& c) {
  return !c.plan.delay_weight_gradients || c.plan.merge_passes || is_dualpipe(c.plan);
}
bool megatron_has_schedule(const RuleCase& c) { return c.plan.schedule <= PipelineSchedule::kInterleaved; }
bool torchtitan_has_schedule(const RuleCase& c) {
  return !c.plan.merge_passes && (megatron_has_schedule(c) || c.plan.schedule == PipelineSchedule::kZbV);
}
bool interleaved_has_stages(const RuleCase& c) { return !is_interleaved(c.plan) || c.plan.pp > 1; }
bool interleaved_has_micro_batches(const RuleCase& c) {
  return !is_interleaved(c.plan) || c.micro_batches == 0 || c.micro_batches >= c.plan.pp;
}
bool interleaved_rounds_are_full(const RuleCase& c) {
  return !is_interleaved(c.plan) || c.micro_batches < c.plan.pp || divides(c.plan.pp, c.micro_batches);
}
bool interleaved_p2p_overlaps(const RuleCase& c) {
  return !is_interleaved(c.plan) || c.plan.overlap_p2p || c.plan.pp != 2;
}
bool has_enough_layers(const RuleCase& c) {
  return !c.plan.layout.empty() || c.plan.virtual_stages() <= c.model.num_layers();
}
bool stages_are_equal(const RuleCase& c) { return !c.plan.layout.empty() || divides(c.plan.pp, c.model.num_layers()); }
bool chunks_are_equal(const RuleCase& c) {
  return !c.plan.layout.empty() || !stages_are_equal(c) || divides(c.plan.vpp, c.model.num_layers() / c.plan.pp);
}
bool layout_has_all_stages(const RuleCase& c) {
  return c.plan.layout.empty() || static_cast<std::int64_t>(c.plan.layout.size()) == c.plan.virtual_stages();
}
bool layout_has_all_layers(const RuleCase& c) {
  return c.plan.layout.empty() ||
         std::accumulate(c.plan.layout.begin(), c.plan.layout.end(), std::int64_t{0}) == c.model.num_layers();
}

// ---- Numerics and machine

bool grad_wire_is_known(const RuleCase& c) { return c.plan.grad_wire != WireFormat::kFp8; }
bool computes_in_fp32(const Plan& plan) { return plan.precision == Precision::kFp32; }
bool act_wire_is_known(const RuleCase& c) { return c.plan.act_wire != WireFormat::kFp32 || computes_in_fp32(c.plan); }
// What is not of the plan's precision, attention beside FP8 products for one, is bf16.
bool hardware_has_precision(const RuleCase& c) {
  return peak_of(c.cluster.gpu, computes_in_fp32(c.plan) ? Precision::kFp32 : Precision::kBf16).count > 0;
}
// CPUs quantize what goes over a wire without FP8 arithmetic.
bool hardware_has_fp8(const RuleCase& c) {
  return c.cluster.gpu.fp8_peak.count > 0 || computes_in_fp32(c.plan) ||
         (c.plan.precision != Precision::kFp8 && c.plan.act_wire != WireFormat::kFp8);
}
bool sms_are_left(const RuleCase& c) { return c.plan.communication_sms < c.cluster.gpu.sms; }
bool megatron_can_overlap(const RuleCase& c) { return megatron_overlap_faults(c.model, c.plan).empty(); }

// In the order in which people should mend them. Megatron's are those of its argument checks and of
// Transformer Engine; torchtitan's is https://github.com/pytorch/torchtitan/issues/2574.
constexpr std::array kRules = {
    Rule{"layer kinds", kForAll, layers_can_be_planned, sentence::layer_kinds},
    Rule{"context parallel needs attention", kForAll, recurrent_layers_have_no_context,
         sentence::context_of_recurrent_layers},
    Rule{"gpus % model ranks", kForAll, world_divides, sentence::world},
    Rule{"experts need a MoE model", kForAll, dense_models_have_no_experts, sentence::dense_model},
    Rule{"gpus % expert ranks", kForAll, expert_world_divides, sentence::expert_world},
    Rule{"experts % ep", kForAll, experts_divide, sentence::experts},
    Rule{"expert width % etp", kForAll, expert_width_divides, sentence::expert_width},
    Rule{"top_k <= experts", kForAll, top_k_is_possible, sentence::top_k},
    Rule{"experts % expert groups", kForAll, expert_groups_divide, sentence::expert_groups},
    Rule{"expert groups per token", kForAll, groups_hold_top_k, sentence::groups_per_token},
    Rule{"expert groups per token < groups", kForMegatron, groups_are_fewer, sentence::megatron_groups_per_token},
    Rule{"heads % attention degree", kForAll, heads_divide, sentence::heads},
    Rule{"kv heads and attention degree", kForMsmoe | kForMegatron, kv_heads_match, sentence::kv_heads},
    Rule{"kv heads % tp", kForTorchtitan, kv_heads_divide, sentence::kv_heads_split},
    Rule{"kv heads % sp", kForMegatron, ulysses_kv_heads_divide, sentence::kv_heads_split},
    Rule{"dense width % tp", kForAll, dense_width_divides, sentence::dense_width},
    Rule{"one context degree", kForAll, one_context_degree, sentence::two_contexts},
    Rule{"seq_len % (2 * cp)", kForAll, zigzag_divides, sentence::zigzag},
    Rule{"seq_len % attention ranks", kForAll, sequence_splits, sentence::sequence_split},
    Rule{"seq_len % (2 * sp)", kForMegatron, ulysses_zigzag_divides, sentence::ulysses_zigzag},
    Rule{"global_batch % (micro_batch * dp)", kForAll, batch_divides, sentence::batch},
    Rule{"too many micro-batches", kForMsmoe, micro_batches_are_countable, sentence::too_many_micro_batches},
    Rule{"too many chunks", kForMsmoe, chunks_are_countable, sentence::too_many_chunks},
    Rule{"schedule and vpp", kForAll, schedule_fits_chunks, sentence::schedule},
    Rule{"interleaved needs pp > 1", kForAll, interleaved_has_stages, sentence::interleaved_stages},
    Rule{"interleaved needs micro-batches >= pp", kForAll, interleaved_has_micro_batches,
         sentence::interleaved_micro_batches},
    Rule{"interleaved needs micro-batches % pp", kForMegatron, interleaved_rounds_are_full,
         sentence::interleaved_rounds},
    Rule{"interleaved pp = 2 needs overlap_p2p", kForMegatron, interleaved_p2p_overlaps, sentence::interleaved_p2p},
    Rule{"parted backward needs pp > 1", kForAll, parted_backward_has_stages, sentence::parted_backward_stages},
    Rule{"dualpipe needs an even pp", kForAll, dualpipe_stages_are_even, sentence::dualpipe_stages},
    Rule{"dualpipe needs even micro-batches >= 2 * pp", kForAll, dualpipe_has_micro_batches,
         sentence::dualpipe_micro_batches},
    Rule{"merge_passes and schedule", kForAll, passes_can_merge, sentence::merged_schedule},
    Rule{"merge_passes needs overlap", kForAll, merged_passes_overlap, sentence::merged_overlap},
    Rule{"delay_weight_gradients needs merged passes", kForAll, delayed_passes_are_merged,
         sentence::delayed_weight_gradients},
    Rule{"schedule of Megatron", kForMegatron, megatron_has_schedule, sentence::megatron_schedule},
    Rule{"schedule of torchtitan", kForTorchtitan, torchtitan_has_schedule, sentence::torchtitan_schedule},
    Rule{"layers >= virtual stages", kForAll, has_enough_layers, sentence::enough_layers},
    Rule{"layers % pp", kForMegatron, stages_are_equal, sentence::equal_stages},
    Rule{"layers per stage % vpp", kForMegatron, chunks_are_equal, sentence::equal_chunks},
    Rule{"layout entries", kForAll, layout_has_all_stages, sentence::layout_size},
    Rule{"layout sum", kForAll, layout_has_all_layers, sentence::layout_sum},
    Rule{"grad_wire", kForAll, grad_wire_is_known, sentence::grad_wire},
    Rule{"act_wire", kForAll, act_wire_is_known, sentence::act_wire},
    Rule{"precision on this GPU", kForAll, hardware_has_precision, sentence::precision_hardware},
    Rule{"fp8 on this GPU", kForAll, hardware_has_fp8, sentence::fp8_hardware},
    Rule{"communication_sms", kForAll, sms_are_left, sentence::communication_sms},
    Rule{"EP overlap", kForMegatron, megatron_can_overlap, sentence::megatron_overlap},
};

// The table unrolled: the compiler inlines each rule, which makes the planner's inner loop twice as fast.
template <std::size_t... kIndex>
bool all_hold(const RuleCase& c, std::index_sequence<kIndex...>) {
  return (((kRules[kIndex].targets & kForMsmoe) == 0 || kRules[kIndex].holds(c)) && ...);
}

// ---- Numbers in range, without which no other rule can be evaluated

bool scale_in_range(const Software& software) {
  const auto in_range = [](double scale) { return scale >= 1 / kLargestTimeScale && scale <= kLargestTimeScale; };
  return in_range(software.kernel_time_scale) && in_range(software.attention_time_scale) &&
         in_range(software.memory_time_scale) && software.routing_seconds >= 0 &&
         software.routing_seconds <= kLargestRoutingSeconds;
}

bool capacity_in_range(const Plan& plan) { return plan.capacity >= 0 && plan.capacity <= kLargestCapacity; }

bool numbers_in_range(const Plan& plan) {
  for (const IntegerBounds& bounds : kIntegerBounds)
    if (plan.*bounds.member < bounds.min || plan.*bounds.member > bounds.max) return false;
  for (const ByteChoices& choices : kByteChoices)
    if (!is_allowed(choices, plan.*choices.member)) return false;
  for (const std::int64_t layers : plan.layout)
    if (layers < 0 || layers > kLargestDegree) return false;
  return plan.zero >= 0 && plan.zero <= kLargestZero && capacity_in_range(plan) && scale_in_range(plan.software);
}

std::vector<Violation> numbers_out_of_range(const Plan& plan) {
  std::vector<Violation> violations;
  const auto add = [&](const char* name, const std::string& message) {
    violations.push_back({fmt::format("{} in range", name), message});
  };
  for (const IntegerBounds& bounds : kIntegerBounds)
    if (plan.*bounds.member < bounds.min || plan.*bounds.member > bounds.max)
      add(bounds.name,
          fmt::format("{}={} is out of range; use {} to {}", bounds.name, plan.*bounds.member, bounds.min, bounds.max));
  for (const ByteChoices& choices : kByteChoices)
    if (!is_allowed(choices, plan.*choices.member))
      add(choices.name,
          fmt::format("{}={} is not allowed; use {}", choices.name, plan.*choices.member, allowed_bytes(choices)));
  for (const std::int64_t layers : plan.layout)
    if (layers < 0 || layers > kLargestDegree) {
      add("layout", fmt::format("layout has {} layers in one virtual stage; use 0 to {}", layers, kLargestDegree));
      break;
    }
  if (plan.zero < 0 || plan.zero > kLargestZero)
    add("zero", fmt::format("zero={} is out of range; use 0 to {}", plan.zero, kLargestZero));
  if (!capacity_in_range(plan))
    add("capacity",
        fmt::format("capacity={} is out of range; use 0 (dropless) to {}", plan.capacity, kLargestCapacity));
  if (!scale_in_range(plan.software))
    add("software",
        fmt::format(
            "kernel_time_scale={}, attention_time_scale={}, memory_time_scale={} or routing_seconds={} is out of "
            "range; use {} to {} for scales, and 0 to {}",
            plan.software.kernel_time_scale, plan.software.attention_time_scale, plan.software.memory_time_scale,
            plan.software.routing_seconds, 1 / kLargestTimeScale, kLargestTimeScale, kLargestRoutingSeconds));
  return violations;
}

unsigned mask_of(Target target) {
  switch (target) {
    case Target::kMsmoe: return kForMsmoe;
    case Target::kMegatron: return kForMegatron;
    case Target::kTorchtitan: return kForTorchtitan;
  }
  return kForAll;
}

}  // namespace

std::string megatron_overlap_faults(const Model& model, const Plan& plan) {
  if (plan.in_layer_overlap == InLayerOverlap::kNone || plan.ep == 1) return {};
  std::vector<std::string> faults;
  if (plan.recompute == kRecomputeFull)
    faults.emplace_back("no full recomputation");
  else if (contains(plan.recompute, Recompute::kDispatch) || contains(plan.recompute, Recompute::kExpert))
    faults.emplace_back("no recomputation of the MoE layer");
  if (plan.dispatch == Dispatch::kAllGather) faults.emplace_back("dispatch=a2a or deepep");
  if (model.predict_layers > 1) faults.push_back(fmt::format("one prediction layer, not {}", model.predict_layers));
  if (plan.pp > 1 && plan.vpp == 1) faults.push_back(fmt::format("VPP above 1 with PP={}", plan.pp));
  return join(faults);
}

std::vector<Violation> check_plan(const Model& model, const Cluster& cluster, const Plan& plan, Target target) {
  if (!numbers_in_range(plan)) return numbers_out_of_range(plan);
  const RuleCase c(model, cluster, plan);
  std::vector<Violation> violations;
  for (const Rule& rule : kRules)
    if ((rule.targets & mask_of(target)) != 0 && !rule.holds(c)) violations.push_back({rule.name, rule.sentence(c)});
  return violations;
}

bool is_valid(const Model& model, const Cluster& cluster, const Plan& plan) {
  return numbers_in_range(plan) && all_hold(RuleCase(model, cluster, plan), std::make_index_sequence<kRules.size()>{});
}

const char* broken_rule(const Model& model, const Cluster& cluster, const Plan& plan) {
  if (is_valid(model, cluster, plan)) return nullptr;
  if (!numbers_in_range(plan)) return "range";
  const RuleCase c(model, cluster, plan);
  const auto broken = std::find_if(kRules.begin(), kRules.end(),
                                   [&](const Rule& rule) { return (rule.targets & kForMsmoe) != 0 && !rule.holds(c); });
  return broken->name;
}

void require_valid(const Model& model, const Cluster& cluster, const Plan& plan, const std::string& file) {
  if (is_valid(model, cluster, plan)) return;
  const Violation first = check_plan(model, cluster, plan).front();
  throw UserError(file, first.rule, first.message);
}

}  // namespace msmoe
