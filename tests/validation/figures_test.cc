#include "simulator/validation/figures.h"

#include <gtest/gtest.h>

#include <string>

#include "core/error.h"
#include "simulator/validation/bars.h"

namespace msmoe::simulator::validation {
namespace {

const char* const kFiguresFile = MSMOE_SOURCE_DIR "/reports/validation/figures.json";

std::string set_of(const std::string& figure, const std::string& point) {
  return R"({"schema_version": 1, "run_bars": [], "figures": [{"id": "f", "title": "F", "source": "s",
    "measure": "operators", "software": "kernels", "model": "mixtral-8x7b", "cluster": "h800",)" +
         figure + R"("plan": {"gpus": 8, "ep": 8, "global_batch": 8, "seq_len": 4096, "overlap": "none"},
    "series": [{"name": "a", "points": [{"name": "p", "published": 1, )" +
         point + "}]}]}]}";
}

std::string complaint(const std::string& text) {
  try {
    for (const Figure& figure : parse_figures("figures.json", text).figures) predict_figure(figure);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(Figures, BadOnesAreRefusedInOneLineThatNamesThePlace) {
  EXPECT_EQ(complaint(set_of("", R"("operators": ["fc1"])")), "");
  const auto expect = [](const std::string& said, const std::string& part) {
    EXPECT_NE(said.find(part), said.npos) << said << "\nlacks " << part;
    EXPECT_EQ(said.find('\n'), said.npos) << said;
  };
  expect(complaint(set_of("", R"("operators": ["fc9"])")), "f, a, p: operators: a layer has no forward operator 'fc9'");
  expect(complaint(set_of("", R"("measure": "speed")")), "figures[0].series[0].points[0].measure");
  expect(complaint(set_of("", R"("operator": ["fc1"])")), "figures[0].series[0].points[0].operators");
  expect(complaint(set_of(R"("relativ": "first",)", R"("operators": ["fc1"])")), "figures[0].relativ");
  expect(complaint(set_of(R"("bar": {"of": "all", "limit": 1},)", R"("operators": ["fc1"])")), "figures[0].bar.of");
  expect(complaint(set_of("", R"("operators": ["fc1"], "plan": {"ep": 3})")), "f, a, p: ");
}

Figure figure_of(Relative relative, ErrorKind error, const std::vector<double>& published) {
  Figure figure;
  figure.title = "F";
  figure.relative = relative;
  figure.error = error;
  FigureSeries series;
  for (const double value : published) {
    FigurePoint point;
    point.published = value;
    series.points.push_back(point);
  }
  figure.series.push_back(series);
  return figure;
}

std::vector<double> errors_of(const Figure& figure, const std::vector<double>& measured) {
  std::vector<double> errors;
  for (const FigureValue& value : compare(figure, figure.series.front(), measured))
    if (value.compared) errors.push_back(value.error);
  return errors;
}

TEST(Figures, ValuesAreRelativeAsTheFigureIs) {
  using Errors = std::vector<double>;
  EXPECT_EQ(errors_of(figure_of(Relative::kNone, ErrorKind::kRatio, {2, 4}), {3, 3}), (Errors{0.5, -0.25}));
  EXPECT_EQ(errors_of(figure_of(Relative::kFirst, ErrorKind::kDifference, {1, 2}), {4, 6}), (Errors{-0.5}));
  EXPECT_EQ(errors_of(figure_of(Relative::kLast, ErrorKind::kDifference, {0.25, 1}), {2, 4}), (Errors{0.25}));
  // 4, 6, 7: gains of 0.5 and 0.25 of the first.
  EXPECT_EQ(errors_of(figure_of(Relative::kGain, ErrorKind::kDifference, {1, 0.25, 0.5}), {4, 6, 7}),
            (Errors{0.25, -0.25}));
}

TEST(Bars, EachOrTheMedian) {
  Figure figure = figure_of(Relative::kNone, ErrorKind::kDifference, {1, 1, 1});
  const std::vector<FigureValue> values = compare(figure, figure.series.front(), {1.5, 0.75, 1});
  figure.bar = Bar{Bar::Of::kEach, 0.5};
  EXPECT_EQ(hold_figure(figure, values).worst, 0.5);
  EXPECT_TRUE(hold_figure(figure, values).holds());
  figure.bar = Bar{Bar::Of::kEach, 0.4};
  EXPECT_FALSE(hold_figure(figure, values).holds());
  figure.bar = Bar{Bar::Of::kMedian, 0.25};
  EXPECT_EQ(hold_figure(figure, values).worst, 0.25);
  EXPECT_TRUE(hold_figure(figure, values).holds());
}

TEST(Bars, OnRunsByTheirNames) {
  PublishedRun slow, fast;
  slow.id = "slow-1";
  fast.id = "fast-1";
  std::vector<Outcome> outcomes(2);
  outcomes[0].run = &slow;
  outcomes[0].step_seconds = 4;
  outcomes[0].published_step = 5;
  outcomes[1].run = &fast;
  outcomes[1].step_seconds = 2;
  outcomes[1].published_step = 2;
  const Bar bar{Bar::Of::kEach, 0.1};
  EXPECT_NEAR(hold_runs({"all", "-1$", "", 0, bar}, outcomes).worst, 0.2, 1e-12);
  EXPECT_EQ(hold_runs({"fast", "^fast", "", 0, bar}, outcomes).worst, 0);
  EXPECT_NEAR(hold_runs({"ratio", "^fast", "slow-1", 1.95, bar}, outcomes).worst, 0.05, 1e-12);
  EXPECT_THROW(hold_runs({"none", "^x", "", 0, bar}, outcomes), UserError);
  EXPECT_THROW(hold_runs({"none", "^fast", "x", 2, bar}, outcomes), UserError);
}

TEST(Figures, EveryCommittedPointIsAValidPlan) {
  const FigureSet set = read_figures(kFiguresFile);
  EXPECT_GE(set.figures.size(), 9u);
  for (const Figure& figure : set.figures)
    for (const FigureSeries& series : figure.series)
      for (const FigurePoint& point : series.points)
        EXPECT_NO_THROW(scenario_of(point, point.name)) << figure.id << ", " << series.name << ", " << point.name;
}

}  // namespace
}  // namespace msmoe::simulator::validation
