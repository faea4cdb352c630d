#include "simulator/validation/bars.h"

#include <algorithm>
#include <cmath>
#include <regex>

#include "core/error.h"
#include "simulator/validation/statistics.h"

namespace msmoe::simulator::validation {
namespace {

BarResult hold(const std::string& title, const Bar& bar, const std::vector<double>& errors) {
  const std::vector<double> of = sizes(errors);
  const double worst = bar.of == Bar::Of::kMedian ? median(of) : *std::max_element(of.begin(), of.end());
  return {title, bar, worst, of.size()};
}

}  // namespace

BarResult hold_runs(const RunBar& bar, const std::vector<Outcome>& outcomes) {
  const std::regex pattern(bar.runs);
  std::vector<double> errors;
  double over = 0, under = 0;
  for (const Outcome& outcome : outcomes) {
    if (outcome.run->id == bar.over) over = outcome.step_seconds;
    if (!std::regex_search(outcome.run->id, pattern)) continue;
    errors.push_back(outcome.error());
    under = outcome.step_seconds;
  }
  if (errors.empty()) throw UserError("", bar.title, "no run that is compared matches '" + bar.runs + "'");
  if (bar.over.empty()) return hold(bar.title, bar.bar, errors);
  if (over == 0) throw UserError("", bar.title, "no run that is compared is called '" + bar.over + "'");
  return hold(bar.title, bar.bar, {over / under - bar.ratio});
}

BarResult hold_figure(const Figure& figure, const std::vector<FigureValue>& values) {
  std::vector<double> errors;
  for (const FigureValue& value : values)
    if (value.compared) errors.push_back(value.error);
  return hold(figure.title, *figure.bar, errors);
}

}  // namespace msmoe::simulator::validation
