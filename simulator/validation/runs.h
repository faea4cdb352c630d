// The validation set: published training runs, each as conditions that msmoe can predict and one published figure.
//
// One JSON file (reports/validation/runs.json) holds groups of runs that share a source. A group gives what its runs
// have in common, a run what is its own:
//
//   {"schema_version": 1, "groups": [{
//     "source": "arXiv 2505.11432 Table 3", "software": "megascale-moe", "cluster": "h800",
//     "cluster_changes": {"hbm": "2.4 TB/s"},              as --what-if takes them; may be left out
//     "plan": {"seq_len": 8192, "ep": 8},                  what the source states, as --what-if takes it
//     "assumed": [{"key": "micro_batch", "value": 1, "alternatives": [2], "why": "..."}],
//     "runs": [{"id": "...", "model": "megascale-352b", "model_changes": {"layers": 4}, "plan": {"gpus": 240},
//               "published": {"quantity": "step_seconds", "value": 21.61}}]}]}
//
// A run's plan and assumptions come beside its group's and win over them. What neither states nor assumes has the
// default of Plan; the schedule follows vpp where it is not given.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "simulator/what_if.h"

namespace msmoe::simulator::validation {

enum class Quantity { kStepSeconds, kTokensPerSecondPerGpu, kTflopsPerGpu, kMfu };
const char* quantity_name(Quantity quantity);

// How the source counts the FLOPs of attention: half of the square, as msmoe does, or all of it.
enum class AttentionFlops { kCausal, kFull };

struct Published {
  Quantity quantity = Quantity::kStepSeconds;
  double value = 0;
  AttentionFlops attention = AttentionFlops::kCausal;
};

// A condition that the source leaves out and that bears on speed.
struct Assumption {
  std::string key, value;
  std::vector<std::string> alternatives;  // that would be as plausible
  std::string why;
};

struct PublishedRun {
  std::string id, source, software, model, cluster;
  std::vector<Change> stated;
  std::vector<Assumption> assumed;
  Published published;
  bool calibrates = true;   // its software's kernel_time_scale
  std::string set_aside;    // why it is not compared; empty where it is
  std::string note;         // on the source: contradictions, doubts
  std::string explanation;  // of a miss
};

// Throws UserError: unknown keys, values out of range, two runs of one id.
std::vector<PublishedRun> read_runs(const std::string& path);
std::vector<PublishedRun> parse_runs(const std::string& name, std::string_view json_text);

// The run's model, cluster and plan, with `alternative` in place of the assumption of its key. Throws UserError naming
// the run where a change is unknown or not allowed, or where the plan breaks a rule.
Scenario scenario_of(const PublishedRun& run);
Scenario scenario_of(const PublishedRun& run, const Change& alternative);

}  // namespace msmoe::simulator::validation
