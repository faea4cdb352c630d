// msmoe-run as users run it: jobs of processes on this host, what they say, and how they end.
//
// Random kills: 6 of them, or 50 with MSMOE_ALL_KILLS=1.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "core/plan.h"
#include "core/text_file.h"
#include "tests/cli/cli_test.h"

namespace msmoe::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

const std::string kModel = std::string(MSMOE_SOURCE_DIR) + "/tests/executor/reference/mixtral";

// A plan of 2 ranks for a tiny model, in a folder of the test's own.
class RunCli : public testing::Test {
 protected:
  RunCli() {
    folder_ = fs::path(testing::TempDir()) / ("msmoe_run_" + std::to_string(::getpid()) + "_" +
                                              testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    plan_.model = kModel + "/config.json";
    plan_.cluster = "cpu";
    plan_.gpus = plan_.ep = 2;
    plan_.global_batch = 4;
    plan_.seq_len = 32;
    set_precision(plan_, Precision::kFp32);
    plan_.communication_sms = 0;
    write_plan("plan.json", plan_);
  }
  ~RunCli() override { fs::remove_all(folder_); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  void write_plan(const std::string& name, const Plan& plan) const { std::ofstream(path(name)) << plan_to_json(plan); }

  std::vector<std::string> command(const std::vector<std::string>& more) const {
    std::vector<std::string> words = {tool("msmoe-run"), path("plan.json")};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  CommandResult run(const std::vector<std::string>& more) const { return run_command(command(more)); }

  std::vector<double> losses(const std::string& metrics) const {
    std::vector<double> values;
    std::ifstream lines(path(metrics));
    for (std::string line; std::getline(lines, line);) values.push_back(Json::parse(line).at("loss"));
    return values;
  }

  fs::path folder_;
  Plan plan_;
};

TEST_F(RunCli, TrainsAndTells) {
  const CommandResult result = run({"--data", "synthetic", "--steps", "3", "--lr", "1e-3", "--metrics", path("m.jsonl"),
                                    "--trace", path("t.json"), "--validation", "synthetic:7"});
  EXPECT_EQ(result.exit_code, 0) << result;
  EXPECT_EQ(result.error_output, "");
  EXPECT_NE(result.output.find("step 1/3"), std::string::npos) << result;
  EXPECT_NE(result.output.find("not averaged"), std::string::npos) << result;
  EXPECT_NE(result.output.find("step 3: validation loss "), std::string::npos) << result;
  const std::vector<double> values = losses("m.jsonl");
  ASSERT_EQ(values.size(), 3U);
  EXPECT_LT(values[2], values[0]);
  EXPECT_FALSE(Json::parse(read_text_file(path("t.json"))).empty());
}

TEST_F(RunCli, StartsFromPublishedWeights) {
  // The loss of `transformers` for a random model of 256 words is far above log(256); a fresh one's is close to it.
  ASSERT_EQ(run({"--data", "synthetic", "--steps", "1", "--metrics", path("fresh.jsonl")}).exit_code, 0);
  const CommandResult result =
      run({"--data", "synthetic", "--steps", "1", "--from", kModel, "--metrics", path("from.jsonl")});
  EXPECT_EQ(result.exit_code, 0) << result;
  EXPECT_NE(losses("from.jsonl").front(), losses("fresh.jsonl").front());
}

TEST_F(RunCli, ADryRunTrainsNothing) {
  const CommandResult result =
      run({"--data", "synthetic", "--steps", "3", "--dry-run", "--checkpoint-dir", path("ck")});
  EXPECT_EQ(result.exit_code, 0) << result;
  EXPECT_NE(result.output.find("stage 0: "), std::string::npos) << result;
  EXPECT_FALSE(fs::exists(path("ck")));
}

TEST_F(RunCli, GoesOnFromACheckpointToTheBit) {
  const std::vector<std::string> all = {"--data", "synthetic", "--steps", "6"};
  auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), all.begin(), all.end());
    return more;
  };
  ASSERT_EQ(run(with({"--metrics", path("whole.jsonl")})).exit_code, 0);
  ASSERT_EQ(run(with({"--checkpoint-dir", path("ck"), "--checkpoint-every", "3"})).exit_code, 0);
  fs::remove_all(path("ck/step-6"));
  const CommandResult resumed =
      run(with({"--checkpoint-dir", path("ck"), "--resume", "--metrics", path("rest.jsonl")}));
  EXPECT_EQ(resumed.exit_code, 0) << resumed;
  EXPECT_NE(resumed.output.find("step-3, step 3"), std::string::npos) << resumed;
  EXPECT_NE(resumed.error_output.find("warning"), std::string::npos) << resumed;  // of what is gone
  const std::vector<double> whole = losses("whole.jsonl"), rest = losses("rest.jsonl");
  EXPECT_EQ(rest, (std::vector<double>(whole.begin() + 3, whole.end())));
  EXPECT_TRUE(fs::exists(path("ck/step-6/model.safetensors")));
}

// ---- What users get wrong: exit code 2 and one line that says what and what is allowed.

struct Mistake {
  std::vector<std::string> arguments;
  std::vector<std::string> said;
};

