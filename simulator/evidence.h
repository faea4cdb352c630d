// Evidence: what a cost that goes into a prediction rests on, and how far it may be off.
#pragma once

#include <cstdint>
#include <string>

#include "core/plan.h"

namespace msmoe::simulator {

enum class Evidence : std::uint8_t {
  kMeasured,   // on this very cluster
  kDerived,    // counted, or scaled from what was measured on another machine or published
  kDataSheet,  // a stated figure, taken as it is
  kAssumed,
};
inline constexpr int kNumEvidences = 4;
const char* evidence_name(Evidence grade);  // "measured", "derived", "data sheet", "assumed"
const char* evidence_key(Evidence grade);   // "measured", "derived", "data_sheet", "assumed"

struct Graded {
  Evidence grade = Evidence::kAssumed;
  std::string source;  // a clause for people
};

// Half of the 80 % interval of a time with this evidence, as a share of it.
double uncertainty(Evidence grade);
// The same of a training system's speed beside the microbenchmarks.
double uncertainty(const Software& software);
// How that speed is known: derived where it is calibrated on a published run, assumed otherwise.
Graded software_evidence(const Software& software);

}  // namespace msmoe::simulator
