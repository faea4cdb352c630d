// The size of what is simulated: times are 64-bit picoseconds, 106 days at most.
#pragma once

#include <cstdint>
#include <string>

#include "core/cluster.h"
#include "core/model.h"
#include "core/plan.h"

namespace msmoe {

// Throws UserError where one step would take more than two hours if every GPU ran at its peak: about a hundred times
// the longest published step, and far enough below 106 days for plans a thousand times slower than the peak.
void require_simulable(const Model& model, const Cluster& cluster, const Plan& plan, const std::string& file);

}  // namespace msmoe
