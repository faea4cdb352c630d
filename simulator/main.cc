// msmoe-sim: what does this plan do, and what would happen if?
#include <CLI/CLI.hpp>
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/version.h"
#include "reports/tool.h"
#include "simulator/command.h"
#include "simulator/what_if.h"

namespace {

constexpr const char* kExamples =
    "Predicts the step time and the memory of a training plan, as it is or changed.\n\n"
    "Examples:\n"
    "  msmoe-sim megascale-moe-352b\n"
    "  msmoe-sim megascale-moe-352b --what-if gpus=480,nic=200G\n"
    "  msmoe-sim megatron-lm-352b --sweep gpus=240,480,720 --sweep micro_batch=1,2 --csv";

constexpr const char* kExitCodes =
    "\nExit codes: 0 done; 1 does not fit in memory, or no row of a sweep is valid; 2 bad usage or input; 3 a fault, "
    "such as a full disk.\n";

// CLI11's complaint; for a flag that does not exist, the nearest one that does.
msmoe::UserError usage_error(const CLI::App& app, const CLI::ParseError& error, int argc, char** argv) {
  std::vector<std::string> known;
  for (const CLI::Option* option : app.get_options())
    for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  for (int arg_idx = 1; arg_idx < argc; ++arg_idx) {
    const std::string_view argument = argv[arg_idx];
    const std::string flag(argument.substr(0, argument.find('=')));
    if (!flag.starts_with("--") || std::find(known.begin(), known.end(), flag) != known.end()) continue;
    const std::string nearest = msmoe::nearest_word(flag, known);
    return {"", msmoe::excerpt(flag), "there is no such flag",
            nearest.empty() ? "see msmoe-sim --help" : "did you mean '" + nearest + "'?"};
  }
  return {"", "", error.what(), "see msmoe-sim --help"};
}

bool asks_for_json(int argc, char** argv) {
  for (int arg_idx = 1; arg_idx < argc; ++arg_idx)
    if (std::string_view(argv[arg_idx]) == "--json") return true;
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  msmoe::simulator::Command command;
  std::string report;
  CLI::App app(kExamples, "msmoe-sim");
  app.set_version_flag("--version", std::string("msmoe-sim ") + msmoe::kVersion);
  app.add_option("PLAN", command.plan, "a plan file, or the name of a plan that ships")->required();
  app.add_option("--what-if", command.what_if, "changes, beside the plan as it is: key=value,...");
  app.add_option("--sweep", command.sweeps, "one row for each value: key=v1,v2,...; several make a product")
      ->allow_extra_args(false);
  app.add_flag("--exact", command.exact, "every operator of every stage through the event engine");
  app.add_flag("--every-rank", command.every_rank, "every rank apart, with loads and speed of its own");
  app.add_option("--imbalance", command.imbalance,
                 "rows of the most loaded expert rank over balanced rows: 1 or more; or a file of tokens by expert, "
                 "draw:std=0.032, draw:dirichlet=4");
  app.add_option("--straggler", command.straggler,
                 "GPUs that compute slower: COUNT:FACTOR or rankN:FACTOR; implies --every-rank");
  app.add_option("--jitter", command.jitter,
                 "coefficient of variation of every compute operator on every rank; implies --every-rank");
  app.add_option("--seed", command.seed, "of what is drawn")->capture_default_str();
  app.add_option("--steps", command.steps,
                 "that --every-rank simulates; by default 20 where something is drawn, else 1");
  app.add_option("--tokens", command.tokens,
                 "tokens of the whole training (15T): adds days, failures, cost and energy");
  app.add_flag("--json", command.json, "one JSON object on standard output");
  app.add_flag("--csv", command.csv, "a header line and one line a row");
  app.add_option("--report", report, "write an HTML report (not built yet)");
  app.add_option("--trace", command.trace, "write the timeline, for https://ui.perfetto.dev; implies --exact");
  app.add_flag("--explain", command.explain, "print each term of step time and memory with its formula");
  app.footer("Keys of --what-if and --sweep:\n" + msmoe::simulator::changes_help() + kExitCodes);
  return msmoe::reports::run_tool("msmoe-sim", asks_for_json(argc, argv), [&]() -> int {
    try {
      app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
      throw usage_error(app, error, argc, argv);
    }
    if (!report.empty()) throw msmoe::UserError("", "--report", "is not built yet");
    return msmoe::simulator::run(command);
  });
}
