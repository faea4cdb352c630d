// The search against the definition of its answer: every plan that fits, composed and ranked.
#include "planner/search.h"

#include <gtest/gtest.h>

#include <set>

#include "core/memory_plan.h"
#include "core/program.h"
#include "tests/planner/questions.h"

namespace msmoe::planner {
namespace {

// Small spaces that differ in what limits them: memory, validity, or neither; dense first layers and latent attention;
// pipelines with interleaving; ZeRO-3 over several stages; one field fixed or many.
struct Case {
  std::string name;
  Question question;
  SearchResult answer;  // with one thread
};

// Searched once for all tests.
const std::vector<Case>& cases() {
  static const std::vector<Case> all = [] {
    std::vector<Case> made = {
        {"mixtral on 2 nodes", ask("mixtral-8x7b", "h100", 16, 64, 4096, {{"etp", "1"}, {"cp", "1"}}), {}},
        {"mixtral on 4 nodes",
         ask("mixtral-8x7b", "h100", 32, 64, 4096,
             {{"attention", "tp"}, {"cp", "1"}, {"dispatch", "a2a"}, {"ep", "4"}}),
         {}},
        {"qwen3 on 2 nodes",
         ask("qwen3-30b-a3b", "h100", 16, 64, 4096, {{"attention", "sp"}, {"ffn", "ep"}, {"cp", "1"}, {"zero", "3"}}),
         {}},
        {"deepseek-v2-lite on 1 node",
         ask("deepseek-v2-lite", "h100", 8, 32, 4096, {{"cp", "1"}, {"etp", "1"}, {"overlap", "intra"}}),
         {}},
        {"megascale on 30 nodes",
         ask("megascale-352b", "h800", 240, 240, 8192,
             {{"attention_degree", "8"}, {"ep", "8"}, {"etp", "1"}, {"cp", "1"}}),
         {}},
    };
    for (Case& one : made) {
      one.question.jobs = 1;
      one.answer = search(one.question);
    }
    return made;
  }();
  return all;
}

void expect_same(const Scored& a, const Scored& b, const std::string& where) {
  EXPECT_EQ(describe_plan(a.plan), describe_plan(b.plan)) << where;
  EXPECT_TRUE(a.plan == b.plan) << where;
  EXPECT_EQ(a.step, b.step) << where;
  EXPECT_EQ(a.memory, b.memory) << where;
}

void expect_same(const std::vector<Scored>& a, const std::vector<Scored>& b, const std::string& where) {
  ASSERT_EQ(a.size(), b.size()) << where;
  for (std::size_t i = 0; i < a.size(); ++i) expect_same(a[i], b[i], where + std::to_string(i));
}

void expect_same_answer(const SearchResult& a, const SearchResult& b, const std::string& name) {
  expect_same(a.best, b.best, name + ", best ");
  expect_same(a.pareto, b.pareto, name + ", pareto ");
  ASSERT_EQ(a.alternatives.size(), b.alternatives.size()) << name;
  for (std::size_t i = 0; i < a.alternatives.size(); ++i) {
    const std::string where = name + ", " + a.alternatives[i].field + "=" + a.alternatives[i].value;
    EXPECT_EQ(a.alternatives[i].field, b.alternatives[i].field) << where;
    EXPECT_EQ(a.alternatives[i].value, b.alternatives[i].value) << where;
    expect_same(a.alternatives[i].best, b.alternatives[i].best, where);
  }
  ASSERT_EQ(a.other_schedules.size(), b.other_schedules.size()) << name;
  for (std::size_t i = 0; i < a.other_schedules.size(); ++i)
    expect_same(a.other_schedules[i].best, b.other_schedules[i].best, name + ", " + a.other_schedules[i].value);
  ASSERT_EQ(a.near_misses.size(), b.near_misses.size()) << name;
  for (std::size_t i = 0; i < a.near_misses.size(); ++i) {
    EXPECT_TRUE(a.near_misses[i].plan == b.near_misses[i].plan) << name;
    EXPECT_EQ(a.near_misses[i].change, b.near_misses[i].change) << name;
    EXPECT_EQ(a.near_misses[i].over, b.near_misses[i].over) << name;
    EXPECT_EQ(a.near_misses[i].step, b.near_misses[i].step) << name;
  }
  EXPECT_EQ(a.considered, b.considered) << name;
  EXPECT_EQ(a.invalid, b.invalid) << name;
  EXPECT_EQ(a.over_memory, b.over_memory) << name;
  EXPECT_EQ(a.over_by_states, b.over_by_states) << name;
  EXPECT_EQ(a.rejections, b.rejections) << name;
}

TEST(Search, PrunedAnswersAsExhaustive) {
  for (const Case& one : cases()) {
    const SearchResult& pruned = one.answer;
    const SearchResult exhaustive = search(one.question, {}, true);
    expect_same_answer(pruned, exhaustive, one.name);
    // The exhaustive search is what its name says, and the pruned one is less.
    EXPECT_EQ(exhaustive.simulated, exhaustive.considered - exhaustive.invalid - exhaustive.over_memory) << one.name;
    EXPECT_LT(pruned.simulated, exhaustive.simulated) << one.name;
    EXPECT_FALSE(pruned.best.empty()) << one.name;
  }
}

// Nor on which of several threads takes what: the same twice.
TEST(Search, AnswerDoesNotDependOnThreads) {
  for (const Case& one : cases()) {
    Question question = one.question;
    for (const int jobs : {2, 5, 5}) {
      question.jobs = jobs;
      const SearchResult several = search(question);
      expect_same_answer(one.answer, several, one.name);
      EXPECT_EQ(one.answer.simulated, several.simulated) << one.name;
    }
  }
}

TEST(Search, BestPlansAreValidDistinctAndRanked) {
  for (const Case& one : cases()) {
    const SearchResult& result = one.answer;
    ASSERT_EQ(result.best.size(), static_cast<std::size_t>(one.question.top)) << one.name;
    std::set<std::string> seen;
    for (std::size_t i = 0; i < result.best.size(); ++i) {
      const Scored& scored = result.best[i];
      EXPECT_TRUE(is_valid(one.question.model, one.question.cluster, scored.plan)) << describe_plan(scored.plan);
      EXPECT_LE(scored.memory, one.question.cluster.gpu.memory);
      EXPECT_TRUE(seen.insert(plan_to_json(scored.plan)).second) << describe_plan(scored.plan) << " twice";
      EXPECT_GE(scored.step, result.best[i == 0 ? 0 : i - 1].step);
    }
  }
}

// From the fastest plan on, each needs less memory than the one before and takes longer.
TEST(Search, ParetoPlansTradeMemoryForTime) {
  for (const Case& one : cases()) {
    const SearchResult& result = one.answer;
    ASSERT_FALSE(result.pareto.empty());
    EXPECT_EQ(result.pareto.front().step, result.best.front().step);
    for (std::size_t i = 1; i < result.pareto.size(); ++i) {
      EXPECT_LT(result.pareto[i].memory, result.pareto[i - 1].memory) << one.name;
      EXPECT_GE(result.pareto[i].step, result.pareto[i - 1].step) << one.name;
    }
  }
}

TEST(Search, AlternativesDifferFromTheWinnerInTheirField) {
  for (const Case& one : cases()) {
    const SearchResult& result = one.answer;
    EXPECT_FALSE(result.alternatives.empty()) << one.name;
    for (const Alternative& alternative : result.alternatives) {
      EXPECT_EQ(plan_field(alternative.best.plan, alternative.field), alternative.value);
      EXPECT_NE(plan_field(result.best.front().plan, alternative.field), alternative.value);
      EXPECT_GE(alternative.best.step, result.best.front().step);
    }
  }
}

// Each is the best of few, so no better than what --fix finds among all.
TEST(Search, OtherSchedulesAreValidAndNoFasterThanTheirOwnSearch) {
  const Fixes fixes = {{"attention_degree", "8"}, {"ep", "8"}, {"etp", "1"}, {"cp", "1"}, {"dispatch", "a2a"}};
  const Question question = ask("megascale-352b", "h800", 240, 240, 8192, fixes);
  const SearchResult result = search(question);
  std::set<std::string> seen;
  for (const Alternative& other : result.other_schedules) {
    seen.insert(other.value);
    EXPECT_TRUE(is_valid(question.model, question.cluster, other.best.plan)) << describe_plan(other.best.plan);
    EXPECT_EQ(plan_field(other.best.plan, other.field), other.value);
    EXPECT_LE(other.best.memory, question.cluster.gpu.memory);
    Fixes narrower = fixes;
    narrower.push_back({other.field, other.value});
    const auto own = fastest(ask("megascale-352b", "h800", 240, 240, 8192, narrower));
    ASSERT_TRUE(own.has_value()) << other.value;
    EXPECT_LE(own->step, other.best.step) << other.value;
  }
  EXPECT_TRUE(seen.contains("zb_h1") && seen.contains("zb_v") && seen.contains("on"));
}

// With the schedule fixed, bounds of parted and merged passes prune, too.
TEST(Search, PrunedAnswersAsExhaustiveUnderOtherSchedules) {
  for (const simulator::Change& fix :
       Fixes{{"schedule", "zb_h1"}, {"schedule", "zb_v"}, {"schedule", "dualpipe"}, {"merge_passes", "on"}}) {
    Question question = ask("mixtral-8x7b", "h100", 32, 64, 4096,
                            {{"attention", "tp"}, {"cp", "1"}, {"dispatch", "a2a"}, {"ep", "4"}, fix});
    question.jobs = 1;
    const SearchResult pruned = search(question), exhaustive = search(question, {}, true);
    EXPECT_FALSE(pruned.best.empty()) << fix.value;
    expect_same_answer(pruned, exhaustive, fix.value);
  }
}

TEST(Search, NearMissesAreTooBigAndTheirChangeHelps) {
  for (const Case& one : cases()) {
    const Bytes usable = one.question.cluster.gpu.memory;
    for (const NearMiss& miss : one.answer.near_misses) {
      EXPECT_GT(miss.over.count, 0);
      if (miss.change.empty()) continue;
      Plan changed = miss.plan;
      const std::size_t equals = miss.change.find('=');
      set_plan_field(changed, miss.change.substr(0, equals), miss.change.substr(equals + 1));
      ASSERT_TRUE(is_valid(one.question.model, one.question.cluster, changed)) << describe_plan(changed);
      const Program program = lower(one.question.model, one.question.cluster, changed);
      EXPECT_LE(plan_memory(one.question.model, one.question.cluster, program).worst().total(), usable)
          << describe_plan(changed);
    }
  }
}

// 352e9 parameters at 18 bytes (bf16 weights, fp32 gradients, master weights and two moments) over 8 GPUs of 80 GB:
// 792 GB each, whatever the plan.
TEST(Search, FindsNothingWhereNothingFits) {
  const SearchResult result = search(ask("megascale-352b", "h800", 8, 8, 4096));
  EXPECT_TRUE(result.best.empty());
  EXPECT_TRUE(result.pareto.empty());
  EXPECT_EQ(result.simulated, 0);
  EXPECT_EQ(result.considered, result.invalid + result.over_memory);
  EXPECT_GT(result.over_by_states, 0);
}

TEST(Search, LeastMemoryIsTheEndOfTheParetoSet) {
  Question question = ask("deepseek-v2-lite", "h100", 8, 32, 4096, {{"cp", "1"}, {"etp", "1"}});
  question.objective = Objective::kMemory;
  const SearchResult result = search(question);
  ASSERT_FALSE(result.best.empty());
  for (const Scored& other : result.pareto) EXPECT_LE(result.best.front().memory, other.memory);
  for (std::size_t i = 1; i < result.best.size(); ++i) EXPECT_LE(result.best[i - 1].memory, result.best[i].memory);
}

}  // namespace
}  // namespace msmoe::planner
