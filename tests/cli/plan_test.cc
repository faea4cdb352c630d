// msmoe-plan as a user runs it: output, errors, exit codes, files.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/plan.h"
#include "tests/cli/cli_test.h"

namespace msmoe::cli {
namespace {

const std::vector<std::string> kMixtral = {"mixtral-8x7b",   "--cluster", "h100",      "--gpus", "16",
                                           "--global-batch", "64",        "--seq-len", "4k"};

CommandResult plan(std::vector<std::string> arguments, const CommandOptions& options = {}) {
  arguments.insert(arguments.begin(), tool("msmoe-plan"));
  return run_command(arguments, options);
}

std::vector<std::string> with(std::vector<std::string> arguments, const std::vector<std::string>& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

// Bad input is one line that starts with the tool's name, and nothing on standard output.
void expect_usage_error(const CommandResult& result, const std::string& part) {
  EXPECT_EQ(result.exit_code, 2) << result;
  EXPECT_EQ(result.output, "") << result;
  EXPECT_EQ(std::count(result.error_output.begin(), result.error_output.end(), '\n'), 1) << result;
  EXPECT_EQ(result.error_output.rfind("msmoe-plan: ", 0), 0u) << result;
  EXPECT_NE(result.error_output.find(part), std::string::npos) << result;
}

TEST(PlanCli, AnswersForPeople) {
  const CommandResult result = plan(kMixtral);
  EXPECT_EQ(result.exit_code, 0) << result;
  for (const char* part :
       {"Where the time goes", "Where the memory goes", "Best plans", "Why other choices lose", "tokens/s"})
    EXPECT_NE(result.output.find(part), std::string::npos) << part << '\n' << result;
}

TEST(PlanCli, JsonHasTheSharedNamesAndNothingElseIsPrinted) {
  const CommandResult result = plan(with(kMixtral, {"--json", "--tokens", "1T", "--top", "3"}));
  ASSERT_EQ(result.exit_code, 0) << result;
  const auto json = nlohmann::json::parse(result.output);
  for (const char* name :
       {"step_seconds", "tokens_per_second", "tokens_per_second_per_gpu", "model_tflops_per_gpu", "mfu",
        "memory_bytes_per_gpu", "exposed_communication_seconds", "bubble_seconds", "model", "plan", "search"})
    EXPECT_TRUE(json.contains(name)) << name;
  for (const char* name :
       {"total", "parameters", "gradients", "optimizer", "activations", "communication", "workspace", "reserved"})
    EXPECT_TRUE(json["memory_bytes_per_gpu"].contains(name)) << name;
  for (const char* name : {"plans_considered", "plans_simulated", "seconds"})
    EXPECT_TRUE(json["search"].contains(name)) << name;
  EXPECT_EQ(json["plans"].size(), 3u);
  EXPECT_EQ(json["plans"][0]["plan"], json["plan"]);
  EXPECT_DOUBLE_EQ(json["plans"][0]["step_seconds"].get<double>(), json["step_seconds"].get<double>());
}

// On half of the GPUs every GPU has twice the tokens; what it loses to bubbles and synchronisation does not grow.
TEST(PlanCli, FewerGpusTakeLongerAndWasteNoMore) {
  const CommandResult result = plan(
      {"mixtral-8x7b", "--cluster", "h100", "--gpus", "64", "--global-batch", "128", "--seq-len", "4096", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result;
  const auto json = nlohmann::json::parse(result.output);
  ASSERT_FALSE(json["fewer_gpus"].empty());
  for (const auto& entry : json["fewer_gpus"]) {
    EXPECT_LT(entry["plan"]["gpus"].get<int>(), 64);
    EXPECT_GT(entry["step_seconds"].get<double>(), json["step_seconds"].get<double>());
  }
}

TEST(PlanCli, SameInputSameBytesWhateverTheThreads) {
  auto without_seconds = [](const CommandResult& result) {
    auto json = nlohmann::ordered_json::parse(result.output);
    json["search"].erase("seconds");
    return json.dump();
  };
  const std::string one = without_seconds(plan(with(kMixtral, {"--json", "--jobs", "1"})));
  EXPECT_EQ(one, without_seconds(plan(with(kMixtral, {"--json", "--jobs", "2"}))));
  EXPECT_EQ(one, without_seconds(plan(with(kMixtral, {"--json", "--jobs", "3"}))));
}

TEST(PlanCli, WritesAPlanThatReadsBackAndATrace) {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("msmoe-plan-" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  const CommandResult result =
      plan(with(kMixtral, {"--fix", "ep=8,pp=1", "-o", folder / "plan.json", "--trace", folder / "trace.json"}));
  ASSERT_EQ(result.exit_code, 0) << result;
  const Plan read = read_plan(folder / "plan.json");
  EXPECT_EQ(read.ep, 8);
  EXPECT_EQ(read.pp, 1);
  std::ifstream trace(folder / "trace.json");
  EXPECT_GT(nlohmann::json::parse(trace)["traceEvents"].size(), 100u);
  std::filesystem::remove_all(folder);
}

TEST(PlanCli, FixedFieldsStay) {
  const CommandResult result =
      plan(with(kMixtral, {"--json", "--fix", "attention=sp,ffn=ep,micro_batch=1,recompute=selective"}));
  ASSERT_EQ(result.exit_code, 0) << result;
  const auto json = nlohmann::json::parse(result.output);
  EXPECT_FALSE(json["plans"].empty());
  for (const auto& entry : json["plans"]) {
    EXPECT_EQ(entry["plan"]["ffn"]["etp"], 1);
    EXPECT_EQ(entry["plan"]["micro_batch"], 1);
    EXPECT_EQ(entry["plan"]["recompute"], "selective");
  }
}

// What the CPU executor runs: fp32 everywhere, one operator after another.
TEST(PlanCli, TwoCores) {
  const std::vector<std::string> tiny = {"tiny-moe",       "--cluster", "cpu",       "--gpus", "2",
                                         "--global-batch", "8",         "--seq-len", "256"};
  const CommandResult result = plan(with(tiny, {"--precision", "fp32", "--json"}));
  ASSERT_EQ(result.exit_code, 0) << result;
  const auto json = nlohmann::json::parse(result.output);
  const auto& best = json["plans"][0];
  EXPECT_EQ(best["plan"]["precision"], "fp32");
  EXPECT_EQ(best["plan"]["wire"]["activations"], "fp32");
  EXPECT_EQ(best["plan"]["wire"]["gradients"], "fp32");
  EXPECT_EQ(best["plan"]["optimizer"]["master_bytes"], 0);
  EXPECT_EQ(best["plan"]["overlap"]["communication_sms"], 0);
  EXPECT_EQ(best["plan"]["overlap"]["in_layer"], "none");
  // 8 x 256 tokens of 6 x 3.2e6 active parameters and some attention, 4.3e10 FLOPs, on cores of 78 GFLOPS.
  const double step = best["step_seconds"];
  EXPECT_GT(step, 4.2e10 / (2 * 78.4e9));
  EXPECT_LT(step, 10);
  // 10.4e6 parameters of 16 bytes are 0.15 GiB; with all of it, less than a GiB a process.
  EXPECT_LT(double{best["memory_bytes_per_gpu"]}, 1024.0 * 1024 * 1024);
  // These cores compute in nothing else.
  EXPECT_EQ(nlohmann::json::parse(plan(with(tiny, {"--json"})).output)["plans"][0]["plan"], best["plan"]);
  const CommandResult bf16 = plan(with(tiny, {"--precision", "bf16"}));
  EXPECT_EQ(bf16.exit_code, 1) << bf16;
  EXPECT_NE(bf16.output.find("precision on this GPU"), std::string::npos) << bf16;
}

// 671B parameters * 18 bytes = 12.1 TB of states; 64 GPUs of 79.1 GiB hold 5.4 TB.
TEST(PlanCli, NothingFitsIsANo) {
  const CommandResult result =
      plan({"deepseek-v3", "--cluster", "h100", "--gpus", "64", "--global-batch", "64", "--seq-len", "4096"});
  EXPECT_EQ(result.exit_code, 1) << result;
  EXPECT_NE(result.output.find("No plan"), std::string::npos) << result;
}

TEST(PlanCli, BadUsageIsOneLine) {
  expect_usage_error(plan({}), "--help");
  expect_usage_error(plan(with(kMixtral, {"--gpu", "8"})), "--gpu");
  expect_usage_error(plan(with(kMixtral, {"--fix", "epp=8"})), "'ep'");
  expect_usage_error(plan(with(kMixtral, {"--fix", "ep"})), "key=value");
  expect_usage_error(plan(with(kMixtral, {"--objective", "tiem"})), "'time'");
  expect_usage_error(plan(with(kMixtral, {"--precision", "fp4"})), "fp8");
  expect_usage_error(plan(with(kMixtral, {"--tokens", "0"})), "--tokens");
  expect_usage_error(plan(with(kMixtral, {"--report", "out.html"})), "not built yet");
  expect_usage_error(plan(with(kMixtral, {"--export", "megatron"})), "not built yet");
  expect_usage_error(
      plan({"mixtrl-8x7b", "--cluster", "h100", "--gpus", "16", "--global-batch", "64", "--seq-len", "4096"}),
      "mixtral-8x7b");
  expect_usage_error(
      plan({"mixtral-8x7b", "--cluster", "h10", "--gpus", "16", "--global-batch", "64", "--seq-len", "4096"}), "h100");
  // Layers that are neither attention nor a feed-forward are read, not planned.
  expect_usage_error(plan({"jamba", "--cluster", "h100", "--gpus", "16", "--global-batch", "64", "--seq-len", "4096"}),
                     "jamba");
}

TEST(PlanCli, WildNumbersAreRefused) {
  for (const char* number : {"0", "-1", "1e99", "nan", "inf", "99999999999999999999", "", "x", "0x10"}) {
    for (std::size_t place : {std::size_t{4}, std::size_t{6}, std::size_t{8}}) {
      std::vector<std::string> arguments = kMixtral;
      arguments[place] = number;
      const CommandResult result = plan(arguments);
      EXPECT_EQ(result.exit_code, 2) << number << ' ' << result;
    }
  }
  // A step of 2^30-token sequences on one GPU: years.
  expect_usage_error(plan({"mixtral-8x7b", "--cluster", "h100", "--gpus", "1", "--global-batch", "1000000", "--seq-len",
                           "1073741824"}),
                     "hours");
}

TEST(PlanCli, MalformedFilesAreOneLine) {
  for (const auto& entry : std::filesystem::directory_iterator(MSMOE_SOURCE_DIR "/tests/data/bad")) {
    const std::string file = entry.path();
    SCOPED_TRACE(file);
    expect_usage_error(plan({file, "--cluster", "h100", "--gpus", "16", "--global-batch", "64", "--seq-len", "4096"}),
                       "");
    expect_usage_error(
        plan({"mixtral-8x7b", "--cluster", file, "--gpus", "16", "--global-batch", "64", "--seq-len", "4096"}), "");
  }
}

TEST(PlanCli, AFullDiskIsAFault) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  const CommandResult result = plan(with(kMixtral, {"-o", "/dev/full"}));
  EXPECT_EQ(result.exit_code, 3) << result;
  const CommandResult missing = plan(with(kMixtral, {"-o", "/nonexistent-folder/plan.json"}));
  EXPECT_EQ(missing.exit_code, 3) << missing;
}

TEST(PlanCli, HelpStartsWithExamplesAndVersionIsPlain) {
  const CommandResult help = plan({"--help"});
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_NE(help.output.find("msmoe-plan megascale-352b --cluster h800"), std::string::npos);
  EXPECT_EQ(plan({"--version"}).output, "msmoe-plan 0.1.0\n");
}

}  // namespace
}  // namespace msmoe::cli
