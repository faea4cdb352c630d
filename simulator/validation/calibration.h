// Fits the one constant that a training system has.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "simulator/validation/runs.h"

namespace msmoe::simulator::validation {

struct Calibration {
  std::string software;
  double kernel_time_scale = 0;  // three decimals
  double median_error = 0;       // of |log(predicted / published)| of step times, at that scale
  std::size_t rows = 0;
};

// The x in [low, high] where `error` is least: a grid in equal ratios, then ever finer ones round the best point, since
// a median of several curves may have more than one valley. To three decimals.
double least(const std::function<double(double)>& error, double low, double high);

// For each software, over its runs that are not set aside and may calibrate.
std::vector<Calibration> calibrate(const std::vector<PublishedRun>& runs, const std::function<void()>& on_prediction);

}  // namespace msmoe::simulator::validation
