#include "simulator/validation/statistics.h"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace msmoe::simulator::validation {

double median(std::vector<double> values) {
  assert(!values.empty());
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*std::max_element(values.begin(), middle) + *middle) / 2;
}

double share_within(const std::vector<double>& errors, double limit) {
  assert(!errors.empty());
  const auto within =
      std::count_if(errors.begin(), errors.end(), [&](double error) { return std::abs(error) <= limit; });
  return static_cast<double>(within) / static_cast<double>(errors.size());
}

std::vector<double> sizes(std::vector<double> errors) {
  for (double& error : errors) error = std::abs(error);
  return errors;
}

}  // namespace msmoe::simulator::validation
