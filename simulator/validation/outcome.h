// What the simulator says of a published run, beside what was published.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "simulator/prediction.h"
#include "simulator/validation/runs.h"

namespace msmoe::simulator::validation {

// A prediction with one assumption replaced.
struct Variant {
  Change change;
  double predicted = 0;
};

struct Outcome {
  const PublishedRun* run = nullptr;
  Prediction prediction;
  double predicted = 0;       // in the published quantity
  double step_seconds = 0;    // predicted
  double published_step = 0;  // what the published figure means as a step time, seconds
  bool fits = true;           // in memory, by msmoe's count
  std::vector<Variant> variants;

  // Of the step time, whatever was published: above 0 where the prediction is slower.
  double error() const { return step_seconds / published_step - 1; }
  double log_error() const;
  bool is_covered() const;  // the published step lies in the prediction's interval
  double lowest() const;    // of predicted, over the assumed conditions and the variants
  double highest() const;
};

// The prediction as the published quantity, by the source's count of FLOPs.
double in_published_quantity(const Published& published, const Model& model, const Prediction& prediction);

// With a scale, kernels take that instead of their software's kernel_time_scale.
Outcome predict_run(const PublishedRun& run, std::optional<double> kernel_time_scale = {});
// The same, and one assumption after the other replaced. Throws UserError where an alternative breaks a rule.
Outcome predict_run_and_variants(const PublishedRun& run);

}  // namespace msmoe::simulator::validation
