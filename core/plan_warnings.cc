// What a valid plan may still disappoint with. Each warning has its numbers and what to do.
#include <fmt/format.h>
#include <algorithm>

#include <numeric>

#include "core/group.h"
#include "core/plan.h"
#include "core/plan_names.h"
#include "core/plan_rules.h"

namespace msmoe {
namespace {

constexpr std::int64_t kNarrowExpert = 1024;  // columns that one rank holds of an expert, below which GEMMs starve
constexpr std::int64_t kLongSequence = 128 * 1024;  // tokens
constexpr std::int64_t kVocabMultiple = 128;        // Megatron's --make-vocab-size-divisible-by
constexpr std::int64_t kPackedMultiple = 1024;      // lengths that come from packing, not from data, are multiples

class Warnings {
 public:
  Warnings(const Model& model, const Cluster& cluster, const Plan& plan, Target target)
      : model_(model), cluster_(cluster), plan_(plan), target_(target), case_(model, cluster, plan) {}

  std::vector<std::string> all() {
    groups_across_nodes();
    sharded_experts();
    narrow_experts();
    long_sequences();
    padding();
    pipeline();
    numerics();
    expert_overlap();
    return std::move(texts_);
  }

 private:
  template <class... Values>
  void add(fmt::format_string<Values...> format, Values&&... values) {
    texts_.push_back(fmt::format(format, std::forward<Values>(values)...));
  }

  void groups_across_nodes() {
    const std::int64_t node = cluster_.gpus_per_node;
    const Group experts = group_of(GroupKind::kExpertAll, plan_, node);
    if (experts.nodes() > 1)
      add("the expert group of EP={} x ETP={} spans {} nodes of {} GPUs: every MoE layer's tokens cross the network; "
          "EP x ETP of {} or less stays inside",
          plan_.ep, plan_.etp, experts.nodes(), node, node);
    const Group attention = group_of(GroupKind::kAttention, plan_, node);
    if (attention.nodes() > 1)
      add("the attention group of {} ranks spans {} nodes of {} GPUs: every layer's attention exchange crosses the "
          "network; a degree of {} or less stays inside",
          plan_.attention_degree, attention.nodes(), node, node);
    if (plan_.gpus > node && plan_.gpus % node != 0)
      add("{} GPUs leave a node of {} partly used; {} or {} fill theirs", plan_.gpus, node, plan_.gpus / node * node,
          (plan_.gpus / node + 1) * node);
  }

  // The ZeRO-3 baselines of MoE Parallel Folding (arXiv 2504.14960): kernel_time_scale 1.9 where other systems have 1.1
  // (core/software.cc).
  void sharded_experts() {
    const bool has_experts = std::any_of(model_.kinds.begin(), model_.kinds.end(),
                                         [](const LayerKind& kind) { return kind.feed_forward.is_moe(); });
    if (plan_.zero < 3 || !has_experts || plan_.expert_dp() == 1) return;
    add("zero=3 gathers the experts' weights for every pass of every layer over {} replicas, which is taken to hide "
        "beside "
        "compute; published MoE runs with ZeRO-3 took about 1.7 times as long as that says; zero=1 depends on it less",
        plan_.expert_dp());
  }

  void narrow_experts() {
    if (plan_.etp == 1) return;
    for (const LayerKind& kind : model_.kinds) {
      const FeedForward& ffn = kind.feed_forward;
      if (!ffn.is_moe() || ffn.width / plan_.etp >= kNarrowExpert) continue;
      add("ETP={} cuts experts {} wide to {} columns a rank, too narrow for an efficient GEMM (Megatron takes ETP from "
          "TP "
          "where it is not set); use ETP=1 and a larger EP",
          plan_.etp, ffn.width, ffn.width / plan_.etp);
      return;
    }
  }

  void long_sequences() {
    if (plan_.seq_len >= kLongSequence)
      add("a dense attention mask of {0} x {0} is {1:.1f} GB at 1 byte; have the data loader make none (Megatron: "
          "--no-create-attention-mask-in-dataloader)",
          plan_.seq_len, static_cast<double>(plan_.seq_len) * static_cast<double>(plan_.seq_len) / 1e9);
    if (model_.max_seq_len > 0 && plan_.seq_len > model_.max_seq_len)
      add("sequence length {} is beyond the {} that the model states", plan_.seq_len, model_.max_seq_len);
  }

