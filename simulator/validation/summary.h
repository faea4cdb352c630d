// Errors of runs, put together by what the runs have in common.
#pragma once

#include <string>
#include <vector>

#include "simulator/validation/outcome.h"

namespace msmoe::simulator::validation {

struct Summary {
  std::string name;
  std::vector<double> errors;   // of step times, signed; never empty but for a set without runs
  double median_error() const;  // of their sizes
  double within(double limit) const;
  std::size_t covered = 0;  // published steps in their predictions' intervals
  double lowest() const;
  double highest() const;
};

Summary summary_of(const std::string& name, const std::vector<Outcome>& outcomes);
// In the order of the first run of each.
std::vector<Summary> by_software(const std::vector<Outcome>& outcomes);
std::vector<Summary> by_model(const std::vector<Outcome>& outcomes);

}  // namespace msmoe::simulator::validation
