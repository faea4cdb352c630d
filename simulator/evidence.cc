#include "simulator/evidence.h"

#include <array>

namespace msmoe::simulator {
namespace {

struct Grade {
  const char* name;
  const char* key;
  double uncertainty;
};

// The one table of what grades mean. A table of the machine itself repeats to a few percent; data sheets state what is
// reached only in part; an assumption may be off by a quarter. What is carried over from H100 microbenchmarks, and the
// scale of a calibrated system, are as wide as makes four of five published runs lie in their interval
// (reports/validation/published.md): more than the microbenchmarks differ among themselves.
constexpr std::array<Grade, kNumEvidences> kGrades = {{
    {"measured", "measured", 0.03},
    {"derived", "derived", 0.10},
    {"data sheet", "data_sheet", 0.15},
    {"assumed", "assumed", 0.25},
}};

// Of the scale of a whole training system. Those that are not calibrated are 1 to about 2 times slower than their
// microbenchmarks.
constexpr double kCalibratedSoftware = 0.11;
constexpr double kUncalibratedSoftware = 0.25;

const Grade& row(Evidence grade) { return kGrades[static_cast<std::size_t>(grade)]; }

// The microbenchmarks themselves (scale 1) are no training run.
bool is_calibrated(const Software& software) {
  return software.kernel_time_scale != 1 && !software.source.empty() && !software.source.starts_with("not calibrated");
}

}  // namespace

const char* evidence_name(Evidence grade) { return row(grade).name; }
const char* evidence_key(Evidence grade) { return row(grade).key; }
double uncertainty(Evidence grade) { return row(grade).uncertainty; }
double uncertainty(const Software& software) {
  return is_calibrated(software) ? kCalibratedSoftware : kUncalibratedSoftware;
}

Graded software_evidence(const Software& software) {
  if (is_calibrated(software)) return {Evidence::kDerived, "calibrated on " + software.source};
  return {Evidence::kAssumed, "not calibrated on a training run"};
}

}  // namespace msmoe::simulator
