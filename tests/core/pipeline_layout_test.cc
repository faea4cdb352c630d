#include "core/pipeline_layout.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/core/mutations.h"

namespace msmoe {
namespace {

using Layers = std::vector<std::int64_t>;

Layers parse(const std::string& text) { return parse_pipeline_layout(text, "layout"); }

TEST(PipelineLayout, ListsOfNumbers) {
  EXPECT_EQ(parse("4,4,3"), (Layers{4, 4, 3}));
  EXPECT_EQ(parse("11/12/12/11"), (Layers{11, 12, 12, 11}));
  EXPECT_EQ(parse("7"), (Layers{7}));
  EXPECT_EQ(format_pipeline_layout({11, 12, 12, 11}), "11/12/12/11");
}

// E and one t; then 30 times two t; then a stage of the loss alone: 32 virtual stages, 61 layers.
TEST(PipelineLayout, MegatronFormOfDeepSeekV3) {
  Layers expected(32, 2);
  expected.front() = 1;
  expected.back() = 0;
  EXPECT_EQ(parse("Et|(tt|)*30L"), expected);
}

TEST(PipelineLayout, MegatronRepetitionOfOneLetter) {
  EXPECT_EQ(parse("Et*3|t*2|tL"), (Layers{3, 2, 1}));
  EXPECT_EQ(parse("E|t|L"), (Layers{0, 1, 0}));
  EXPECT_EQ(parse("Ett||ttL"), (Layers{2, 0, 2}));
}

TEST(PipelineLayout, PredictionLayersStandInTheLastStage) {
  EXPECT_EQ(parse("Et|tmL"), (Layers{1, 1}));
  EXPECT_EQ(parse("Et|t|mL"), (Layers{1, 1, 0}));
  EXPECT_THROW(parse("Etm|tL"), UserError);
  EXPECT_THROW(parse("Et|mtL"), UserError);
}

std::string refusal(const std::string& text) {
  try {
    parse(text);
  } catch (const UserError& error) {
    EXPECT_EQ(error.place(), "layout");
    return error.message();
  }
  ADD_FAILURE() << text << " was taken";
  return {};
}

TEST(PipelineLayout, RefusalsSayWhy) {
  EXPECT_NE(refusal("t|tL").find("exactly one E, at the start"), std::string::npos);
  EXPECT_NE(refusal("tE|tL").find("exactly one E, at the start"), std::string::npos);
  EXPECT_NE(refusal("Et|t").find("exactly one L, at the end"), std::string::npos);
  EXPECT_NE(refusal("EtL|tL").find("exactly one L, at the end"), std::string::npos);
  EXPECT_NE(refusal("Et|(tt|L").find("nothing closes"), std::string::npos);
  EXPECT_NE(refusal("Et|((t))*2L").find("group inside a group"), std::string::npos);
  EXPECT_NE(refusal("Etx|tL").find("'x' where it cannot stand (character 3)"), std::string::npos);
  EXPECT_NE(refusal("E(tt|)*99999L").find("above 65536"), std::string::npos);
  EXPECT_NE(refusal("E(tt|)*65536L").find("longer than 65536"), std::string::npos);
  EXPECT_NE(refusal("4,").find("ends too early"), std::string::npos);
  EXPECT_NE(refusal("4,-1").find("'-' where it cannot stand"), std::string::npos);
  EXPECT_NE(refusal("").find("exactly one E"), std::string::npos);
}

TEST(PipelineLayout, SurvivesMutations) {
  for (const char* text : {"Et|(tt|)*30L", "11/12/12/11", "Et*3|t*2|t|mL"}) {
    const Survival survival = expect_survives(text, parse);
    EXPECT_GT(survival.accepted, 0);
    EXPECT_GT(survival.refused, 100);
  }
}

}  // namespace
}  // namespace msmoe
