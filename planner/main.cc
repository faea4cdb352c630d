// msmoe-plan: which plan trains this model best on this cluster?
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "core/error.h"
#include "core/version.h"
#include "planner/command.h"
#include "reports/tool.h"

namespace {

constexpr const char* kExamples =
    "Finds the best training plan for a model on a number of GPUs.\n\n"
    "Examples:\n"
    "  msmoe-plan megascale-352b --cluster h800 --gpus 1440 --global-batch 720 --seq-len 8192\n"
    "  msmoe-plan mixtral-8x7b --cluster h100 --gpus 16 --global-batch 128 --seq-len 4k --fix ep=8 -o plan.json\n"
    "  msmoe-plan ./config.json --cluster ./my-cluster.json --gpus 256 --global-batch 2048 --seq-len 4096 --json";

}  // namespace

int main(int argc, char** argv) {
  msmoe::planner::Command command;
  std::string report, export_target;
  CLI::App app(kExamples, "msmoe-plan");
  app.set_version_flag("--version", std::string("msmoe-plan ") + msmoe::kVersion);
  app.add_option("MODEL", command.model, "a Hugging Face config.json, or the name of a model that ships")->required();
  app.add_option("--cluster", command.cluster, "a cluster file, or the name of one that ships")->required();
  app.add_option("--gpus", command.gpus, "GPUs to use")->required();
  app.add_option("--global-batch", command.global_batch, "sequences per step")->required();
  app.add_option("--seq-len", command.seq_len, "tokens per sequence (4096, 128k)")->required();
  app.add_option("--tokens", command.tokens, "tokens of the whole training (15T): adds days, GPU-hours and cost");
  app.add_option("--precision", command.precision, "fp32|bf16|fp8; bf16 where it is left out, fp32 on CPUs");
  app.add_option("--fix", command.fix, "fields that the search leaves alone: key=value,...");
  app.add_option("--objective", command.objective, "time|cost|memory")->capture_default_str();
  app.add_option("--top", command.top, "plans to report")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("-o,--output", command.output, "write the best plan here");
  app.add_flag("--json", command.json, "one JSON object on standard output");
  app.add_option("--report", report, "write an HTML report (not built yet)");
  app.add_option("--trace", command.trace, "write the best plan's timeline, for Perfetto");
  app.add_option("--export", export_target, "megatron|megatron-bridge|deepspeed|torchtitan (not built yet)");
  app.add_flag("--explain", command.explain, "print each term of step time and memory with its formula");
  app.add_option("--jobs", command.jobs, "threads; 0: one a core")->check(CLI::Range(0, 1024))->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    fmt::print(stderr, "msmoe-plan: {}; see msmoe-plan --help\n", error.what());
    return msmoe::kExitUsage;
  }
  return msmoe::reports::run_tool("msmoe-plan", command.json, [&] {
    for (const auto& [flag, value] : {std::pair{"--report", report}, std::pair{"--export", export_target}})
      if (!value.empty()) throw msmoe::UserError("", flag, "is not built yet");
    return msmoe::planner::run(command);
  });
}