TEST_F(RunCli, MistakesAreOneLine) {
  Plan bf16 = plan_;
  set_precision(bf16, Precision::kBf16);
  bf16.cluster = "h100";
  write_plan("bf16.json", bf16);
  Plan odd = plan_;
  odd.ep = 3;
  odd.gpus = 3;
  odd.global_batch = 3;
  write_plan("odd.json", odd);
  Plan offloaded = plan_;
  offloaded.optimizer_offload = true;
  write_plan("offloaded.json", offloaded);
  std::ofstream(path("short.txt")) << "too short";
  const std::vector<std::string> data = {"--data", "synthetic", "--steps", "2"};
  const auto with = [&](const std::vector<std::string>& more, const std::string& plan = "plan.json") {
    std::vector<std::string> words = {path(plan)};
    words.insert(words.end(), data.begin(), data.end());
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
  const std::vector<Mistake> mistakes = {
      {{path("none.json"), "--data", "synthetic", "--steps", "1"}, {"none.json"}},
      {{path("plan.json"), "--data", path("none.txt"), "--steps", "1"}, {"none.txt"}},
      {{path("plan.json"), "--data", path("short.txt"), "--steps", "1"}, {"short.txt"}},
      {{path("plan.json"), "--data", "synthetic", "--steps", "0"}, {"--steps", "1 or more"}},
      {{path("plan.json"), "--data", "synthetic"}, {"--steps"}},
      {with({"--nproc", "3"}), {"--nproc", "3", "2"}},
      {with({"--backend", "tpu"}), {"--backend", "cpu or cuda"}},
      {with({}, "bf16.json"), {"GPUs", "fp32"}},
      {with({}, "offloaded.json"), {"optimizer.offload", "false"}},
      {with({}, "odd.json"), {"8 experts", "ep"}},
      {with({"--lr", "-1"}), {"--lr"}},
      {with({"--lr", "nan"}), {"--lr"}},
      {with({"--warmup", "3"}), {"--warmup", "0 to --steps"}},
      {with({"--beta2", "1"}), {"--beta2"}},
      {with({"--clip", "-1"}), {"--clip"}},
      {with({"--resume"}), {"--resume", "--checkpoint-dir"}},
      {with({"--checkpoint-every", "2"}), {"--checkpoint-every", "--checkpoint-dir"}},
      {with({"--resume", "--checkpoint-dir", path("empty")}), {"empty"}},
      {with({"--from", path("nowhere")}), {"nowhere"}},
      {with({"--metrics", path("no/such/folder/m.jsonl")}), {"m.jsonl"}},
  };
  for (const Mistake& mistake : mistakes) {
    std::vector<std::string> words = {tool("msmoe-run")};
    words.insert(words.end(), mistake.arguments.begin(), mistake.arguments.end());
    const CommandResult result = run_command(words);
    EXPECT_EQ(result.exit_code, 2) << result;
    for (const std::string& word : mistake.said)
      EXPECT_NE(result.error_output.find(word), std::string::npos) << word << "\n" << result;
  }
}

// ---- How jobs end

// A shell that starts the job, does `then` to process $P and its children $C, and waits.
CommandResult with_job(const std::vector<std::string>& job, const std::string& then) {
  std::string words;
  for (const std::string& word : job) words += "'" + word + "' ";
  return run_command({"/bin/sh", "-c", words + "& P=$!\n" + then + "\nwait $P\nexit $?"});
}
constexpr const char* kAwaitSteps = "while ! grep -q . '%s' 2>/dev/null; do sleep 0.05; done\n";
std::string await_steps(const std::string& metrics) {
  std::string text = kAwaitSteps;
  return text.replace(text.find("%s"), 2, metrics);
}

TEST_F(RunCli, WhoIsAskedToStopSavesAndEndsWell) {
  const CommandResult result = with_job(command({"--data", "synthetic", "--steps", "100000", "--checkpoint-dir",
                                                 path("ck"), "--metrics", path("m.jsonl")}),
                                        await_steps(path("m.jsonl")) + "kill -TERM $P");
  EXPECT_EQ(result.exit_code, 0) << result;
  const std::size_t steps = losses("m.jsonl").size();
  EXPECT_GE(steps, 1U);
  EXPECT_LT(steps, 100000U);
  EXPECT_TRUE(fs::exists(path("ck/step-" + std::to_string(steps) + "/manifest.json"))) << result;
}

TEST_F(RunCli, AKilledRankEndsTheJobAndTheRestGoesOnToTheBit) {
  const int kills = std::getenv("MSMOE_ALL_KILLS") != nullptr ? 50 : 6;
  const std::string steps = "40";
  ASSERT_EQ(run({"--data", "synthetic", "--steps", steps, "--metrics", path("whole.jsonl")}).exit_code, 0);
  const std::vector<double> whole = losses("whole.jsonl");
  std::mt19937 random(5);
  std::vector<std::string> job = command({"--data", "synthetic", "--steps", steps, "--checkpoint-dir", path("ck"),
                                          "--checkpoint-every", "1", "--metrics", path("m.jsonl")});
  int lost = 0;
  for (int kill = 0; kill < kills; ++kill) {
    // The next run goes on only where a checkpoint is whole.
    if (fs::exists(path("ck/latest")) && job.back() != "--resume") job.push_back("--resume");
    const std::string which = random() % 2 == 0 ? "1" : "2";
    const auto begin = std::chrono::steady_clock::now();
    const CommandResult result = with_job(job, "sleep 0." + std::to_string(1 + random() % 9) +
                                                   "; set -- $(cat /proc/$P/task/$P/children); kill -9 $" + which);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(40)) << result;
    EXPECT_TRUE(result.exit_code == 3 || result.exit_code == 0) << result;
    if (result.exit_code != 3) continue;
    ++lost;
    EXPECT_NE(result.error_output.find("rank " + std::to_string(std::stoi(which) - 1) + " was killed by SIGKILL"),
              std::string::npos)
        << result;
  }
  EXPECT_GT(lost, 0) << "no kill came in time";
  if (fs::exists(path("ck/latest")) && job.back() != "--resume") job.push_back("--resume");
  const CommandResult last = run_command(job);
  EXPECT_EQ(last.exit_code, 0) << last;
  EXPECT_EQ(losses("m.jsonl"), whole);
}

}  // namespace
}  // namespace msmoe::cli
