// Numbers as the reports have them.
#pragma once

#include <fmt/format.h>

#include <string>

namespace msmoe::simulator::validation {

// To four significant digits: more than any source prints, and few enough for reports to be the same everywhere.
inline double rounded(double value) { return std::stod(fmt::format("{:.4g}", value)); }
inline std::string percent(double ratio) { return fmt::format("{:+.1f} %", 100 * ratio); }

}  // namespace msmoe::simulator::validation
