#include "executor/job/job.h"

#include <fmt/format.h>

#include <filesystem>
#include <utility>

#include "core/data_files.h"
#include "core/error.h"
#include "core/memory_plan.h"
#include "core/plan_names.h"
#include "core/program.h"
#include "core/units_text.h"
#include "executor/checkpoint/model_files.h"
#include "executor/data/open_tokens.h"
#include "executor/data/sampler.h"
#include "executor/launch/supervisor.h"
#include "executor/training/trainer.h"

namespace msmoe::executor {
namespace {

std::string backend_of(const RunOptions& options, const Plan& plan) {
  if (!options.backend.empty()) return options.backend;
  return plan.precision == Precision::kFp32 ? "cpu" : "cuda";
}

// Before anything is started: a file that cannot be made would only be found out by rank 0.
void check_folder_of(const char* flag, const std::string& file) {
  const std::filesystem::path folder = std::filesystem::path(file).parent_path();
  if (!file.empty() && !folder.empty() && !std::filesystem::is_directory(folder))
    throw UserError(file, flag, "there is no such folder");
}

// The plan's row of each stage, and what its ranks would do.
void print_dry_run(const Job& job) {
  const Plan& plan = job.plan;
  fmt::print("{}\n", describe_plan(plan));
  const Program program = executable_program(job.model, job.cluster, plan);
  const MemoryReport memory = plan_memory(job.model, job.cluster, program);
  for (std::size_t stage = 0; stage < memory.stages.size(); ++stage) {
    const StageMemory& rows = memory.stages[stage];
    fmt::print("stage {}: {} slots, {} a rank, activations {}\n", stage, program.stages[stage].slots.size(),
               format_bytes(rows.total()), format_bytes(rows[MemoryRow::kActivations] + rows[MemoryRow::kWorkspace]));
  }
  const std::int64_t tokens = plan.global_batch * plan.seq_len;
  fmt::print("data: {} tokens; {} steps of {} tokens read them {:.2f} times\n", job.data->num_tokens(),
             job.options.steps, tokens,
             static_cast<double>(job.options.steps * tokens) / static_cast<double>(job.data->num_tokens()));
}

}  // namespace

Job::Job(RunOptions given) : options(std::move(given)) {
  check_options(options);
  plan = find_plan(options.plan);
  model = find_model(plan.model);
  model_path = model.name;
  cluster = find_cluster(plan.cluster);
  require_valid(model, cluster, plan, options.plan);
  numerics = read_numerics(model);
  check_windows(model, plan.seq_len);
  if (backend_of(options, plan) == "cuda")
    throw UserError("", "--backend", "training on GPUs is not built yet",
                    "plans of precision fp32 train on CPUs: msmoe-plan MODEL --cluster cpu");
  check_trainable(model, plan, kernels::Element::kFp32);
  if (options.nproc && *options.nproc != plan.gpus)
    throw UserError("", "--nproc", fmt::format("{} processes, and the plan is for {}", *options.nproc, plan.gpus),
                    "as many as the plan's gpus");
  if (!options.from.empty()) ModelReader{options.from};  // its headers are whole
  check_folder_of("--metrics", options.metrics);
  check_folder_of("--trace", options.trace);
  data = open_tokens(options.data, model.vocab);
  if (!options.validation.empty()) validation = open_tokens(options.validation, model.vocab);
}

int run_job(const RunOptions& options) {
  Job job(options);
  if (options.dry_run) {
    print_dry_run(job);
    return kExitDone;
  }
  const ProcessPlace place = find_process_place(environment_variable);
  if (place.launcher == Launcher::none && job.plan.gpus > 1) {
    const Outcome outcome =
        Supervisor({.num_ranks = static_cast<int>(job.plan.gpus), .arguments = options.arguments}).run();
    if (!outcome.message().empty()) fmt::print(stderr, "msmoe-run: {}\n", outcome.message());
    return outcome.exit_code();
  }
  if (place.num_ranks != job.plan.gpus)
    throw UserError(
        options.plan, "gpus",
        fmt::format("the plan is for {} ranks, and the launcher started {}", job.plan.gpus, place.num_ranks));
  return run_rank(job, place);
}

}  // namespace msmoe::executor
