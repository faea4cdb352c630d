// What the errors of many predictions add up to.
#pragma once

#include <vector>

namespace msmoe::simulator::validation {

// The middle one, or the mean of the two in the middle. REQUIRES: not empty.
double median(std::vector<double> values);
// Of the errors, how many are at most `limit` in size: 0 to 1. REQUIRES: not empty.
double share_within(const std::vector<double>& errors, double limit);
// |e| of each.
std::vector<double> sizes(std::vector<double> errors);

}  // namespace msmoe::simulator::validation
