// msmoe-sim as a user runs it: output, errors, exit codes, files.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "core/text_file.h"
#include "tests/cli/cli_test.h"
#include "tests/cli/golden.h"
#include "tests/core/mutations.h"

namespace msmoe::cli {
namespace {

namespace fs = std::filesystem;

const std::string kPlan = "megascale-moe-352b";

CommandResult sim(std::vector<std::string> arguments, const CommandOptions& options = {}) {
  arguments.insert(arguments.begin(), tool("msmoe-sim"));
  return run_command(arguments, options);
}

// Bad input is one line that starts with the tool's name, and nothing on standard output.
void expect_usage_error(const CommandResult& result, const std::string& part = "") {
  EXPECT_EQ(result.exit_code, 2) << result;
  EXPECT_EQ(result.output, "") << result;
  EXPECT_EQ(std::count(result.error_output.begin(), result.error_output.end(), '\n'), 1) << result;
  EXPECT_EQ(result.error_output.rfind("msmoe-sim: ", 0), 0u) << result;
  EXPECT_NE(result.error_output.find(part), std::string::npos) << result;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// A folder that goes when the test ends.
class Scratch {
 public:
  Scratch() {
    std::string pattern = (fs::temp_directory_path() / "msmoe-sim-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary folder");
    folder_ = pattern;
  }
  ~Scratch() { fs::remove_all(folder_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return path(name);
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }

 private:
  fs::path folder_;
};

TEST(SimCli, PredictsAPublishedPlan) {
  const CommandResult result = sim({kPlan, "--tokens", "10T"});
  EXPECT_EQ(result.exit_code, 0) << result;
  EXPECT_EQ(result.error_output, "");
  expect_golden("cli/golden/sim-megascale-moe-352b.txt", result.output);
}

TEST(SimCli, IsDeterministic) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{kPlan, "--json"}, {kPlan, "--explain"}, {kPlan, "--sweep", "ep=1,2,4,8", "--csv"}})
    EXPECT_EQ(sim(arguments).output, sim(arguments).output);
}

TEST(SimCli, JsonIsOneObject) {
  const CommandResult result = sim({kPlan, "--json"});
  ASSERT_EQ(result.exit_code, 0) << result;
  EXPECT_EQ(result.error_output, "");
  const auto json = nlohmann::json::parse(result.output);
  for (const char* name :
       {"step_seconds", "tokens_per_second", "tokens_per_second_per_gpu", "model_tflops_per_gpu", "mfu",
        "memory_bytes_per_gpu", "exposed_communication_seconds", "bubble_seconds", "model", "plan", "imbalance"})
    EXPECT_TRUE(json.contains(name)) << name;
}

// Both granularities of the simulator, within the percent that they may differ by.
TEST(SimCli, ExactAgrees) {
  const auto fast = nlohmann::json::parse(sim({kPlan, "--json"}).output);
  const auto exact = nlohmann::json::parse(sim({kPlan, "--json", "--exact"}).output);
  EXPECT_NEAR(exact["step_seconds"].get<double>() / fast["step_seconds"].get<double>(), 1, 0.01);
  EXPECT_EQ(fast["events"], 0);
  EXPECT_GT(exact["events"], 100'000);
}

TEST(SimCli, WhatIfShowsBothSides) {
  const CommandResult text = sim({kPlan, "--what-if", "gpus=480,nic=200G,seq_len=4k,top_k=2"});
  EXPECT_EQ(text.exit_code, 0) << text;
  for (const char* part : {"base", "changed", "ratio", "gpus=480, nic=200G", "step s", "tokens/s per GPU", "GiB"})
    EXPECT_NE(text.output.find(part), std::string::npos) << part << text;

  const auto json = nlohmann::json::parse(sim({kPlan, "--what-if", "gpus=480", "--json"}).output);
  EXPECT_EQ(json["plan"]["gpus"], 480);
  EXPECT_EQ(json["base"]["plan"]["gpus"], 1440);
  EXPECT_EQ(json["changes"]["gpus"], "480");
  EXPECT_NEAR(json["ratio"]["step_seconds"].get<double>(),
              json["step_seconds"].get<double>() / json["base"]["step_seconds"].get<double>(), 1e-12);

  const auto csv = lines_of(sim({kPlan, "--what-if", "gpus=480", "--csv"}).output);
  ASSERT_EQ(csv.size(), 3u);
  EXPECT_EQ(csv[0].rfind("case,gpus,step_s,", 0), 0u);
  EXPECT_EQ(csv[1].rfind("base,1440,", 0), 0u);
  EXPECT_EQ(csv[2].rfind("changed,480,", 0), 0u);
}

// A plan file that breaks a rule can be tried out with the change that mends it.
TEST(SimCli, WhatIfMayMendThePlan) {
  Scratch scratch;
  auto plan = nlohmann::ordered_json::parse(read_text_file(MSMOE_SOURCE_DIR "/plans/megascale-moe-352b.json"));
  plan["gpus"] = 250;
  const std::string path = scratch.write("plan.json", plan.dump());
  expect_usage_error(sim({path}), "gpus % model ranks");
  const CommandResult mended = sim({path, "--what-if", "gpus=240"});
  EXPECT_EQ(mended.exit_code, 0) << mended;
  EXPECT_NE(mended.output.find("250"), std::string::npos) << mended;
}

// 250 GPUs are no multiple of SP8 x PP15 = 120.
TEST(SimCli, SweepShowsReasonsInPlaceOfNumbers) {
  const CommandResult result = sim({kPlan, "--sweep", "gpus=240,250", "--sweep", "nic=200G,400G", "--csv"});
  EXPECT_EQ(result.exit_code, 0) << result;
  const auto lines = lines_of(result.output);
  ASSERT_EQ(lines.size(), 5u) << result;
  EXPECT_EQ(
      lines[0],
      "gpus,nic,step_s,step_low_s,step_high_s,step_p50_s,step_p99_s,tokens_per_s,tokens_per_s_gpu,model_tflops_gpu,mfu,"
      "memory_gib,usable_gib,fits,exposed_communication_s,bubble_s,gpu_hours_per_trillion_tokens,usd_per_trillion_"
      "tokens,error");
  EXPECT_EQ(lines[1].rfind("240,200G,", 0), 0u);
  EXPECT_EQ(lines[2].rfind("240,400G,", 0), 0u);
  EXPECT_EQ(lines[3].rfind("250,200G,,,", 0), 0u);
  EXPECT_NE(lines[4].find("do not divide 250 GPUs"), std::string::npos);

  EXPECT_EQ(sim({kPlan, "--sweep", "gpus=250,251"}).exit_code, 1);
  const auto json = nlohmann::json::parse(sim({kPlan, "--sweep", "gpus=240,250", "--json"}).output);
  ASSERT_EQ(json["sweep"].size(), 2u);
  EXPECT_EQ(json["sweep"][0]["changes"]["gpus"], "240");
  EXPECT_TRUE(json["sweep"][0].contains("step_seconds"));
  EXPECT_NE(json["sweep"][1]["error"].get<std::string>().find("250"), std::string::npos);
}

TEST(SimCli, CostsOfATrainingInAllForms) {
  const std::vector<std::string> what_if = {kPlan, "--what-if", "gpus=480,restart_time=1 h", "--tokens", "10T"};
  expect_golden("cli/golden/sim-what-if-tokens.txt", sim(what_if).output);
  const std::vector<std::string> sweep = {
      kPlan,      "--sweep", "checkpoint_interval=0 s,10 min", "--sweep", "failures_per_gpu_day=0.0001,0.001",
      "--tokens", "10T"};
  expect_golden("cli/golden/sim-sweep-tokens.txt", sim(sweep).output);
  std::vector<std::string> csv = sweep;
  csv.push_back("--csv");
  EXPECT_NE(lines_of(sim(csv).output)[0].find(",days,gpu_hours,usd,goodput,days_with_failures,gpu_hours_with_failures,"
                                              "usd_with_failures,energy_mwh,error"),
            std::string::npos);
}

TEST(SimCli, WhatDoesNotFitIsToldInFullWithExitCodeOne) {
  const std::vector<std::string> arguments = {kPlan, "--what-if", "recompute=none,memory=40GiB"};
  const CommandResult result = sim(arguments);
  EXPECT_EQ(result.exit_code, 1) << result;
  EXPECT_EQ(result.error_output, "");
  EXPECT_NE(result.output.find("does not fit"), std::string::npos) << result;
  EXPECT_NE(result.output.find("step s"), std::string::npos) << result;
  const CommandResult json = sim({kPlan, "--what-if", "recompute=none,memory=40GiB", "--json"});
  EXPECT_EQ(json.exit_code, 1);
  EXPECT_EQ(nlohmann::json::parse(json.output)["memory_bytes_per_gpu"]["fits"], false);
}

TEST(SimCli, ImbalanceCostsTime) {
  const auto balanced = nlohmann::json::parse(sim({kPlan, "--json"}).output);
  const auto skewed = nlohmann::json::parse(sim({kPlan, "--imbalance", "1.5", "--json"}).output);
  EXPECT_GT(skewed["step_seconds"], balanced["step_seconds"]);
  EXPECT_EQ(skewed["imbalance"], 1.5);
  // Of a plan without expert parallelism every rank has a slice of all experts.
  const auto without = nlohmann::json::parse(sim({"megatron-lm-352b", "--imbalance", "1.5", "--json"}).output);
  EXPECT_EQ(without["imbalance"], 1);
}

TEST(SimCli, EveryRankIsADistribution) {
  const std::string small = "pp=2,vpp=1,schedule=1f1b,gpus=32,global_batch=8,layers=4";
  const std::vector<std::string> question = {kPlan, "--what-if", small + ",straggler=1:1.5,jitter=0.1", "--json"};
  const CommandResult result = sim(question);
  EXPECT_EQ(result.exit_code, 0) << result;
  EXPECT_EQ(sim(question).output, result.output);
  const auto json = nlohmann::json::parse(result.output);
  EXPECT_EQ(json["ranks"]["count"], 32);
  EXPECT_EQ(json["ranks"]["steps"], 20);
  EXPECT_LE(json["step_seconds_p50"], json["step_seconds_p99"]);
  EXPECT_GE(json["step_seconds_p99"], json["step_seconds"]);
  for (const char* key : {"busy_seconds", "waiting_seconds", "mean_waiting_seconds", "slowest"})
    EXPECT_TRUE(json["ranks"].contains(key)) << key;
  const auto alike = nlohmann::json::parse(sim({kPlan, "--what-if", small, "--json"}).output);
  EXPECT_GT(json["step_seconds"], alike["step_seconds"]);

  const CommandResult text = sim({kPlan, "--every-rank", "--steps", "2"});
  EXPECT_NE(text.output.find("1,440 ranks, 2 steps"), std::string::npos) << text;
  const CommandResult sweep = sim({kPlan, "--sweep", "straggler=none,1:1.2,1:2", "--csv"});
  EXPECT_EQ(lines_of(sweep.output).size(), 4u) << sweep;
  // The spread over steps is there where ranks differ, and empty where all are alike.
  EXPECT_NE(lines_of(sweep.output)[0].find(",step_high_s,step_p50_s,step_p99_s,"), std::string::npos) << sweep;
  EXPECT_NE(lines_of(sweep.output)[1].find(",,,"), std::string::npos) << sweep;
  EXPECT_EQ(lines_of(sweep.output)[3].find(",,,"), std::string::npos) << sweep;
}

TEST(SimCli, ImbalanceMayBeAFileOrDrawn) {
  Scratch scratch;
  std::string tokens = "1000";  // the 352B model has 32 experts; the first rank of EP8 has 4 of them
  for (int expert = 1; expert < 32; ++expert) tokens += expert < 4 ? ", 1000" : ", 500";
  const std::string file = scratch.write("routing.json", "{\"tokens\": [" + tokens + "]}");
  const auto read = nlohmann::json::parse(sim({kPlan, "--imbalance", file, "--json"}).output);
  EXPECT_NEAR(read["imbalance"].get<double>(), 4000.0 * 8 / 18000, 1e-9);
  EXPECT_EQ(read["routing"], file);
  const auto drawn = nlohmann::json::parse(sim({kPlan, "--imbalance", "draw:std=0.008", "--json"}).output);
  EXPECT_GT(drawn["imbalance"], 1.05);
  expect_usage_error(sim({kPlan, "--imbalance", scratch.write("bad.csv", "expert,tokens\n0,-1\n")}), "line 2");
}

TEST(SimCli, TheTraceIsJson) {
  Scratch scratch;
  const std::string path = scratch.path("trace.json");
  // PP2 on 16 GPUs keeps the file small.
  const CommandResult result =
      sim({kPlan, "--what-if", "pp=2,vpp=1,schedule=1f1b,gpus=16,global_batch=4,layers=4", "--trace", path});
  EXPECT_EQ(result.exit_code, 0) << result;
  const auto trace = nlohmann::json::parse(read_text_file(path));
  const auto& events = trace["traceEvents"];
  EXPECT_GT(events.size(), 100u);
  EXPECT_TRUE(
      std::any_of(events.begin(), events.end(), [](const auto& event) { return event["name"] == "attention"; }));
}

TEST(SimCli, ExplainsEachTerm) {
  const CommandResult result = sim({kPlan, "--explain"});
  EXPECT_EQ(result.exit_code, 0) << result;
  for (const char* part : {"FLOPs per token = 6 x", "bubble", "One layer", "weights =", "activations =",
                           "80 % interval", "derived, +-10 %: msmoe-profile on NVIDIA H100", "kernel times of"})
    EXPECT_NE(result.output.find(part), std::string::npos) << part;
}

TEST(SimCli, UsageErrorsAreOneLine) {
  expect_usage_error(sim({}), "PLAN");
  expect_usage_error(sim({kPlan, "extra"}), "extra");
  expect_usage_error(sim({kPlan, "--waht-if", "gpus=480"}), "did you mean '--what-if'?");
  expect_usage_error(sim({kPlan, "--what-if"}), "--what-if");
  expect_usage_error(sim({kPlan, "--what-if", "gpu=480"}), "did you mean 'gpus'?");
  expect_usage_error(sim({kPlan, "--what-if", "gpus=250"}), "240 or 360 GPUs");
  expect_usage_error(sim({kPlan, "--what-if", "gpus"}), "key=value");
  expect_usage_error(sim({kPlan, "--sweep", "gpsu=1,2"}), "did you mean 'gpus'?");
  expect_usage_error(sim({kPlan, "--imbalance", "0.5"}), "1 or more");
  expect_usage_error(sim({kPlan, "--imbalance", "x"}), "--imbalance");
  expect_usage_error(sim({kPlan, "--straggler", "fast"}), "COUNT:FACTOR");
  expect_usage_error(sim({kPlan, "--straggler", "2000:2"}), "1440 GPUs");
  expect_usage_error(sim({kPlan, "--jitter", "-1"}), "coefficient of variation");
  expect_usage_error(sim({kPlan, "--every-rank", "--steps", "-1"}), "--steps");
  expect_usage_error(sim({kPlan, "--every-rank", "--exact"}), "--exact");
  expect_usage_error(sim({kPlan, "--tokens", "many"}), "--tokens");
  expect_usage_error(sim({kPlan, "--csv", "--explain"}), "--explain");
  expect_usage_error(sim({kPlan, "--sweep", "gpus=240", "--trace", "x"}), "--trace");
  expect_usage_error(sim({"no-such-plan"}), "no-such-plan");
  expect_usage_error(sim({"megascale-moe-352"}), "did you mean \"megascale-moe-352b\"?");
  expect_usage_error(sim({"line\nbreak"}));
}

TEST(SimCli, WhatIsNotBuiltSaysSo) {
  expect_usage_error(sim({kPlan, "--report", "out.html"}), "--report: is not built yet");
}

TEST(SimCli, JsonErrorsAreJson) {
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{"no-such-plan", "--json"},
                                                    {kPlan, "--json", "--what-if", "gpu=1"},
                                                    {kPlan, "--json", "--no-such"}}) {
    const CommandResult result = sim(arguments);
    EXPECT_EQ(result.exit_code, 2) << result;
    const auto json = nlohmann::json::parse(result.output);
    EXPECT_EQ(json["error"]["code"], 2);
    EXPECT_FALSE(json["error"]["message"].get<std::string>().empty());
    EXPECT_EQ(lines_of(result.error_output).size(), 1u) << result;
  }
}

