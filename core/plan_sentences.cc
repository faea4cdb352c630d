// What a broken rule says: the rule, the numbers, and the nearest values that would do.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "core/pipeline_layout.h"
#include "core/plan_names.h"
#include "core/plan_rules.h"

namespace msmoe::sentence {
namespace {

std::string gpu_name(const RuleCase& c) { return c.cluster.gpu.name.empty() ? "this GPU" : c.cluster.gpu.name; }

// "46 = 4*11 + 2"
std::string division(std::int64_t dividend, std::int64_t divisor) {
  return fmt::format("{} = {}*{} + {}", dividend, divisor, dividend / divisor, dividend % divisor);
}

std::vector<std::int64_t> divisors(std::int64_t number) {
  constexpr std::int64_t kLargest = 1'000'000'000'000;
  std::vector<std::int64_t> low, high;
  for (std::int64_t d = 1; number <= kLargest && d * d <= number; ++d) {
    if (number % d != 0) continue;
    low.push_back(d);
    if (d * d != number) high.push_back(number / d);
  }
  low.insert(low.end(), high.rbegin(), high.rend());
  return low;
}

// "PP=2 or PP=23": the nearest divisors of number around degree, which is none.
std::string nearest_divisors(const char* label, std::int64_t degree, std::int64_t number) {
  std::string text;
  std::int64_t below = 1, above = 0;
  for (const std::int64_t divisor : divisors(number)) {
    if (divisor < degree) below = divisor;
    if (divisor > degree && above == 0) above = divisor;
  }
  text = fmt::format("{}={}", label, below);
  if (above != 0) text += fmt::format(" or {}={}", label, above);
  return text;
}

// "714 or 721": the multiples of unit around number, which is none.
std::string nearest_multiples(std::int64_t number, std::int64_t unit) {
  const std::int64_t below = number / unit * unit;
  if (below == 0) return fmt::format("{}", unit);
  return fmt::format("{} or {}", below, below + unit);
}

const char* attention_label(const Plan& plan) {
  switch (plan.attention) {
    case AttentionParallelism::kTensor: return "TP";
    case AttentionParallelism::kSequence: return "SP";
    case AttentionParallelism::kContext: return "CP";
  }
  return "?";
}

// "TP=8 x CP=2 x PP=15", without a CP of 1
std::string mesh(const Plan& plan) {
  std::string text = fmt::format("{}={}", attention_label(plan), plan.attention_degree);
  if (plan.context_degree > 1) text += fmt::format(" x CP={}", plan.context_degree);
  return text + fmt::format(" x PP={}", plan.pp);
}

// The first kind of layer that satisfies a condition; the first of all where none does.
template <class Condition>
const LayerKind& find_kind(const RuleCase& c, Condition condition) {
  const auto found = std::find_if(c.model.kinds.begin(), c.model.kinds.end(), condition);
  return found == c.model.kinds.end() ? c.model.kinds.front() : *found;
}

bool splits_experts(const Model& model, std::int64_t ep) {
  return std::all_of(model.kinds.begin(), model.kinds.end(),
                     [&](const LayerKind& kind) { return divides(ep, kind.feed_forward.experts); });
}

enum class KvRule { kMultipleOrDivisor, kDivisor };

bool splits_heads(const Model& model, std::int64_t degree, KvRule rule) {
  return std::all_of(model.kinds.begin(), model.kinds.end(), [&](const LayerKind& kind) {
    const Attention& attention = kind.attention;
    if (attention.kind == AttentionKind::kLatent) return divides(degree, attention.heads);
    if (attention.kind != AttentionKind::kGrouped) return true;
    return divides(degree, attention.heads) &&
           (divides(degree, attention.kv_heads) ||
            (rule == KvRule::kMultipleOrDivisor && divides(attention.kv_heads, degree)));
  });
}

// "use TP=1, 2, 4"
std::string allowed_splits(const RuleCase& c, std::int64_t heads, KvRule rule) {
  std::vector<std::string> degrees;
  for (const std::int64_t degree : divisors(heads))
    if (splits_heads(c.model, degree, rule)) degrees.push_back(fmt::format("{}", degree));
  return fmt::format("use {}={}", attention_label(c.plan), degrees.empty() ? "1" : join(degrees));
}

std::int64_t num_recurrent_layers(const Model& model) {
  return std::count_if(model.layers.begin(), model.layers.end(), [&](int kind_idx) {
    return is_recurrent(model.kinds[static_cast<std::size_t>(kind_idx)].attention);
  });
}

// The unit that a sequence length has to be a multiple of.
std::int64_t sequence_unit(const RuleCase& c) {
  return c.context == 1 ? c.split : c.context * std::lcm(std::int64_t{2}, c.split);
}

// "11/12/12/11" where that is short enough to read.
std::string even_layout(const RuleCase& c) {
  constexpr std::int64_t kLongest = 32;
  if (c.plan.virtual_stages() > kLongest || c.plan.virtual_stages() > c.model.num_layers()) return "a layout";
  std::vector<std::int64_t> layout;
  for (std::int64_t stage = 0; stage < c.plan.virtual_stages(); ++stage)
    layout.push_back(c.plan.layers_of(stage, c.model.num_layers()));
  return "layout " + format_pipeline_layout(layout);
}

}  // namespace

std::string world(const RuleCase& c) {
  const Plan& plan = c.plan;
  if (c.model_ranks > plan.gpus)
    return fmt::format("{} = {} ranks, and there are {} GPUs; use {} GPUs or smaller degrees", mesh(plan),
                       c.model_ranks, plan.gpus, c.model_ranks);
  return fmt::format("{} = {} ranks do not divide {} GPUs ({}); use {} GPUs", mesh(plan), c.model_ranks, plan.gpus,
                     division(plan.gpus, c.model_ranks), nearest_multiples(plan.gpus, c.model_ranks));
}

std::string expert_world(const RuleCase& c) {
  const Plan& plan = c.plan;
  std::vector<std::string> ways;
  for (std::int64_t ep = std::min(plan.ep - 1, plan.gpus); ep > 0; --ep)
    if (splits_experts(c.model, ep) && divides(plan.etp * ep * plan.pp, plan.gpus)) {
      ways.push_back(fmt::format("EP={} with PP={}", ep, plan.pp));
      break;
    }
  for (std::int64_t pp = std::min(plan.pp - 1, plan.gpus); pp > 0; --pp)
    if (divides(plan.etp * plan.ep * pp, plan.gpus) &&
        divides(plan.attention_degree * plan.context_degree * pp, plan.gpus)) {
      ways.push_back(fmt::format("EP={} with PP={}", plan.ep, pp));
      break;
    }
  ways.push_back(nearest_multiples(plan.gpus, c.expert_ranks) + " GPUs");
  return fmt::format("ETP={} x EP={} x PP={} = {} ranks do not divide {} GPUs; use {}", plan.etp, plan.ep, plan.pp,
                     c.expert_ranks, plan.gpus, join(ways, ", or "));
}

std::string dense_model(const RuleCase& c) {
  return fmt::format("the model has no experts to spread over EP={} x ETP={}; use EP=1 and ETP=1", c.plan.ep,
                     c.plan.etp);
}

std::string experts(const RuleCase& c) {
  const LayerKind& kind =
      find_kind(c, [&](const LayerKind& each) { return !divides(c.plan.ep, each.feed_forward.experts); });
  const std::int64_t count = kind.feed_forward.experts;
  return fmt::format("EP={} does not divide {} experts ({}); use {}", c.plan.ep, count, division(count, c.plan.ep),
                     nearest_divisors("EP", c.plan.ep, count));
}

std::string expert_width(const RuleCase& c) {
  const LayerKind& kind = find_kind(c, [&](const LayerKind& each) {
    return each.feed_forward.is_moe() && !divides(c.plan.etp, each.feed_forward.width);
  });
  const std::int64_t width = kind.feed_forward.width;
  return fmt::format("ETP={} does not divide the expert width {} ({}); use {}", c.plan.etp, width,
                     division(width, c.plan.etp), nearest_divisors("ETP", c.plan.etp, width));
}

std::string top_k(const RuleCase& c) {
  const FeedForward& ffn = find_kind(c, [](const LayerKind& each) {
                             return each.feed_forward.top_k > each.feed_forward.experts;
                           }).feed_forward;
  return fmt::format("a token cannot go to {} of {} experts; use a top-k of 1 to {}", ffn.top_k, ffn.experts,
                     ffn.experts);
}

std::string expert_groups(const RuleCase& c) {
  const FeedForward& ffn = find_kind(c, [](const LayerKind& each) {
                             const FeedForward& candidate = each.feed_forward;
                             return candidate.expert_groups > 1 && !divides(candidate.expert_groups, candidate.experts);
                           }).feed_forward;
  return fmt::format("{} expert groups do not divide {} experts ({}); use {}", ffn.expert_groups, ffn.experts,
                     division(ffn.experts, ffn.expert_groups),
                     nearest_divisors("n_group", ffn.expert_groups, ffn.experts));
}

std::string groups_per_token(const RuleCase& c) {
  const FeedForward& ffn =
      find_kind(c, [](const LayerKind& each) {
        const FeedForward& candidate = each.feed_forward;
        return candidate.expert_groups > 1 &&
               (candidate.groups_per_token > candidate.expert_groups ||
                candidate.groups_per_token * (candidate.experts / candidate.expert_groups) < candidate.top_k);
      }).feed_forward;
  const std::int64_t group_size = std::max<std::int64_t>(ffn.experts / ffn.expert_groups, 1);
  return fmt::format("{} of {} expert groups of {} experts cannot give a token its top-k of {}; use {} to {} groups",
                     ffn.groups_per_token, ffn.expert_groups, group_size, ffn.top_k,
                     (ffn.top_k + group_size - 1) / group_size, ffn.expert_groups);
}

std::string megatron_groups_per_token(const RuleCase& c) {
  const FeedForward& ffn =
      find_kind(c, [](const LayerKind& each) {
        const FeedForward& candidate = each.feed_forward;
        return candidate.expert_groups > 1 && candidate.groups_per_token >= candidate.expert_groups;
      }).feed_forward;
  return fmt::format("Megatron wants fewer expert groups a token than groups, not {} of {}; use 1 to {}, or no groups",
                     ffn.groups_per_token, ffn.expert_groups, ffn.expert_groups - 1);
}

std::string heads(const RuleCase& c) {
  const LayerKind& kind = find_kind(c, [&](const LayerKind& each) {
    return !is_recurrent(each.attention) && !divides(c.split, each.attention.heads);
  });
  const std::int64_t count = kind.attention.heads;
  return fmt::format("{}={} does not divide {} heads ({}); {}, or attention=cp", attention_label(c.plan), c.split,
                     count, division(count, c.split), allowed_splits(c, count, KvRule::kMultipleOrDivisor));
}

std::string kv_heads(const RuleCase& c) {
  const LayerKind& kind = find_kind(c, [&](const LayerKind& each) {
    return each.attention.kind == AttentionKind::kGrouped && !divides(c.split, each.attention.kv_heads) &&
           !divides(each.attention.kv_heads, c.split);
  });
  return fmt::format("{0} KV heads are neither a multiple nor a divisor of {1}={2}; {3}", kind.attention.kv_heads,
                     attention_label(c.plan), c.split,
                     allowed_splits(c, kind.attention.heads, KvRule::kMultipleOrDivisor));
}

std::string kv_heads_split(const RuleCase& c) {
  const LayerKind& kind = find_kind(c, [&](const LayerKind& each) {
    return each.attention.kind == AttentionKind::kGrouped && !divides(c.split, each.attention.kv_heads);
  });
  return fmt::format("{} KV heads are not a multiple of {}={}, and this trainer does not replicate them; {}",
                     kind.attention.kv_heads, attention_label(c.plan), c.split,
                     allowed_splits(c, kind.attention.heads, KvRule::kDivisor));
}

std::string dense_width(const RuleCase& c) {
  const FeedForward& ffn =
      find_kind(c, [&](const LayerKind& each) {
        const FeedForward& candidate = each.feed_forward;
        return !divides(c.split, candidate.shared_width) || (!candidate.is_moe() && !divides(c.split, candidate.width));
      }).feed_forward;
  const std::int64_t width = ffn.is_moe() ? ffn.shared_width : ffn.width;
  return fmt::format("TP={} does not divide the {} width {} ({}); use {}", c.split,
                     ffn.is_moe() ? "shared-expert" : "feed-forward", width, division(width, c.split),
                     nearest_divisors("TP", c.split, width));
}

std::string two_contexts(const RuleCase& c) {
  return fmt::format("attention=cp over {} ranks and cp={} are two context degrees; use attention_degree={} with cp=1",
                     c.plan.attention_degree, c.plan.context_degree, c.context);
}

std::string layer_kinds(const RuleCase& c) {
  return fmt::format(
      "{} of {} layers are linear attention or state-space mixers, which msmoe counts but cannot plan; use a model "
      "whose layers all have attention",
      num_recurrent_layers(c.model), c.model.num_layers());
}

std::string context_of_recurrent_layers(const RuleCase& c) {
  return fmt::format("CP={} splits a sequence along which {} of {} layers carry a state; use CP=1", c.context,
                     num_recurrent_layers(c.model), c.model.num_layers());
}

std::string zigzag(const RuleCase& c) {
  return fmt::format("sequence length {} is not a multiple of 2*CP={} ({}); use {}", c.plan.seq_len, 2 * c.context,
                     division(c.plan.seq_len, 2 * c.context), nearest_multiples(c.plan.seq_len, sequence_unit(c)));
}

std::string sequence_split(const RuleCase& c) {
  const std::int64_t ranks = c.split * c.context;
  const std::string label = c.context == 1 ? fmt::format("{}={}", attention_label(c.plan), ranks)
                            : c.split == 1 ? fmt::format("CP={}", ranks)
                                           : fmt::format("{}*CP={}", attention_label(c.plan), ranks);
  return fmt::format("sequence length {} is not a multiple of {} ({}); use {}", c.plan.seq_len, label,
                     division(c.plan.seq_len, ranks), nearest_multiples(c.plan.seq_len, sequence_unit(c)));
}

std::string ulysses_zigzag(const RuleCase& c) {
  const std::int64_t unit = 2 * c.split * c.context;
  return fmt::format(
      "sequence length {} is not a multiple of {}, twice the ranks that share it, as Megatron's loader "
      "wants ({}); use {}",
      c.plan.seq_len, unit, division(c.plan.seq_len, unit), nearest_multiples(c.plan.seq_len, unit));
}

std::string batch(const RuleCase& c) {
  const std::int64_t round = c.plan.micro_batch * c.dp;
  return fmt::format(
      "global_batch={} is not a multiple of micro_batch={} x DP={} = {} ({}), where DP = {} GPUs / ({}); use {}",
      c.plan.global_batch, c.plan.micro_batch, c.dp, round, division(c.plan.global_batch, round), c.plan.gpus,
      mesh(c.plan), nearest_multiples(c.plan.global_batch, round));
}

std::string too_many_micro_batches(const RuleCase& c) {
  return fmt::format(
      "{} micro-batches per pipeline and step are more than the {} that msmoe follows; use a larger "
      "micro_batch, more data parallelism than DP={}, or a smaller global_batch",
      c.micro_batches, kMostMicroBatches, c.dp);
}

std::string too_many_chunks(const RuleCase& c) {
  return fmt::format("VPP={} chunks a stage are more than the {} that msmoe follows; use VPP={} or fewer", c.plan.vpp,
                     kMostChunks, kMostChunks);
}

std::string interleaved_micro_batches(const RuleCase& c) {
  return fmt::format(
      "schedule=interleaved needs at least PP={} micro-batches, and global_batch={} / (micro_batch={} x DP={}) = {}; "
      "use global_batch={} or schedule=1f1b with VPP=1",
      c.plan.pp, c.plan.global_batch, c.plan.micro_batch, c.dp, c.micro_batches, c.plan.pp * c.plan.micro_batch * c.dp);
}

std::string interleaved_rounds(const RuleCase& c) {
  return fmt::format(
      "{} micro-batches are not a multiple of PP={} ({}), the round of Megatron's interleaved schedule; use "
      "global_batch={}",
      c.micro_batches, c.plan.pp, division(c.micro_batches, c.plan.pp),
      nearest_multiples(c.plan.global_batch, c.plan.pp * c.plan.micro_batch * c.dp));
}

std::string interleaved_p2p(const RuleCase&) {
  return "Megatron interleaves PP=2 stages only with overlapped messages; use overlap_p2p=on or PP above 2";
}

std::string enough_layers(const RuleCase& c) {
  const std::int64_t layers = c.model.num_layers();
  const std::string way = c.plan.pp > layers ? fmt::format("PP={}", layers) : fmt::format("VPP={}", layers / c.plan.pp);
  return fmt::format("PP={} x VPP={} = {} virtual stages are more than {} layers; use {} or less, or a layout",
                     c.plan.pp, c.plan.vpp, c.plan.virtual_stages(), layers, way);
}

std::string equal_stages(const RuleCase& c) {
  const std::int64_t layers = c.model.num_layers();
  return fmt::format("PP={} does not divide {} layers ({}); use {}, or {}", c.plan.pp, layers,
                     division(layers, c.plan.pp), nearest_divisors("PP", c.plan.pp, layers), even_layout(c));
}

std::string equal_chunks(const RuleCase& c) {
  const std::int64_t layers = c.model.num_layers(), per_stage = layers / c.plan.pp;
  return fmt::format(
      "VPP={} does not divide the {} layers a stage of {} layers on PP={} ({}), so {} layers would be "
      "trained; use {}, or {}",
      c.plan.vpp, per_stage, layers, c.plan.pp, division(per_stage, c.plan.vpp),
      per_stage / c.plan.vpp * c.plan.virtual_stages(), nearest_divisors("VPP", c.plan.vpp, per_stage), even_layout(c));
}

std::string layout_size(const RuleCase& c) {
  const auto slots = static_cast<std::int64_t>(c.plan.layout.size());
  const std::string way = divides(c.plan.pp, slots) ? fmt::format("VPP={}", slots / c.plan.pp)
                                                    : fmt::format("{} virtual stages", c.plan.virtual_stages());
  return fmt::format("the layout has {} virtual stages, and PP={} x VPP={} = {}; use {}", slots, c.plan.pp, c.plan.vpp,
                     c.plan.virtual_stages(), way);
}

std::string layout_sum(const RuleCase& c) {
  const std::int64_t sum = std::accumulate(c.plan.layout.begin(), c.plan.layout.end(), std::int64_t{0});
  const std::int64_t layers = c.model.num_layers();
  return fmt::format("the layout holds {} layers, and the model has {}; use {} {}", sum, layers,
                     sum > layers ? sum - layers : layers - sum, sum > layers ? "fewer" : "more");
}

std::string grad_wire(const RuleCase&) {
  return "gradients cannot travel as fp8; use grad_wire=fp32 or grad_wire=bf16";
}
std::string act_wire(const RuleCase&) {
  return "activations travel as fp32 with precision=fp32 alone; use act_wire=bf16 or act_wire=fp8";
}

std::string precision_hardware(const RuleCase& c) {
  const std::string gpu = gpu_name(c);
  if (c.plan.precision == Precision::kFp32)
    return fmt::format(
        "precision=fp32 needs a device with fp32_peak, which the cluster does not state of {}; use "
        "precision=bf16",
        gpu);
  return fmt::format("{} has no bf16_peak; use precision=fp32, and act_wire=fp32", gpu);
}

std::string fp8_hardware(const RuleCase& c) {
  return fmt::format("{} has no FP8 arithmetic; use precision=bf16 and act_wire=bf16", gpu_name(c));
}

std::string communication_sms(const RuleCase& c) {
  return fmt::format("communication_sms={} leaves none of {} SMs to compute; use 0 to {}", c.plan.communication_sms,
                     c.cluster.gpu.sms, std::max<std::int64_t>(c.cluster.gpu.sms - 1, 0));
}

std::string megatron_overlap(const RuleCase& c) {
  return fmt::format(
      "Megatron overlaps expert communication (overlap={}, EP={}) only with {}; use that or overlap=none",
      choice_name(kOverlapChoices, c.plan.in_layer_overlap), c.plan.ep, megatron_overlap_faults(c.model, c.plan));
}

}  // namespace msmoe::sentence
