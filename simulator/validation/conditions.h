// The conditions of a published figure: a model, a cluster and a plan, each condition stated by the source or assumed.
//
//   "software": "megascale-moe", "model": "megascale-352b", "cluster": "h800",
//   "model_changes": {"layers": 4}, "cluster_changes": {"hbm": "2.4 TB/s"},      as --what-if takes them
//   "plan": {"seq_len": 8192, "ep": 8},                                          what the source states, likewise
//   "assumed": [{"key": "micro_batch", "value": 1, "alternatives": [2], "why": "..."}]
//
// Any of them may be left out where an object around this one gives it; what stands nearer wins. What is neither stated
// nor assumed has the default of Plan; the schedule follows vpp where it is not given.
#pragma once

#include <string>
#include <vector>

#include "core/json_reader.h"
#include "simulator/what_if.h"

namespace msmoe::simulator::validation {

// A condition that the source leaves out and that bears on speed.
struct Assumption {
  std::string key, value;
  std::vector<std::string> alternatives;  // that would be as plausible
  std::string why;
};

struct Conditions {
  std::string software, model, cluster;
  std::vector<Change> stated;
  std::vector<Assumption> assumed;
};

// Reads the keys above from `object` over what is there already. Throws UserError where an assumption is of a condition
// that is stated.
void read_conditions(JsonObject& object, Conditions& conditions);

// Throws UserError where software, model or cluster was given nowhere.
void require_complete(const JsonObject& object, const Conditions& conditions);

// The model, cluster and plan of conditions, with `alternative` (where there is one) in place of the assumption of its
// key. Throws UserError with `name` as the file where a change is unknown or not allowed, or the plan breaks a rule.
Scenario scenario_of(const Conditions& conditions, const std::string& name, const Change* alternative = nullptr);

}  // namespace msmoe::simulator::validation