TEST(SimCli, AFullDiskIsAFault) {
  for (const std::string& script : {tool("msmoe-sim") + " " + kPlan + " > /dev/full",
                                    tool("msmoe-sim") + " " + kPlan + " --trace /no/such/folder/trace.json"}) {
    const CommandResult result = run_command({"sh", "-c", script});
    EXPECT_EQ(result.exit_code, 3) << result;
    EXPECT_EQ(lines_of(result.error_output).size(), 1u) << result;
  }
}

TEST(SimCli, AClosedPipeIsNoFault) {
  const CommandResult result =
      run_command({"sh", "-c", tool("msmoe-sim") + " " + kPlan + " --explain | true; echo done"});
  EXPECT_EQ(result.output, "done\n") << result;
  EXPECT_EQ(result.error_output, "") << result;
}

TEST(SimCli, HelpOpensWithThreeExamplesThatRun) {
  const CommandResult help = sim({"--help"});
  EXPECT_EQ(help.exit_code, 0) << help;
  EXPECT_EQ(help.error_output, "");
  int examples = 0;
  for (const std::string& line : lines_of(help.output)) {
    if (line.rfind("  msmoe-sim ", 0) != 0) continue;
    ++examples;
    const std::string command = tool("msmoe-sim") + line.substr(std::string("  msmoe-sim").size());
    EXPECT_EQ(run_command({"sh", "-c", command}).exit_code, 0) << line;
  }
  EXPECT_EQ(examples, 3);
  EXPECT_NE(help.output.find("Exit codes"), std::string::npos);
  EXPECT_EQ(sim({"--version"}).output.rfind("msmoe-sim ", 0), 0u);
}

