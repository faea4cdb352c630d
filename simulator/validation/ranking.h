// Whether predictions order plans as measurements do: what a planner lives by.
#pragma once

#include <vector>

#include "simulator/validation/outcome.h"

namespace msmoe::simulator::validation {

// Published step times closer than this are no order: the same listed plan moves by a few percent from one release of
// a page to the next.
inline constexpr double kClearDifference = 0.08;

struct RankedPair {
  const Outcome* faster;  // as published
  const Outcome* slower;
  bool holds() const { return faster->step_seconds < slower->step_seconds; }
};

// Every pair of runs that answer the same question (model, cluster, GPUs, sequence length, global batch, precision) by
// the same software and whose published step times differ clearly.
std::vector<RankedPair> ranked_pairs(const std::vector<Outcome>& outcomes);

}  // namespace msmoe::simulator::validation
