// The report on the validation set, for programs (JSON) and for people (Markdown). Both depend on nothing but the set
// and the simulator, so that a report can be held to what is predicted.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "simulator/validation/outcome.h"

namespace msmoe::simulator::validation {

inline constexpr double kMiss = 0.15;  // a larger error of the step time is a miss

// The runs that a set of runs compares, in its order.
struct Results {
  std::vector<PublishedRun> runs;  // all, those set aside too
  std::vector<Outcome> outcomes;
};

nlohmann::ordered_json to_json(const Results& results);
std::string to_markdown(const Results& results);

}  // namespace msmoe::simulator::validation