TEST(SimCli, EveryFileOfTheCorpusIsRefused) {
  int files = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(MSMOE_SOURCE_DIR "/tests/data/bad")) {
    ++files;
    expect_usage_error(sim({entry.path().string()}), entry.path().filename().string());
  }
  EXPECT_GE(files, 30);
}

// A published plan cut short, or with one of its values replaced: an answer, or one line.
TEST(SimCli, SurvivesMutatedPlans) {
  Scratch scratch;
  const std::string text = read_text_file(MSMOE_SOURCE_DIR "/plans/megascale-moe-352b.json");
  std::vector<std::string> mutants;
  for (std::size_t length = 0; length < text.size(); length += text.size() / 20)
    mutants.push_back(text.substr(0, length));
  for (const auto& [begin, length] : scalars_of(text))
    for (const char* replacement : {"-1", "0", "1", "7", "1000000", "1073741824", "1e999", "0.5", "\"x\"", "null"})
      mutants.push_back(std::string(text).replace(begin, length, replacement));

  int refused = 0, answered = 0;
  for (const std::string& mutant : mutants) {
    const CommandResult result = sim({scratch.write("plan.json", mutant)}, {.timeout = std::chrono::seconds(20)});
    if (result.exit_code == 2) {
      ++refused;
      expect_usage_error(result);
    } else {
      ++answered;
      EXPECT_TRUE(result.exit_code == 0 || result.exit_code == 1) << mutant << result;
      EXPECT_EQ(result.error_output, "") << mutant;
      EXPECT_NE(result.output.find("Where the memory goes"), std::string::npos) << mutant << result;
    }
    if (testing::Test::HasFailure()) break;
  }
  EXPECT_GE(refused, 200);
  EXPECT_GE(answered, 3);
}

}  // namespace
}  // namespace msmoe::cli
