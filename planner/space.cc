#include "planner/space.h"

#include <algorithm>
#include <optional>

namespace msmoe::planner {
namespace {

// Long sequences are worth splitting over context ranks too: no fewer than this many tokens a rank.
constexpr std::int64_t kFewestContextTokens = 4096;
constexpr std::int64_t kLargestContextDegree = 64;
constexpr std::int64_t kLargestMicroBatch = 8;
constexpr std::int64_t kMostChunks = 12;

std::vector<std::int64_t> powers_of_two(std::int64_t last) {
  std::vector<std::int64_t> powers;
  for (std::int64_t power = 1; power <= last; power *= 2) powers.push_back(power);
  return powers;
}

std::vector<std::int64_t> divisors(std::int64_t number, std::int64_t last) {
  std::vector<std::int64_t> found;
  for (std::int64_t candidate = 1; candidate <= std::min(number, last); ++candidate)
    if (number % candidate == 0) found.push_back(candidate);
  return found;
}

std::int64_t most_experts(const Model& model) {
  std::int64_t most = 0;
  for (const LayerKind& kind : model.kinds) most = std::max(most, kind.feed_forward.experts);
  return most;
}

bool has_latent_attention(const Model& model) {
  return std::any_of(model.kinds.begin(), model.kinds.end(),
                     [](const LayerKind& kind) { return kind.attention.kind == AttentionKind::kLatent; });
}

// The values of one dimension: the fixed one, or all.
template <class T>
std::vector<T> open_or_fixed(const Question& question, const char* key, const T& fixed, std::vector<T> open) {
  return question.is_fixed(key) ? std::vector<T>{fixed} : std::move(open);
}

// The schedule of a pipeline with so many chunks a stage; none where the fixed one does not go with them.
std::optional<PipelineSchedule> schedule_of(const Question& question, std::int64_t vpp) {
  const PipelineSchedule by_chunks = vpp > 1 ? PipelineSchedule::kInterleaved : PipelineSchedule::k1F1B;
  if (!question.is_fixed("schedule")) return by_chunks;
  const PipelineSchedule fixed = question.base.schedule;
  if (fixed <= PipelineSchedule::kInterleaved) return fixed == by_chunks ? std::optional(fixed) : std::nullopt;
  return vpp == (fixed == PipelineSchedule::kZbV ? 2 : 1) ? std::optional(fixed) : std::nullopt;
}

}  // namespace

std::vector<Mesh> meshes(const Question& question) {
  const Plan& base = question.base;
  const std::int64_t node = question.cluster.gpus_per_node;
  const std::int64_t experts = most_experts(question.model);
  const auto kinds = open_or_fixed<AttentionParallelism>(
      question, "attention", base.attention,
      {AttentionParallelism::kTensor, AttentionParallelism::kSequence, AttentionParallelism::kContext});
  const auto degrees = open_or_fixed(question, "attention_degree", base.attention_degree, powers_of_two(node));
  const std::int64_t widest_context =
      std::clamp<std::int64_t>(base.seq_len / kFewestContextTokens / 2, 1, kLargestContextDegree);
  const auto contexts = open_or_fixed(question, "cp", base.context_degree, powers_of_two(widest_context));
  auto eps =
      open_or_fixed(question, "ep", base.ep, experts > 0 ? divisors(experts, experts) : std::vector<std::int64_t>{1});
  auto etps =
      open_or_fixed(question, "etp", base.etp, experts > 0 ? powers_of_two(node) : std::vector<std::int64_t>{1});
  if (question.feed_forward == FeedForwardParallelism::kExpert) etps = {1};
  if (question.feed_forward == FeedForwardParallelism::kTensor) eps = {1};

  std::vector<Mesh> result;
  for (const AttentionParallelism kind : kinds) {
    for (const std::int64_t degree : degrees) {
      // One rank is one rank, whatever it is called; tensor stands for all.
      if (degree == 1 && kind != kinds.front()) continue;
      for (const std::int64_t context : contexts) {
        if (context > 1 && kind == AttentionParallelism::kContext) continue;
        for (const std::int64_t ep : eps)
          for (const std::int64_t etp : etps)
            if (base.gpus % (degree * context) == 0 && base.gpus % (ep * etp) == 0)
              result.push_back({kind, degree, context, ep, etp});
      }
    }
  }
  return result;
}

std::vector<Variant> variants(const Question& question, const Mesh& mesh) {
  const Plan& base = question.base;
  // Across nodes an exchange that sends a token's copies one by one is never the quicker one.
  const bool crosses_nodes = mesh.ep * mesh.etp > question.cluster.gpus_per_node;
  auto dispatches =
      open_or_fixed<Dispatch>(question, "dispatch", base.dispatch,
                              {crosses_nodes ? Dispatch::kNodeAllToAll : Dispatch::kAllToAll, Dispatch::kAllGather});
  // Nothing is exchanged on one rank.
  if (mesh.ep * mesh.etp == 1 && !question.is_fixed("dispatch")) dispatches = {Dispatch::kAllToAll};
  const auto micro_batches = open_or_fixed(question, "micro_batch", base.micro_batch,
                                           powers_of_two(std::min(kLargestMicroBatch, base.global_batch)));
  constexpr Recompute kCheap = Recompute::kNorm | Recompute::kActivation;
  std::vector<Recompute> sets = {kRecomputeNone, kCheap, kCheap | Recompute::kAttentionOut, kRecomputeSelective};
  if (has_latent_attention(question.model)) sets.push_back(kRecomputeSelective | Recompute::kUpProjection);
  sets.push_back(kRecomputeFull);
  const auto recomputes = open_or_fixed(question, "recompute", base.recompute, std::move(sets));
  std::vector<InLayerOverlap> open_overlaps = {InLayerOverlap::kInterOperator, InLayerOverlap::kIntraOperator};
  if (question.cluster.gpu.is_cpu_core()) open_overlaps = {InLayerOverlap::kNone};
  const auto overlaps = open_or_fixed(question, "overlap", base.in_layer_overlap, std::move(open_overlaps));
  std::vector<Variant> result;
  for (const Dispatch dispatch : dispatches)
    for (const std::int64_t micro_batch : micro_batches)
      for (const Recompute recompute : recomputes)
        for (const InLayerOverlap overlap : overlaps) result.push_back({dispatch, micro_batch, recompute, overlap});
  return result;
}

std::vector<Pipeline> pipelines(const Question& question, const Mesh& mesh) {
  const Plan& base = question.base;
  const std::int64_t layers = question.model.num_layers();
  const std::int64_t ranks = base.gpus / (mesh.attention_degree * mesh.context_degree);
  const auto layout_size = static_cast<std::int64_t>(base.layout.size());
  std::vector<Pipeline> result;
  for (const std::int64_t pp : open_or_fixed(question, "pp", base.pp, divisors(ranks, layers))) {
    if (pp < 1 || pp > layers || ranks % pp != 0) continue;
    if (question.dp > 0 && ranks / pp != question.dp) continue;
    if ((base.gpus / pp) % (mesh.ep * mesh.etp) != 0) continue;
    for (const int zero : open_or_fixed<int>(question, "zero", base.zero, {1, 2, 3})) {
      if (zero >= 2 && pp > 1 && !question.is_fixed("zero")) continue;
      const std::int64_t most_chunks = pp > 1 ? std::min(kMostChunks, layers / pp) : 1;
      for (std::int64_t vpp = 1; vpp <= std::max(most_chunks, base.vpp); ++vpp) {
        if (question.is_fixed("vpp") ? vpp != base.vpp : vpp > most_chunks) continue;
        const auto schedule = schedule_of(question, vpp);
        if (!schedule) continue;
        if (layout_size > 0 && layout_size != pp * vpp) continue;
        result.push_back({pp, vpp, *schedule, zero});
      }
    }
  }
  return result;
}

void apply(const Mesh& mesh, Plan& plan) {
  plan.attention = mesh.attention;
  plan.attention_degree = mesh.attention_degree;
  plan.context_degree = mesh.context_degree;
  plan.ep = mesh.ep;
  plan.etp = mesh.etp;
}

void apply(const Variant& variant, Plan& plan) {
  plan.dispatch = variant.dispatch;
  plan.micro_batch = variant.micro_batch;
  plan.recompute = variant.recompute;
  plan.in_layer_overlap = variant.overlap;
}

void apply(const Pipeline& pipeline, Plan& plan) {
  plan.pp = pipeline.pp;
  plan.vpp = pipeline.vpp;
  plan.zero = pipeline.zero;
  plan.schedule = pipeline.schedule;
}

}  // namespace msmoe::planner
