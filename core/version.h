// The version of msmoe: what --version says, what every JSON output carries, and what CMake reads.
#pragma once

namespace msmoe {

inline constexpr const char* kVersion = "0.1.0";

}  // namespace msmoe
