// What the cost terms of a case are (core/cost_terms.h): the shapes of grids.h in the terms of the cost model.
#pragma once

#include <string_view>

#include "core/cost_terms.h"
#include "profiler/point.h"

namespace msmoe::profiler {

// Of an operator alone: not of links, pairs, layers and launches.
bool has_terms(std::string_view what);
CostForm form_of(const Case& of);  // REQUIRES has_terms
// The operator whose fit tells the time of the case: what it is of, but for weight gradients of few rows.
std::string fitted_as(const Case& of);  // REQUIRES has_terms
TermChoices terms_of(const Case& of, const Gpu& gpu);

// What a memory-bound operator has to read and write, every operand once. REQUIRES: form_of is kMemory.
Bytes traffic_of(const Case& of);

}  // namespace msmoe::profiler
