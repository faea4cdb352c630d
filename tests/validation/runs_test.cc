#include "simulator/validation/runs.h"

#include <gtest/gtest.h>

#include <string>

#include "core/error.h"

namespace msmoe::simulator::validation {
namespace {

Scenario with(const PublishedRun& run, const Change& alternative) { return scenario_of(run, run.id, &alternative); }

const char* const kRunsFile = MSMOE_SOURCE_DIR "/reports/validation/runs.json";

std::string set_of(const std::string& run, const std::string& group = "") {
  return R"({"schema_version": 1, "groups": [{"source": "s", "software": "modelzoo", "cluster": "h100",)" + group +
         R"("runs": [)" + run + "]}]}";
}
std::string run_of(const std::string& rest) {
  return R"({"id": "one", "model": "mixtral-8x7b", "plan": {"gpus": 8, "seq_len": 4096, "global_batch": 8},)" + rest +
         R"("published": {"quantity": "step_seconds", "value": 1}})";
}

// What is said of a bad set, one line; empty where nothing is.
std::string complaint(const std::string& text) {
  try {
    for (const PublishedRun& run : parse_runs("runs.json", text)) scenario_of(run, run.id);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(Runs, BadSetsAreRefusedInOneLineThatNamesThePlace) {
  EXPECT_EQ(complaint(set_of(run_of(""))), "");
  const auto expect = [](const std::string& text, const std::vector<std::string>& parts) {
    const std::string said = complaint(text);
    for (const std::string& part : parts) EXPECT_NE(said.find(part), said.npos) << said << "\nlacks " << part;
    EXPECT_EQ(said.find('\n'), said.npos) << said;
  };
  expect(set_of(run_of(R"("pln": {},)")), {"runs.json", "groups[0].runs[0].pln"});
  expect(set_of(run_of(""), R"("softwear": 1,)"), {"runs.json", "groups[0].softwear", "software"});
  expect(set_of(run_of("") + "," + run_of("")), {"groups[0].runs[1].id", "'one'"});
  expect(set_of(R"({"id": "one", "model": "m", "published": {"quantity": "seconds", "value": 1}})"),
         {"published.quantity", "'seconds'", "step_seconds"});
  expect(set_of(R"({"id": "one", "model": "m", "published": {"quantity": "mfu", "value": -1}})"),
         {"published.value", "-1"});
  expect(set_of(R"({"id": "one", "model": "m", "published": {"quantity": "mfu", "value": 0.4}})"),
         {"published.attention_flops"});
  expect(set_of(run_of(R"("assumed": [{"key": "gpus", "value": 4, "alternatives": []}],)")),
         {"groups[0].runs[0].assumed", "'gpus' is stated already"});
  expect(set_of(run_of(R"("assumed": [{"key": "zero", "value": 1, "alternatives": [1.5]}],)")),
         {"alternatives", "neither text nor a whole number"});
}

TEST(Runs, ConditionsThatNoPlanTakesNameTheRun) {
  EXPECT_NE(complaint(set_of(run_of(R"("model_changes": {"layer": 4},)"))).find("one: layer"), std::string::npos);
  EXPECT_NE(complaint(set_of(run_of(""), R"("plan": {"ep": 3},)")).find("one: "), std::string::npos);
  EXPECT_NE(complaint(set_of(run_of(""), R"("cluster_changes": {"hbm": "2.4"},)")).find("one: hbm"), std::string::npos);
}

TEST(Runs, ARunWinsOverItsGroup) {
  const std::string group = R"("plan": {"ep": 8, "gpus": 16}, "assumed": [
      {"key": "zero", "value": 1, "alternatives": []}, {"key": "loss", "value": "full", "alternatives": []}],)";
  const PublishedRun run =
      parse_runs("runs.json",
                 set_of(run_of(R"("assumed": [{"key": "zero", "value": 3, "alternatives": [1, 2]}],)"), group))
          .front();
  const Scenario scenario = scenario_of(run, run.id);
  EXPECT_EQ(scenario.plan.ep, 8);
  EXPECT_EQ(scenario.plan.gpus, 8);
  EXPECT_EQ(scenario.plan.zero, 3);
  EXPECT_EQ(scenario.plan.loss, LossKind::kFull);
  EXPECT_EQ(with(run, {"zero", "2"}).plan.zero, 2);
  EXPECT_EQ(scenario.plan.software.name, "modelzoo");
}

TEST(Runs, TheScheduleFollowsTheChunks) {
  const PublishedRun run = parse_runs("runs.json", set_of(run_of(""), R"("plan": {"pp": 2},
      "assumed": [{"key": "vpp", "value": 1, "alternatives": [2]}],)"))
                               .front();
  EXPECT_EQ(scenario_of(run, run.id).plan.schedule, PipelineSchedule::k1F1B);
  EXPECT_EQ(with(run, {"vpp", "2"}).plan.schedule, PipelineSchedule::kInterleaved);
}

TEST(Runs, EveryCommittedRunIsAValidPlanUnderAllItsAssumptions) {
  const std::vector<PublishedRun> runs = read_runs(kRunsFile);
  EXPECT_GE(runs.size(), 233u);
  std::size_t set_aside = 0;
  for (const PublishedRun& run : runs) {
    EXPECT_FALSE(run.source.empty()) << run.id;
    if (!run.set_aside.empty()) {
      ++set_aside;
      continue;
    }
    EXPECT_NO_THROW(scenario_of(run, run.id)) << run.id;
    for (const Assumption& assumption : run.assumed)
      for (const std::string& value : assumption.alternatives) {
        EXPECT_NE(value, assumption.value) << run.id << " " << assumption.key;
        EXPECT_NO_THROW(with(run, {assumption.key, value})) << run.id << " " << assumption.key << "=" << value;
      }
  }
  EXPECT_LE(static_cast<double>(set_aside), 0.15 * static_cast<double>(runs.size()));
}

}  // namespace
}  // namespace msmoe::simulator::validation
