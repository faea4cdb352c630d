// msmoe-sim's command line as a value, and the one function that carries it out.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace msmoe::simulator {

struct Command {
  std::string plan;
  std::string what_if;               // "gpus=480,nic=200G"; empty: the plan as it is
  std::vector<std::string> sweeps;   // each "key=v1,v2,..."
  std::string imbalance;             // "1.5", a file, "draw:std=0.032"; empty: balanced
  std::string straggler, jitter;     // as their what-if keys take them; empty: none
  std::int64_t seed = 1, steps = 0;  // steps: 0 where not given
  std::string tokens;                // of the whole training, "15T"; empty: not asked
  std::string trace;                 // where to write the timeline; empty: nowhere
  bool exact = false, every_rank = false, json = false, csv = false, explain = false;
};

// Prints the answer to standard output, progress to standard error. Returns the exit code: 0; or 1 where the plan does
// not fit in memory, or where no row of a sweep is valid. Throws UserError for bad input and std::runtime_error where
// something cannot be written.
int run(const Command& command);

}  // namespace msmoe::simulator
