// msmoe-profile as a user runs it, on a machine or in a build without GPUs.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/cli/cli_test.h"

namespace msmoe::cli {
namespace {

CommandResult profile(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), tool("msmoe-profile"));
  return run_command(arguments);
}

void expect_one_line(const CommandResult& result, int exit_code) {
  EXPECT_EQ(result.exit_code, exit_code) << result;
  EXPECT_EQ(result.output, "") << result;
  EXPECT_EQ(std::count(result.error_output.begin(), result.error_output.end(), '\n'), 1) << result;
}

TEST(ProfileCli, BadUsageIsOneLine) {
  expect_one_line(profile({}), 2);
  expect_one_line(profile({"--cluster", "x", "--only", "wings"}), 2);
  expect_one_line(profile({"--cluster", "x", "--fast"}), 2);
  expect_one_line(profile({"--cluster", "x"}), 2);  // no such description
  expect_one_line(profile({"--cluster", "h100", "--refit", "/nonexistent"}), 2);
}

TEST(ProfileCli, RefitsWhatShips) {
  const std::string shipped = std::string(MSMOE_SOURCE_DIR) + "/clusters/h100.profile.json";
  const CommandResult result = profile({"--cluster", "h100", "--refit", shipped, "-o", "/dev/null"});
  EXPECT_EQ(result.exit_code, 0) << result;
  EXPECT_NE(result.output.find("grouped_gemm"), std::string::npos) << result;
}

TEST(ProfileCli, AFullDiskIsAFault) {
  const std::string shipped = std::string(MSMOE_SOURCE_DIR) + "/clusters/h100.profile.json";
  expect_one_line(profile({"--cluster", "h100", "--refit", shipped, "-o", "/nonexistent/x.json"}), 3);
}

TEST(ProfileCli, WithoutAGpuItSaysSo) {
  CommandOptions no_gpu;
  no_gpu.environment["CUDA_VISIBLE_DEVICES"] = "";
  const CommandResult result =
      run_command({tool("msmoe-profile"), "--cluster", "h100", "-o", "/nonexistent/x.json"}, no_gpu);
  expect_one_line(result, 3);
}

TEST(ProfileCli, HelpNamesWhatCanBeMeasured) {
  const CommandResult result = profile({"--help"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_NE(result.output.find("links"), std::string::npos) << result;
}

}  // namespace
}  // namespace msmoe::cli
