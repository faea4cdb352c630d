#include "simulator/validation/outcome.h"

#include <algorithm>
#include <cmath>

namespace msmoe::simulator::validation {
namespace {

// msmoe counts half of the square of attention (flops_per_token in core/model.h); the other half is as much again.
double flops_per_token_by(AttentionFlops convention, const Model& model, const Prediction& prediction) {
  const double causal = prediction.flops_per_token.count;
  if (convention == AttentionFlops::kCausal) return causal;
  const double matrices = 6 * static_cast<double>(count_parameters(model).active_matrices);
  return matrices + 2 * (causal - matrices);
}

}  // namespace

double in_published_quantity(const Published& published, const Model& model, const Prediction& prediction) {
  const double tokens = prediction.tokens_per_second_per_gpu();
  switch (published.quantity) {
    case Quantity::kStepSeconds: return to_seconds(prediction.step);
    case Quantity::kTokensPerSecondPerGpu: return tokens;
    case Quantity::kTflopsPerGpu: return tokens * flops_per_token_by(published.attention, model, prediction) * 1e-12;
    case Quantity::kMfu: break;
  }
  return tokens * flops_per_token_by(published.attention, model, prediction) / prediction.peak.count;
}

bool Outcome::is_covered() const {
  return published_step >= to_seconds(prediction.step_low) && published_step <= to_seconds(prediction.step_high);
}

double Outcome::log_error() const { return std::log(step_seconds / published_step); }

double Outcome::lowest() const {
  double lowest = predicted;
  for (const Variant& variant : variants) lowest = std::min(lowest, variant.predicted);
  return lowest;
}

double Outcome::highest() const {
  double highest = predicted;
  for (const Variant& variant : variants) highest = std::max(highest, variant.predicted);
  return highest;
}

Outcome predict_run(const PublishedRun& run, std::optional<double> kernel_time_scale) {
  Scenario scenario = scenario_of(run, run.id);
  if (kernel_time_scale) scenario.plan.software.kernel_time_scale = *kernel_time_scale;
  Outcome outcome;
  outcome.run = &run;
  outcome.prediction = simulate(scenario);
  outcome.predicted = in_published_quantity(run.published, scenario.model, outcome.prediction);
  outcome.step_seconds = to_seconds(outcome.prediction.step);
  outcome.fits = outcome.prediction.memory.fits();
  // A step time is what it is; all else falls as the step grows.
  outcome.published_step = run.published.quantity == Quantity::kStepSeconds
                               ? run.published.value
                               : outcome.step_seconds * outcome.predicted / run.published.value;
  return outcome;
}

Outcome predict_run_and_variants(const PublishedRun& run) {
  Outcome outcome = predict_run(run);
  for (const Assumption& assumption : run.assumed) {
    for (const std::string& value : assumption.alternatives) {
      const Change change{assumption.key, value};
      const Scenario scenario = scenario_of(run, run.id, &change);
      outcome.variants.push_back({change, in_published_quantity(run.published, scenario.model, simulate(scenario))});
    }
  }
  return outcome;
}

}  // namespace msmoe::simulator::validation
