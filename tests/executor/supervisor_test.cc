// Real processes under the supervisor. This program is what it starts: with the argument "child" it does as told.
#include "executor/launch/supervisor.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <random>
#include <set>
#include <sstream>

#include "core/error.h"
#include "tests/executor/pipe_ends.h"

namespace msmoe::executor {
namespace {

using namespace std::chrono_literals;

int own_rank() { return std::atoi(std::getenv("RANK")); }

void say(int file, const std::string& text) {
  ASSERT_EQ(::write(file, text.data(), text.size()), static_cast<ssize_t>(text.size()));
}

[[noreturn]] void wait_for_ever() {
  while (true) ::pause();
}

// What rank `which` does; the others wait until they are told to end.
[[noreturn]] void fail(const std::string& how, int which) {
  if (own_rank() != which) wait_for_ever();
  say(2, "all well so far\nthe reason is here\n\nthe last lin");
  say(2, "e");
  if (how == "exit") ::_exit(2);
  if (how == "odd") ::_exit(77);
  std::raise(SIGKILL);
  ::_exit(0);
}

// 200 lines, each in three pieces, the last without an end.
[[noreturn]] void talk() {
  for (int line = 0; line < 200; ++line) {
    say(1, "rank ");
    say(1, std::to_string(own_rank()));
    say(1, " says " + std::to_string(line) + (line < 199 ? "\n" : ""));
  }
  ::_exit(0);
}

// Says how often it gets this signal; then it ends, or stays.
[[noreturn]] void answer(int signal, bool stays) {
  sigset_t awaited;
  sigemptyset(&awaited);
  sigaddset(&awaited, signal);
  ::sigprocmask(SIG_BLOCK, &awaited, nullptr);
  say(1, "ready\n");
  int got = 0;
  sigwait(&awaited, &got);
  say(1, "told\n");
  if (stays) wait_for_ever();
  // A second one would be pending by now, or arrive within this time.
  const timespec moment{.tv_sec = 0, .tv_nsec = 100'000'000};
  if (::sigtimedwait(&awaited, nullptr, &moment) == signal) say(1, "told twice\n");
  ::_exit(0);
}

[[noreturn]] void child(const std::vector<std::string>& words) {
  if (words[1] == "nothing") ::_exit(0);
  if (words[1] == "fail") fail(words[2], std::stoi(words[3]));
  if (words[1] == "talk") talk();
  if (words[1] == "answer") answer(std::stoi(words[2]), false);
  if (words[1] == "answer_and_stay") answer(std::stoi(words[2]), true);
  if (words[1] == "ready") {
    say(1, "ready\n");
    wait_for_ever();
  }
  if (words[1] == "deaf_but_zero") {
    ::signal(SIGTERM, SIG_IGN);
    if (own_rank() == 0) ::_exit(1);
    wait_for_ever();
  }
  if (words[1] == "environment") {
    char byte = 0;
    std::string line = ::read(0, &byte, 1) == 0 ? "" : "input ";
    for (const char* name : {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR"})
      line += std::string(std::getenv(name)) + " ";
    line += std::atoi(std::getenv("MASTER_PORT")) > 0 ? "port " : "";
    say(1, line + (*std::getenv("MSMOE_LISTENER") != '\0' ? "listener\n" : "\n"));
    ::_exit(0);
  }
  ::_exit(99);
}

struct RunResult {
  Outcome outcome;
  std::string out, err;
};

RunResult run_ranks(int num_ranks, const std::vector<std::string>& words, std::chrono::milliseconds grace = 10s) {
  FILE* out = std::tmpfile();
  FILE* err = std::tmpfile();
  RunResult run;
  SupervisorOptions options{
      .num_ranks = num_ranks, .arguments = {"child"}, .grace = grace, .out = ::fileno(out), .err = ::fileno(err)};
  options.arguments.insert(options.arguments.end(), words.begin(), words.end());
  run.outcome = Supervisor(options).run();
  run.out = contents_of(out);
  run.err = contents_of(err);
  return run;
}

std::multiset<std::string> lines_of(const std::string& text) {
  std::multiset<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.insert(line);
  return lines;
}

// A supervisor in a process of its own, whose lines are read here.
class SupervisorProcess {
 public:
  SupervisorProcess(int num_ranks, std::vector<std::string> words) {
    PipeEnds lines, alive;
    alive.inherit();
    words.insert(words.begin(), "child");
    pid_ = ::fork();
    if (pid_ == 0) {
      lines.close_read();
      const Outcome outcome =
          Supervisor({.num_ranks = num_ranks, .arguments = words, .out = lines.write_end(), .err = lines.write_end()})
              .run();
      ::_exit(outcome.exit_code());
    }
    lines.close_write();
    alive.close_write();
    lines_ = std::move(lines);
    alive_ = std::move(alive);
  }
  std::string read_line() { return lines_.read_line(); }
  void expect_lines(int count, const std::string& line) {
    for (int idx = 0; idx < count; ++idx) EXPECT_EQ(read_line(), line);
  }
  void send(int signal) { ::kill(pid_, signal); }
  int wait() {
    int status = 0;
    EXPECT_EQ(::waitpid(pid_, &status, 0), pid_);
    return status;
  }
  // Returns when neither it nor a process that it started is left.
  void wait_for_all() { EXPECT_EQ(alive_.read_line(), ""); }

 private:
  pid_t pid_ = -1;
  PipeEnds lines_, alive_;  // every process of it holds the writing end of alive_
};

TEST(Supervisor, AllWell) {
  for (const int num_ranks : {1, 2, 8}) {
    const RunResult result = run_ranks(num_ranks, {"nothing"});
    EXPECT_FALSE(result.outcome.first_failure);
    EXPECT_EQ(result.outcome.exit_code(), kExitDone);
    EXPECT_EQ(result.outcome.message(), "");
  }
}

TEST(Supervisor, EachRankIsToldItsPlace) {
  const RunResult result = run_ranks(3, {"environment"});
  EXPECT_EQ(lines_of(result.out), (std::multiset<std::string>{"0 3 0 3 127.0.0.1 port listener",
                                                              "1 3 1 3 127.0.0.1 port ", "2 3 2 3 127.0.0.1 port "}));
}

TEST(Supervisor, TheFirstFailureIsNamed) {
  RunResult result = run_ranks(4, {"fail", "exit", "2"});
  EXPECT_EQ(result.outcome.exit_code(), kExitUsage);
  EXPECT_EQ(result.outcome.message(), "rank 2 ended with exit code 2; its last line of errors: the last line");
  EXPECT_EQ(result.err, "all well so far\nthe reason is here\n\nthe last line\n");

  result = run_ranks(2, {"fail", "odd", "0"});
  EXPECT_EQ(result.outcome.exit_code(), kExitFault);
  EXPECT_EQ(result.outcome.first_failure->rank, 0);

  result = run_ranks(1, {"fail", "kill", "0"});
  EXPECT_EQ(result.outcome.exit_code(), kExitFault);
  EXPECT_EQ(result.outcome.message(), "rank 0 was killed by SIGKILL; its last line of errors: the last line");
}

TEST(Supervisor, WhoDoesNotHearSigtermIsKilled) {
  const RunResult result = run_ranks(3, {"deaf_but_zero"}, 50ms);
  EXPECT_EQ(result.outcome.exit_code(), 1);
  EXPECT_EQ(result.outcome.message(), "rank 0 ended with exit code 1");
}

TEST(Supervisor, LinesStayWhole) {
  const RunResult result = run_ranks(8, {"talk"});
  std::multiset<std::string> expected;
  for (int rank = 0; rank < 8; ++rank)
    for (int line = 0; line < 200; ++line)
      expected.insert("rank " + std::to_string(rank) + " says " + std::to_string(line));
  EXPECT_EQ(lines_of(result.out), expected);
}

TEST(Supervisor, SignalsArePassedOnOnce) {
  for (const int signal : {SIGTERM, SIGINT}) {
    SupervisorProcess supervisor(3, {"answer", std::to_string(signal)});
    supervisor.expect_lines(3, "ready");
    supervisor.send(signal);
    supervisor.expect_lines(3, "told");
    if (signal == SIGTERM) supervisor.send(signal);
    EXPECT_EQ(supervisor.read_line(), "");
    EXPECT_EQ(supervisor.wait(), 0);
  }
}

TEST(Supervisor, ASecondInterruptKills) {
  SupervisorProcess supervisor(2, {"answer_and_stay", std::to_string(SIGTERM)});
  supervisor.expect_lines(2, "ready");
  supervisor.send(SIGTERM);
  supervisor.expect_lines(2, "told");
  supervisor.send(SIGINT);
  EXPECT_EQ(WEXITSTATUS(supervisor.wait()), kExitFault);
}

// At random moments, while they start and after.
TEST(Supervisor, NoRankOutlivesIt) {
  std::mt19937 random(1);
  for (int repeat = 0; repeat < 10; ++repeat) {
    SupervisorProcess supervisor(4, {"ready"});
    if (repeat % 2 == 0) {
      supervisor.expect_lines(4, "ready");
    } else {
      ::usleep(std::uniform_int_distribution<unsigned>(0, 20'000)(random));
    }
    supervisor.send(SIGKILL);
    EXPECT_EQ(WTERMSIG(supervisor.wait()), SIGKILL);
    supervisor.wait_for_all();
  }
}

}  // namespace
}  // namespace msmoe::executor

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == "child") msmoe::executor::child({argv + 1, argv + argc});
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
