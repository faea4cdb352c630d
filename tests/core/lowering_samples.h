// What the tests of the lowering share: plans by their options, and sums over operators.
#pragma once

#include <algorithm>
#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/group.h"
#include "core/model.h"
#include "core/plan.h"
#include "core/program.h"

namespace msmoe {

using Fields = std::vector<std::pair<const char*, const char*>>;
using Operators = std::vector<Operator>;

// One sequence of 8192 tokens a micro-batch, on as many GPUs as any plan of these tests spans.
inline Plan plan_with(const Fields& fields) {
  Plan plan;
  plan.gpus = 64;
  plan.global_batch = 64;
  plan.seq_len = 8192;
  for (const auto& [key, value] : fields) set_plan_field(plan, key, value);
  return plan;
}

inline bool is_fused(const Operator& op) {
  return op.compute.kind != ComputeKind::kNone && op.transfer.collective != Collective::kNone;
}
inline bool is_attention(const Operator& op) {
  return op.compute.kind == ComputeKind::kAttention || op.compute.kind == ComputeKind::kAttentionBackward;
}

using Choose = std::function<bool(const Operator&)>;
inline bool any_operator(const Operator&) { return true; }
inline Choose of_pass(Pass pass) {
  return [pass](const Operator& op) { return op.pass == pass; };
}
inline Choose over_group(GroupKind group) {
  return [group](const Operator& op) { return op.transfer.group == group; };
}

inline double flops_of(const Operators& operators, const Choose& choose = any_operator) {
  double sum = 0;
  for (const Operator& op : operators)
    if (choose(op)) sum += op.compute.flops.count;
  return sum;
}

// Elements of two bytes that one rank sends.
inline double sent_elements(const Operators& operators, const Plan& plan, const Choose& choose = any_operator) {
  double sum = 0;
  for (const Operator& op : operators)
    if (choose(op)) sum += wire_bytes(op.transfer, group_of(op.transfer.group, plan, 8).size).count / 2;
  return sum;
}

inline std::vector<std::string> names_of(const Operators& operators, const Choose& choose = any_operator) {
  std::vector<std::string> names;
  for (const Operator& op : operators)
    if (choose(op)) names.emplace_back(op.name);
  return names;
}

// REQUIRES that the operator is there.
inline const Operator& find_operator(const Operators& operators, const std::string& name) {
  return *std::find_if(operators.begin(), operators.end(), [&](const Operator& op) { return op.name == name; });
}
inline bool has_operator(const Operators& operators, const std::string& name) {
  return std::any_of(operators.begin(), operators.end(), [&](const Operator& op) { return op.name == name; });
}

inline std::set<std::string> kept_names(const Module& module) {
  std::set<std::string> names;
  for (const Tensor& tensor : module.tensors)
    if (tensor.kept) names.insert(tensor.name);
  return names;
}

// Plans that differ in everything a layer's operators depend on but the recompute set and the overlap. Degrees are
// bounded by the key/value heads: beyond them their projection is repeated.
inline std::vector<Plan> grid_of_plans(const Model& model) {
  std::vector<Plan> plans;
  const LayerKind& kind = model.layer(model.layers.size() - 1);
  for (const char* attention : {"tp", "sp", "cp"}) {
    for (const char* degree : {"1", "2", "4", "8"}) {
      for (const char* context : {"1", "2"}) {
        for (const char* dispatch : {"a2a", "ag_rs"}) {
          for (const auto& [ep, etp] : {std::pair{"1", "1"}, {"8", "1"}, {"1", "4"}, {"2", "4"}}) {
            Plan plan = plan_with({{"attention", attention},
                                   {"attention_degree", degree},
                                   {"cp", context},
                                   {"dispatch", dispatch},
                                   {"ep", ep},
                                   {"etp", etp}});
            const bool two_contexts = plan.attention == AttentionParallelism::kContext && plan.context_degree > 1;
            if (plan.attention_degree > kind.attention.kv_heads || two_contexts) continue;
            plans.push_back(plan);
          }
        }
      }
    }
  }
  return plans;
}

}  // namespace msmoe
