// The helpers of this folder, tried on the shell.
#include "tests/cli/cli_test.h"

#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include "tests/cli/golden.h"

namespace msmoe::cli {
namespace {

using namespace std::chrono_literals;

CommandResult shell(const std::string& script, const CommandOptions& options = {}) {
  return run_command({"sh", "-c", script}, options);
}

TEST(RunCommand, KeepsBothOutputsAndTheExitCode) {
  const CommandResult result = shell("echo out; echo err >&2; exit 3");
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_EQ(result.signal, 0);
  EXPECT_FALSE(result.timed_out);
  EXPECT_EQ(result.output, "out\n");
  EXPECT_EQ(result.error_output, "err\n");
}

TEST(RunCommand, PassesArgumentsAsTheyAre) {
  EXPECT_EQ(run_command({"printf", "%s|", "a b", "", "*", "$HOME"}).output, "a b||*|$HOME|");
}

// A pipe holds 64 KiB: a reader of one output at a time would hang on this.
TEST(RunCommand, ReadsBothOutputsAtOnce) {
  const CommandResult result = shell("head -c 300000 /dev/zero >&2; head -c 300000 /dev/zero; echo end >&2");
  EXPECT_EQ(result.output.size(), 300000u);
  EXPECT_EQ(result.error_output.size(), 300004u);
}

TEST(RunCommand, StandardInputIsEmpty) { EXPECT_EQ(shell("wc -c | tr -d ' '").output, "0\n"); }

TEST(RunCommand, SignalsAreNoExitCodes) {
  const CommandResult result = shell("kill -SEGV $$");
  EXPECT_EQ(result.exit_code, -1);
  EXPECT_EQ(result.signal, SIGSEGV);
}

// The shell and its child inherit the write end of a pipe of ours: it hangs up once both are gone. Were the child
// left alive, that would take a minute.
TEST(RunCommand, ATimeoutEndsTheWholeGroup) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const CommandResult result = shell("sleep 60 & sleep 60", {.timeout = 200ms});
  EXPECT_TRUE(result.timed_out);
  EXPECT_EQ(result.signal, SIGKILL);
  EXPECT_EQ(result.exit_code, -1);

  ::close(ends[1]);
  pollfd read_end{ends[0], POLLIN, 0};
  EXPECT_EQ(::poll(&read_end, 1, 20'000), 1);
  EXPECT_TRUE(read_end.revents & POLLHUP);
  ::close(ends[0]);
}

TEST(RunCommand, TheEnvironmentIsKnown) {
  ::setenv("NO_COLOR", "1", 1);
  EXPECT_EQ(shell("echo ${NO_COLOR-unset} $TERM").output, "unset xterm\n");
  EXPECT_EQ(shell("echo $NO_COLOR $TERM", {.environment = {{"NO_COLOR", "2"}, {"TERM", "dumb"}}}).output, "2 dumb\n");
  ::unsetenv("NO_COLOR");
}

TEST(RunCommand, AMissingProgramIsAnError) {
  try {
    run_command({"/no/such/program"});
    FAIL() << "started";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "cannot start /no/such/program: No such file or directory");
  }
}

TEST(Golden, WritesWhenAskedAndComparesOtherwise) {
  const std::filesystem::path folder = testing::TempDir() + "msmoe_golden_" + std::to_string(::getpid());
  ::setenv("MSMOE_UPDATE_GOLDEN", "1", 1);
  expect_golden("new/help.txt", "usage\n", folder);
  ::unsetenv("MSMOE_UPDATE_GOLDEN");
  expect_golden("new/help.txt", "usage\n", folder);
  static std::filesystem::path seen_by_statement;  // the macro takes no captures
  seen_by_statement = folder;
  EXPECT_NONFATAL_FAILURE(expect_golden("new/help.txt", "other\n", seen_by_statement), "differs from");
  EXPECT_FATAL_FAILURE(expect_golden("missing.txt", "", seen_by_statement), "is missing");
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace msmoe::cli
