// The validation set: published training runs, each as conditions that msmoe can predict and one published figure.
//
// One JSON file (reports/validation/runs.json) holds groups of runs that share a source. A group gives what its runs
// have in common, a run what is its own:
//
//   {"schema_version": 1, "groups": [{
//     "source": "arXiv 2505.11432 Table 3",                beside the conditions that its runs share (conditions.h)
//     "runs": [{"id": "...", "plan": {"gpus": 240}, "published": {"quantity": "step_seconds", "value": 21.61}}]}]}
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "simulator/validation/conditions.h"

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

struct PublishedRun : Conditions {
  std::string id, source;
  Published published;
  bool calibrates = true;   // its software's kernel_time_scale
  std::string set_aside;    // why it is not compared; empty where it is
  std::string note;         // on the source: contradictions, doubts
  std::string explanation;  // of a miss
};

// Throws UserError: unknown keys, values out of range, two runs of one id.
std::vector<PublishedRun> read_runs(const std::string& path);
std::vector<PublishedRun> parse_runs(const std::string& name, std::string_view json_text);

}  // namespace msmoe::simulator::validation
