#include "simulator/evidence.h"

#include <array>

namespace msmoe::simulator {
namespace {

struct Grade {
  const char* name;
  const char* key;
  double uncertainty;
};

// The one table of what grades mean. The uncertainties are chosen, not fitted: a table of the machine itself repeats to
// a few percent; figures carried over from H100 microbenchmarks differ by about as much as those differ among
// themselves (cost_constants.h); data sheets state what is reached only in part; an assumption may be off by a quarter.
constexpr std::array<Grade, kNumEvidences> kGrades = {{
    {"measured", "measured", 0.03},
    {"derived", "derived", 0.08},
    {"data sheet", "data_sheet", 0.15},
    {"assumed", "assumed", 0.25},
}};

// Of the scale of a whole training system. Calibrated on one published run, the other rows of the same table come out
// within 10 % (MegaScale-MoE, arXiv 2505.11432, Table 3). Training systems that are not are 1 to about 2 times slower
// than their microbenchmarks.
constexpr double kCalibratedSoftware = 0.08;
constexpr double kUncalibratedSoftware = 0.25;

const Grade& row(Evidence grade) { return kGrades[static_cast<std::size_t>(grade)]; }

// The microbenchmarks themselves (scale 1) are no training run.
bool is_calibrated(const Software& software) { return software.kernel_time_scale != 1 && !software.source.empty(); }

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
