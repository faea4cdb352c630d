// What every tool's main does around its one function: errors become one line and an exit code.
#pragma once

#include <functional>
#include <string_view>

namespace msmoe::reports {

// Runs body and returns its exit code. A UserError is one line on standard error and kExitUsage; any other exception
// (a disk, a device, memory) is one line and kExitFault. With json, standard output gets {"error": ...} as well.
int run_tool(std::string_view tool, bool json, const std::function<int()>& body);

}  // namespace msmoe::reports
