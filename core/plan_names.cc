#include "core/plan_names.h"

#include <fmt/format.h>

#include "core/error.h"

namespace msmoe {

FeedForwardParallelism feed_forward_parallelism(const Plan& plan) {
  if (plan.etp == 1) return FeedForwardParallelism::kExpert;
  return plan.ep == 1 ? FeedForwardParallelism::kTensor : FeedForwardParallelism::kExpertAndTensor;
}

std::vector<std::string> recompute_elements(Recompute set) {
  std::vector<std::string> names;
  for (const auto& choice : kRecomputeChoices)
    if (contains(set, choice.value)) names.emplace_back(choice.name);
  return names;
}

std::string recompute_name(Recompute set) {
  for (const auto& choice : kRecomputeSets)
    if (choice.value == set) return choice.name;
  return join(recompute_elements(set), "+");
}

std::string allowed_bytes(const ByteChoices& choices) {
  std::vector<std::string> texts;
  for (const double bytes : choices.allowed) {
    const std::string text = fmt::format("{}", bytes);
    if (texts.empty() || texts.back() != text) texts.push_back(text);
  }
  return join(texts);
}

}  // namespace msmoe
