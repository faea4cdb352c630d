#include "simulator/validation/calibration.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "simulator/validation/outcome.h"
#include "simulator/validation/statistics.h"

namespace msmoe::simulator::validation {
namespace {

// Scales that a system may plausibly have: a little better than the microbenchmarks, to many times worse.
constexpr double kLowestScale = 0.5, kHighestScale = 8;

double rounded(double scale) { return std::round(scale * 1000) / 1000; }

}  // namespace

double least(const std::function<double(double)>& error, double low, double high) {
  constexpr int kPoints = 12;
  const double lowest = low, highest = high;
  double best = low;
  double least_error = std::numeric_limits<double>::infinity();
  while (high - low > 0.0005) {
    const double ratio = std::pow(high / low, 1.0 / kPoints);
    for (int point = 0; point <= kPoints; ++point) {
      const double x = rounded(low * std::pow(ratio, point));
      if (const double e = error(x); e < least_error) {
        least_error = e;
        best = x;
      }
    }
    low = std::max(lowest, best / ratio);
    high = std::min(highest, best * ratio);
  }
  return best;
}

std::vector<Calibration> calibrate(const std::vector<PublishedRun>& runs, const std::function<void()>& on_prediction) {
  std::map<std::string, std::vector<const PublishedRun*>> rows_of;
  for (const PublishedRun& run : runs)
    if (run.set_aside.empty() && run.calibrates) rows_of[run.software].push_back(&run);
  std::vector<Calibration> calibrations;
  for (const auto& [software, rows] : rows_of) {
    const auto median_error = [&, &rows = rows](double scale) {
      std::vector<double> errors;
      for (const PublishedRun* run : rows) {
        errors.push_back(std::abs(predict_run(*run, scale).log_error()));
        on_prediction();
      }
      return median(errors);
    };
    const double scale = least(median_error, kLowestScale, kHighestScale);
    calibrations.push_back({software, scale, median_error(scale), rows.size()});
  }
  return calibrations;
}

}  // namespace msmoe::simulator::validation
