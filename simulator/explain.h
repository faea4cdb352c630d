// Explain: each term of a plan's step time and memory, with its formula and its numbers, as text.
#pragma once

#include <string>

#include "core/cluster.h"
#include "core/model.h"
#include "core/plan.h"

namespace msmoe::simulator {

// REQUIRES a valid plan (check_plan) and imbalance >= 1.
std::string explain(const Model& model, const Cluster& cluster, const Plan& plan, double imbalance);

// Where memory ends: the imbalance from which on the plan does not fit, or a value above largest_imbalance where it
// always fits; 1 where it does not fit even under balance.
double imbalance_that_fills_memory(const Model& model, const Cluster& cluster, const Plan& plan);

}  // namespace msmoe::simulator
