// Job: a training as its command line asks for it: read and checked once, then run by one process a rank.
#pragma once

#include <memory>
#include <string>

#include "core/cluster.h"
#include "core/model.h"
#include "core/plan.h"
#include "executor/data/token_source.h"
#include "executor/job/options.h"
#include "executor/launch/process_place.h"
#include "executor/model_numerics.h"

namespace msmoe::executor {

struct Job {
  RunOptions options;
  Plan plan;
  Model model;
  Cluster cluster;
  ModelNumerics numerics;
  std::string model_path;  // of its config.json
  std::unique_ptr<TokenSource> data, validation;

  // A UserError for whatever is wrong with options, plan, model or data.
  explicit Job(RunOptions given);
};

// What msmoe-run does: the rank that the environment says (torchrun, Slurm, Open MPI), or, where it says none, all of
// the plan's ranks on this host. Returns the exit code; throws UserError and std::runtime_error.
int run_job(const RunOptions& options);

// One rank of it. Collective over all ranks.
int run_rank(Job& job, const ProcessPlace& place);

}  // namespace msmoe::executor
