// Study: what --what-if and --sweep answer. Scenarios are simulated one by one and shown side by side.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "reports/style.h"
#include "reports/table.h"
#include "simulator/what_if.h"

namespace msmoe::simulator {

// One scenario simulated, or the sentence that says why it cannot be.
struct Outcome {
  std::vector<Change> changes;  // those that tell it from its neighbours
  Scenario scenario;
  std::optional<Prediction> prediction;
  std::string reason;

  bool fits() const { return prediction && prediction->memory.fits(); }
};
// A UserError becomes the outcome's reason.
Outcome try_scenario(const Scenario& base, std::vector<Change> changes, const PredictionOptions& options);

// The product of all sweeps, each given as "key=v1,v2,...", the last one running fastest. Throws UserError for a key
// that does not exist and for more than 100,000 combinations.
std::vector<std::vector<Change>> cross_product(const std::vector<std::string>& sweeps);

// ---- Rendering. tokens: of the whole training, for days, GPU-hours, failures, cost and energy.
// REQUIRES: the changed scenario was simulated; base may not have been.
std::string comparison_text(const Outcome& base, const Outcome& changed, std::optional<double> tokens,
                            const reports::Style& style);
nlohmann::ordered_json comparison_json(const Outcome& base, const Outcome& changed, std::optional<double> tokens);
// One prediction with its scenario's imbalance.
nlohmann::ordered_json outcome_json(const Outcome& outcome, std::optional<double> tokens);

// REQUIRES: all have the same keys in changes.
std::string sweep_text(const std::vector<Outcome>& outcomes, std::optional<double> tokens,
                       const reports::Table::TextOptions& options);
nlohmann::ordered_json sweep_json(const std::vector<Outcome>& outcomes, std::optional<double> tokens);
// The changes first, then the columns of docs/output.md.
std::string outcomes_csv(const std::vector<Outcome>& outcomes, std::optional<double> tokens);

}  // namespace msmoe::simulator
