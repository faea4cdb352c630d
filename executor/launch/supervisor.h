// Supervisor: the local launcher. It starts this program once for each rank on this host and waits for all of them.
//
//   One fails (an exit code that is not 0, or a signal): the others get SIGTERM, and after a grace time SIGKILL.
//   SIGTERM, SIGINT or SIGHUP to the supervisor: passed on to all once, and then it waits, for they may be writing a
//   checkpoint. A second SIGINT kills them.
//   The supervisor itself is killed: the kernel kills all of them.
//
// Their standard output and error are passed on in whole lines. They get torchrun's environment variables, and rank 0
// the socket that all others will connect to, which listens already: no port is guessed.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace msmoe::executor {

struct SupervisorOptions {
  int num_ranks = 1;
  std::vector<std::string> arguments;      // of each, after the program's name
  std::chrono::milliseconds grace{10000};  // between SIGTERM and SIGKILL
  int out = 1, err = 2;                    // where their lines go
};

struct RankFailure {
  int rank = 0;
  int status = 0;               // as waitpid gives it
  std::string last_error_line;  // what it said last on standard error; may be empty
};

struct Outcome {
  std::optional<RankFailure> first_failure;
  std::vector<int> not_ended;  // ranks that the kernel has not ended 10 s after SIGKILL

  // 0 only if every rank's is 0. That of the first rank that failed where it is an ExitCode, else kExitFault.
  int exit_code() const;
  // "rank 3 was killed by SIGSEGV; its last line of errors: ..."; empty where all went well.
  std::string message() const;
};

class Supervisor {
 public:
  // REQUIRES: num_ranks >= 1.
  explicit Supervisor(SupervisorOptions options);

  // Returns when all have ended. To be called once, from the main thread while it is the only one: signals are taken
  // over meanwhile, and the ranks end with the thread. A std::runtime_error where they cannot be started; none of them
  // is left then.
  Outcome run();

 private:
  SupervisorOptions options_;
};

}  // namespace msmoe::executor
