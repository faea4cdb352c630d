// The fields of a model and of a cluster by the names that --what-if and --sweep take: one table. Those of a plan are
// in core/plan_fields.cc.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "simulator/what_if.h"

namespace msmoe::simulator {

struct ScenarioField {
  std::string name;
  std::string help;
  std::function<void(Scenario&, const std::string& value)> set;  // throws UserError(place = name)
};
const std::vector<ScenarioField>& scenario_fields();

}  // namespace msmoe::simulator
