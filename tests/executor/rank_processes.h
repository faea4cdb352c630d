// A job of real processes on this host: forked, one a rank, each with a rendezvous. Call it before the test has threads
// of its own, which a fork does not take along.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "executor/launch/rendezvous.h"
#include "tests/executor/pipe_ends.h"

namespace msmoe::executor {

using RankFunction = std::function<void(int rank, Rendezvous& rendezvous)>;

// In a forked process: never returns. Writes nothing where all went well, or else what went wrong.
[[noreturn]] inline void run_forked_rank(const RankFunction& function, RendezvousOptions options, int write_end) {
  std::string failure;
  try {
    Rendezvous rendezvous(std::move(options));
    function(options.rank, rendezvous);
    rendezvous.leave();
    if (testing::Test::HasFailure()) failure = "an expectation failed, see above";
  } catch (const std::exception& error) {
    failure = error.what();
    if (failure.empty()) failure = "an exception without a text";
  }
  std::fflush(stdout);
  [[maybe_unused]] const auto written = ::write(write_end, failure.data(), failure.size());
  ::_exit(failure.empty() ? 0 : 1);
}

// What became of each rank: "" where `function` returned, no expectation failed and all left the rendezvous together;
// what was thrown; "ended by signal 9"; "still running after 60 s", and killed. meanwhile: done by the test while the
// ranks run.
inline std::vector<std::string> outcomes_of_ranks(
    int num_ranks, const RankFunction& function, std::chrono::seconds timeout = std::chrono::seconds(60),
    const std::function<void(const std::vector<pid_t>&)>& meanwhile = {}) {
  Descriptor listener = listen_on("127.0.0.1", 0);
  RendezvousOptions options{.num_ranks = num_ranks, .port = port_of(listener.value()), .job = "a test"};
  std::vector<pid_t> processes;
  std::vector<PipeEnds> pipes(static_cast<std::size_t>(num_ranks));
  std::fflush(stdout);
  for (int rank = 0; rank < num_ranks; ++rank) {
    const std::size_t idx = static_cast<std::size_t>(rank);
    const pid_t process = ::fork();
    if (process == 0) {
      options.rank = rank;
      if (rank == 0) options.listener = listener.release();
      listener.close();
      run_forked_rank(function, options, pipes[idx].write_end());
    }
    pipes[idx].close_write();
    processes.push_back(process);
  }
  listener.close();
  if (meanwhile) meanwhile(processes);

  const Deadline deadline = std::chrono::steady_clock::now() + timeout;
  std::vector<std::string> outcomes;
  for (std::size_t idx = 0; idx < processes.size(); ++idx) {
    if (!pipes[idx].wait(deadline)) {
      ::kill(processes[idx], SIGKILL);
      ::waitpid(processes[idx], nullptr, 0);
      outcomes.push_back("still running after " + std::to_string(timeout.count()) + " s");
      continue;
    }
    outcomes.push_back(pipes[idx].read_to_end());
    int status = 0;
    ::waitpid(processes[idx], &status, 0);
    if (WIFSIGNALED(status)) outcomes.back() = "ended by signal " + std::to_string(WTERMSIG(status));
  }
  return outcomes;
}

// Fails the test with what went wrong on any rank.
inline void run_ranks(int num_ranks, const RankFunction& function,
                      std::chrono::seconds timeout = std::chrono::seconds(60)) {
  const std::vector<std::string> outcomes = outcomes_of_ranks(num_ranks, function, timeout);
  for (std::size_t rank = 0; rank < outcomes.size(); ++rank)
    EXPECT_EQ(outcomes[rank], "") << "rank " << rank << " of " << num_ranks;
}

}  // namespace msmoe::executor
