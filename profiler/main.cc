// msmoe-profile: how fast is this machine?
#include <CLI/CLI.hpp>
#include <string>

#include "core/error.h"
#include "core/version.h"
#include "profiler/command.h"
#include "profiler/grids.h"
#include "reports/tool.h"

namespace {

constexpr const char* kExamples =
    "Measures the GPUs of this machine and the links between them, kernel by kernel, with CUPTI.\n\n"
    "Examples:\n"
    "  msmoe-profile --cluster h100\n"
    "  msmoe-profile --cluster h100 --only links --quick -o /tmp/h100.profile.json";

constexpr const char* kExitCodes =
    "An interrupted profile goes on where it stopped when the same command is given again.\n\n"
    "Exit codes: 0 done; 2 bad usage or input; 3 a fault, such as no GPU, CUPTI refused or a full disk.\n";

}  // namespace

int main(int argc, char** argv) {
  msmoe::profiler::Command command;
  CLI::App app(kExamples, "msmoe-profile");
  app.set_version_flag("--version", std::string("msmoe-profile ") + msmoe::kVersion);
  app.add_option("--cluster", command.cluster, "the description of this machine: a file, or the name of one that ships")
      ->required();
  app.add_option("-o,--output", command.output, "the file to write; by default NAME.profile.json");
  app.add_option("--only", command.only, "what to measure: " + msmoe::join(msmoe::profiler::case_kinds()))
      ->delimiter(',');
  app.add_option("--refit", command.refit, "fit the points of these profiles again, joined; no GPU is needed")
      ->delimiter(',');
  app.add_flag("--quick", command.quick, "fewer cases");
  app.footer(kExitCodes);
  return msmoe::reports::run_tool("msmoe-profile", false, [&]() -> int {
    try {
      app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
      throw msmoe::UserError("", "", error.what(), "see msmoe-profile --help");
    }
    return msmoe::profiler::run(command);
  });
}
