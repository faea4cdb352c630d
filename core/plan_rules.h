// The rules of check_plan and is_valid, as one table: what each is called, whose it is, when it holds, and the sentence
// that says what is wrong. A rule is evaluated only where the numbers are in range, so that none divides by zero.
#pragma once

#include <cstdint>
#include <string>

#include "core/cluster.h"
#include "core/model.h"
#include "core/plan.h"

namespace msmoe {

// b > 0. Divisions of 64 bits are slow, and nearly all of these are of small numbers or by powers of two.
constexpr bool divides(std::int64_t b, std::int64_t a) {
  if ((b & (b - 1)) == 0) return (a & (b - 1)) == 0;
  if (((a | b) >> 32) == 0) return static_cast<std::uint32_t>(a) % static_cast<std::uint32_t>(b) == 0;
  return a % b == 0;
}

// A mixer that carries a state along the sequence instead of attending to it.
constexpr bool is_recurrent(const Attention& attention) {
  return attention.kind == AttentionKind::kLinear || attention.kind == AttentionKind::kStateSpace;
}

// A plan whose numbers are in range, with what several rules need. 0 stands for "does not divide".
struct RuleCase {
  RuleCase(const Model& model_, const Cluster& cluster_, const Plan& plan_)
      : model(model_),
        cluster(cluster_),
        plan(plan_),
        context(plan.context_degree * (plan.attention == AttentionParallelism::kContext ? plan.attention_degree : 1)),
        split(plan.attention == AttentionParallelism::kContext ? 1 : plan.attention_degree),
        model_ranks(plan.attention_degree * plan.context_degree * plan.pp),
        expert_ranks(plan.ep * plan.etp * plan.pp) {
    if (model_ranks > plan.gpus || !divides(model_ranks, plan.gpus)) return;
    dp = plan.gpus / model_ranks;
    const std::int64_t round = plan.micro_batch * dp;
    if (divides(round, plan.global_batch)) micro_batches = plan.global_batch / round;
  }

  const Model& model;
  const Cluster& cluster;
  const Plan& plan;
  std::int64_t context;       // all context-parallel ranks
  std::int64_t split;         // tensor or Ulysses ranks: what divides heads
  std::int64_t model_ranks;   // attention * context * pipeline
  std::int64_t expert_ranks;  // expert * expert-tensor * pipeline
  std::int64_t dp = 0;
  std::int64_t micro_batches = 0;
};

enum : unsigned { kForMsmoe = 1, kForMegatron = 2, kForTorchtitan = 4, kForAll = 7 };

struct Rule {
  const char* name;
  unsigned targets;
  bool (*holds)(const RuleCase&);
  std::string (*sentence)(const RuleCase&);  // REQUIRES that the rule does not hold
};

// Megatron-LM's conditions on --overlap-moe-expert-parallel-comm that the plan breaks: "full recomputation, ...".
// Empty where it breaks none, or overlaps no expert communication.
std::string megatron_overlap_faults(const Model& model, const Plan& plan);

// The sentences (plan_sentences.cc).
namespace sentence {
std::string world(const RuleCase& c);
std::string expert_world(const RuleCase& c);
std::string dense_model(const RuleCase& c);
std::string experts(const RuleCase& c);
std::string expert_width(const RuleCase& c);
std::string top_k(const RuleCase& c);
std::string expert_groups(const RuleCase& c);
std::string groups_per_token(const RuleCase& c);
std::string megatron_groups_per_token(const RuleCase& c);
std::string heads(const RuleCase& c);
std::string kv_heads(const RuleCase& c);
std::string kv_heads_split(const RuleCase& c);
std::string dense_width(const RuleCase& c);
std::string two_contexts(const RuleCase& c);
std::string layer_kinds(const RuleCase& c);
std::string context_of_recurrent_layers(const RuleCase& c);
std::string zigzag(const RuleCase& c);
std::string sequence_split(const RuleCase& c);
std::string ulysses_zigzag(const RuleCase& c);
std::string batch(const RuleCase& c);
std::string too_many_micro_batches(const RuleCase& c);
std::string too_many_chunks(const RuleCase& c);
std::string schedule(const RuleCase& c);
std::string interleaved_stages(const RuleCase& c);
std::string interleaved_micro_batches(const RuleCase& c);
std::string interleaved_rounds(const RuleCase& c);
std::string interleaved_p2p(const RuleCase& c);
std::string parted_backward_stages(const RuleCase& c);
std::string dualpipe_stages(const RuleCase& c);
std::string dualpipe_micro_batches(const RuleCase& c);
std::string merged_schedule(const RuleCase& c);
std::string merged_overlap(const RuleCase& c);
std::string delayed_weight_gradients(const RuleCase& c);
std::string megatron_schedule(const RuleCase& c);
std::string torchtitan_schedule(const RuleCase& c);
std::string enough_layers(const RuleCase& c);
std::string equal_stages(const RuleCase& c);
std::string equal_chunks(const RuleCase& c);
std::string layout_size(const RuleCase& c);
std::string layout_sum(const RuleCase& c);
std::string grad_wire(const RuleCase& c);
std::string act_wire(const RuleCase& c);
std::string precision_hardware(const RuleCase& c);
std::string fp8_hardware(const RuleCase& c);
std::string communication_sms(const RuleCase& c);
std::string megatron_overlap(const RuleCase& c);
}  // namespace sentence

}  // namespace msmoe
