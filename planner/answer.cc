#include "planner/answer.h"

#include <algorithm>

#include "core/data_files.h"

namespace msmoe::planner {
namespace {

std::vector<Reference> find_references(const Question& question) {
  std::vector<Reference> references;
  for (const std::string& name : shipped_names("plans")) {
    Plan plan = find_plan(name);
    if (plan.model != question.base.model) continue;
    plan.cluster = question.base.cluster;
    plan.gpus = question.base.gpus;
    plan.global_batch = question.base.global_batch;
    plan.seq_len = question.base.seq_len;
    if (is_valid(question.model, question.cluster, plan))
      references.push_back({name, simulator::predict(question.model, question.cluster, plan)});
  }
  return references;
}

// Fewer GPUs take longer, but waste less on bubbles and synchronisation: the third axis beside time and memory.
std::vector<Scored> find_on_fewer_gpus(const Question& question) {
  std::vector<Scored> plans;
  if (question.is_fixed("dp")) return plans;
  for (const std::int64_t divisor : {2, 4}) {
    if (question.base.gpus % divisor != 0) break;
    Question smaller = question;
    smaller.base.gpus /= divisor;
    if (auto plan = fastest(smaller)) plans.push_back(std::move(*plan));
  }
  return plans;
}

Loss explain_loss(const Question& question, const Alternative& alternative, const simulator::Prediction& winner) {
  Loss loss{.alternative = alternative};
  const simulator::Prediction other = simulator::predict(question.model, question.cluster, alternative.best.plan);
  for (std::size_t part = 0; part < other.parts.size(); ++part) {
    const Duration more = other.parts[part] - winner.parts[part];
    if (more <= loss.more) continue;
    loss.more = more;
    loss.part = static_cast<simulator::TimePart>(part);
  }
  return loss;
}

}  // namespace

Answer answer(const Question& question, const SearchHooks& hooks) {
  Answer result;
  result.search = search(question, hooks);
  for (const Scored& scored : result.search.best)
    result.best.push_back(simulator::predict(question.model, question.cluster, scored.plan));
  if (!result.best.empty()) result.fewer_gpus = find_on_fewer_gpus(question);
  result.references = find_references(question);
  for (const Alternative& alternative : result.search.alternatives)
    result.losses.push_back(explain_loss(question, alternative, result.best.front()));
  std::stable_sort(result.losses.begin(), result.losses.end(),
                   [](const Loss& a, const Loss& b) { return a.alternative.best.step < b.alternative.best.step; });
  return result;
}

}  // namespace msmoe::planner
