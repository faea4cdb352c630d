#include "simulator/validation/summary.h"

#include <algorithm>
#include <functional>

#include "simulator/validation/statistics.h"

namespace msmoe::simulator::validation {
namespace {

void add(Summary& summary, const Outcome& outcome) {
  summary.errors.push_back(outcome.error());
  if (outcome.is_covered()) ++summary.covered;
}

std::vector<Summary> grouped(const std::vector<Outcome>& outcomes,
                             const std::function<std::string(const Outcome&)>& name) {
  std::vector<Summary> summaries;
  for (const Outcome& outcome : outcomes) {
    auto summary = std::find_if(summaries.begin(), summaries.end(),
                                [&](const Summary& other) { return other.name == name(outcome); });
    if (summary == summaries.end()) summary = summaries.insert(summaries.end(), {name(outcome), {}, 0});
    add(*summary, outcome);
  }
  return summaries;
}

}  // namespace

double Summary::median_error() const { return median(sizes(errors)); }
double Summary::within(double limit) const { return share_within(errors, limit); }
double Summary::lowest() const { return *std::min_element(errors.begin(), errors.end()); }
double Summary::highest() const { return *std::max_element(errors.begin(), errors.end()); }

Summary summary_of(const std::string& name, const std::vector<Outcome>& outcomes) {
  Summary summary{name, {}, 0};
  for (const Outcome& outcome : outcomes) add(summary, outcome);
  return summary;
}

std::vector<Summary> by_software(const std::vector<Outcome>& outcomes) {
  return grouped(outcomes, [](const Outcome& outcome) { return outcome.run->software; });
}

std::vector<Summary> by_model(const std::vector<Outcome>& outcomes) {
  return grouped(outcomes, [](const Outcome& outcome) { return outcome.run->model; });
}

}  // namespace msmoe::simulator::validation
