// The report on the validation set, for programs (JSON) and for people (Markdown). Both depend on nothing but the set
// and the simulator, so that a report can be held to what is predicted.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "simulator/validation/bars.h"

namespace msmoe::simulator::validation {

inline constexpr double kMiss = 0.15;  // a larger error of the step time is a miss

struct Results {
  std::vector<PublishedRun> runs;  // all, those set aside too
  std::vector<Outcome> outcomes;   // of those that are not, in their order; they point at `runs`
  FigureSet figures;
  std::vector<std::vector<FigureValue>> values;  // of each figure; they point at `figures`
  std::vector<BarResult> bars;
};

nlohmann::ordered_json to_json(const Results& results);
std::string to_markdown(const Results& results);

}  // namespace msmoe::simulator::validation
