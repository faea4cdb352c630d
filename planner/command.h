// msmoe-plan's command line as a value, and the one function that carries it out.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace msmoe::planner {

struct Command {
  std::string model, cluster;
  std::string gpus, global_batch, seq_len;  // numbers as people write them: "1440", "128k"
  std::string tokens;                       // "15T"; empty: none
  std::string precision;                    // empty: bf16, or what the cluster has
  std::string fix;                          // "key=value,..."
  std::string objective = "time";
  std::string output;  // plan.json; empty: none
  std::string trace;   // timeline of the best plan; empty: none
  int top = 5;
  int jobs = 0;  // 0: one a core
  bool json = false, explain = false;
};

// Prints the answer to standard output, progress to standard error; returns the exit code: 0, or 1 where nothing fits.
// Throws UserError for bad input and std::runtime_error where a file cannot be written.
int run(const Command& command);

}  // namespace msmoe::planner