  void padding() {
    const std::int64_t unit = case_.context == 1 ? case_.split : case_.context * std::lcm(std::int64_t{2}, case_.split);
    if (case_.context > 1)
      add("with packed sequences each of them must be padded to a multiple of {} tokens, 2 x CP={} and the ranks that "
          "split the sequence",
          unit, case_.context);
    else if (unit > 1 && plan_.seq_len % kPackedMultiple != 0)
      add("batches of another length than {} must be padded to a multiple of {} tokens, the ranks that split the "
          "sequence",
          plan_.seq_len, unit);
    const std::int64_t vocab_unit =
        kVocabMultiple * (plan_.attention == AttentionParallelism::kTensor ? plan_.attention_degree : 1);
    if (target_ == Target::kMegatron && plan_.attention_degree > 1 && model_.vocab % vocab_unit != 0)
      add("Megatron pads the vocabulary of {} to {}, a multiple of {}", model_.vocab,
          (model_.vocab + vocab_unit - 1) / vocab_unit * vocab_unit, vocab_unit);
  }

  void pipeline() {
    if (plan_.zero >= 2 && plan_.pp > 1)
      add("ZeRO-{} with PP={} reduces {} for every micro-batch of {}; ZeRO-1 does so once a step", plan_.zero, plan_.pp,
          plan_.zero == 2 ? "gradients" : "gradients, and gathers parameters,", case_.micro_batches);
    if (case_.micro_batches < plan_.pp)
      add("{} micro-batches on PP={} stages leave stages idle for more than half of the step; use global_batch={} or "
          "more",
          case_.micro_batches, plan_.pp, plan_.pp * plan_.micro_batch * case_.dp);
  }

  void numerics() {
    if (plan_.act_wire == WireFormat::kFp8 && plan_.precision != Precision::kFp8)
      add("act_wire=fp8 with precision={} quantizes activations for the wire alone; published runs do so in FP8 "
          "training only",
          choice_name(kPrecisionChoices, plan_.precision));
    if (plan_.precision == Precision::kFp32 && plan_.master_bytes > 0)
      add("master_bytes={} with precision=fp32 keeps every weight twice; use master_bytes=0", plan_.master_bytes);
  }

  void expert_overlap() {
    if (target_ != Target::kMegatron || plan_.in_layer_overlap == InLayerOverlap::kNone || plan_.ep == 1) return;
    if (const std::string faults = megatron_overlap_faults(model_, plan_); !faults.empty())
      add("Megatron could not overlap this plan's expert communication: it wants {}", faults);
    std::int64_t first = 0;
    for (std::int64_t stage = 0; stage < plan_.virtual_stages(); ++stage) {
      const std::int64_t layers = plan_.layers_of(stage, model_.num_layers());
      const std::int64_t moe_layers = count_moe_layers(first, layers);
      first += layers;
      if (moe_layers % 2 == 0) continue;
      add("virtual stage {} holds {} MoE layers: an odd number a stage is known to fail or hang in Megatron with "
          "expert "
          "overlap",
          stage, moe_layers);
      return;
    }
  }

  std::int64_t count_moe_layers(std::int64_t first, std::int64_t count) const {
    std::int64_t moe_layers = 0;
    for (std::int64_t layer = first; layer < first + count; ++layer)
      moe_layers += model_.layer(static_cast<std::size_t>(layer)).feed_forward.is_moe() ? 1 : 0;
    return moe_layers;
  }

  const Model& model_;
  const Cluster& cluster_;
  const Plan& plan_;
  const Target target_;
  RuleCase case_;
  std::vector<std::string> texts_;
};

}  // namespace

std::vector<std::string> plan_warnings(const Model& model, const Cluster& cluster, const Plan& plan, Target target) {
  if (!is_valid(model, cluster, plan)) return {};
  return Warnings(model, cluster, plan, target).all();
}

}  // namespace msmoe
