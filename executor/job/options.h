// msmoe-run's command line as a value.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace msmoe::executor {

struct RunOptions {
  std::string plan;
  std::vector<std::string> data;      // open_tokens (executor/data/open_tokens.h)
  std::int64_t steps = 0;             // of the whole training, resumed or not
  std::string backend;                // cpu | cuda; empty: the one that has the plan's precision
  std::optional<int> nproc;           // ranks on this host; not given: as many as the plan has
  std::string from;                   // a folder of weights to start from; empty: random ones
  std::string checkpoint_dir;         // empty: none are written
  std::int64_t checkpoint_every = 0;  // steps; 0: only at the end
  bool resume = false;
  std::string metrics, tensorboard, trace;  // files and a folder; empty: none
  bool deterministic = false, dry_run = false;

  std::uint64_t seed = 1;
  double rate = 3e-4, min_rate = 0;  // of learning: the peak, and the end of the cosine
  std::int64_t warmup = 0;           // steps
  double decay = 0.1, beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, clip = 1;
  std::optional<double> auxiliary;      // coefficient of the auxiliary loss; not given: what config.json says
  double z = 0;                         // of the z loss
  double bias_rate = 0;                 // of router biases that balance experts
  std::vector<std::string> validation;  // data; empty: none
  std::int64_t validate_every = 0;      // steps; 0: only at the end
  std::int64_t validation_batches = 1;  // global batches

  std::vector<std::string> arguments;  // the command line, for the processes of the ranks
};

// A UserError that names the flag and what is allowed.
void check_options(const RunOptions& options);

// Linear from 0 to the peak over the warm-up, then half a cosine down to the minimum at the last step.
// step: from 1 on.
double learning_rate(const RunOptions& options, std::int64_t step);

}  // namespace msmoe::executor
