#include "reports/tool.h"

#include <fmt/format.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "reports/json.h"

namespace msmoe::reports {
namespace {

int fail(std::string_view tool, bool json, int code, const std::string& line, const std::string& message,
         const std::string& hint) {
  if (json) fmt::print("{}", dump_json(error_json(code, message, hint)));
  fmt::print(stderr, "{}: {}\n", tool, line);
  return code;
}

}  // namespace

int run_tool(std::string_view tool, bool json, const std::function<int()>& body) {
  // A reader that has seen enough (head, less) closes the pipe: end quietly, as other Unix tools do.
  std::signal(SIGPIPE, SIG_DFL);
  try {
    return body();
  } catch (const UserError& error) {
    std::string message = error.message();
    for (const std::string& where : {error.place(), error.file()})
      if (!where.empty()) message = where + ": " + message;
    return fail(tool, json, kExitUsage, error.what(), message, error.hint());
  } catch (const std::exception& error) {
    return fail(tool, json, kExitFault, error.what(), error.what(), "");
  }
}

}  // namespace msmoe::reports
