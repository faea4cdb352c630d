#include "simulator/routing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "core/error.h"
#include "simulator/random_draws.h"
#include "simulator/stragglers.h"
#include "tests/core/mutations.h"

namespace msmoe::simulator {
namespace {

using Rows = std::vector<std::vector<double>>;

Plan plan_with(std::int64_t ep) {
  Plan plan;
  plan.ep = ep;
  return plan;
}

void expect_refused(const std::string& text, const std::string& place, const std::string& part) {
  try {
    parse_routing_histogram("load.txt", text);
    ADD_FAILURE() << text << " was accepted";
  } catch (const UserError& error) {
    EXPECT_EQ(error.file(), "load.txt");
    EXPECT_EQ(error.place(), place) << error.what();
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST(RoutingHistogram, IsReadFromJson) {
  EXPECT_EQ(parse_routing_histogram("x", R"({"tokens": [1, 2, 3]})").tokens, (std::vector<Rows>{{{1, 2, 3}}}));
  EXPECT_EQ(parse_routing_histogram("x", R"({"layers": [[1, 2], [3, 4]]})").tokens,
            (std::vector<Rows>{{{1, 2}, {3, 4}}}));
  EXPECT_EQ(parse_routing_histogram("x", R"( {"steps": [{"tokens": [1, 2]}, {"layers": [[3, 4], [5, 6]]}]})").tokens,
            (std::vector<Rows>{{{1, 2}}, {{3, 4}, {5, 6}}}));
}

TEST(RoutingHistogram, IsReadFromCsvInAnyOrder) {
  EXPECT_EQ(parse_routing_histogram("x", "expert,tokens\n1,5\n0,7\n").tokens, (std::vector<Rows>{{{7, 5}}}));
  EXPECT_EQ(parse_routing_histogram("x", "layer, tokens, expert\r\n0,1,0\r\n1,2,0\r\n\r\n0,3,1\r\n1,4,1").tokens,
            (std::vector<Rows>{{{1, 3}, {2, 4}}}));
  EXPECT_EQ(parse_routing_histogram("x", "step,expert,tokens\n0,0,1\n1,0,2\n").tokens,
            (std::vector<Rows>{{{1}}, {{2}}}));
}

TEST(RoutingHistogram, RefusesWithThePlace) {
  expect_refused("", "", "no rows");
  expect_refused("expert,tokens\n", "", "no rows");
  expect_refused("expert,tokens\n0,-1\n", "line 2, column tokens", "'-1'");
  expect_refused("expert,tokens\n0.5,1\n", "line 2, column expert", "'0.5'");
  expect_refused("expert,tokens\n0,1,2\n", "line 2", "3 cells");
  expect_refused("expert,tokens\n0,1\n0,2\n", "line 3", "again");
  expect_refused("expert,tokens\n0,1\n2,2\n", "", "2 rows for 1 steps, 1 layers and 3 experts");
  expect_refused("expert,tokens\n0,0\n", "step 0, layer 0", "no expert has tokens");
  expect_refused("expert,rows\n0,1\n", "line 1", "'rows' is no column");
  expect_refused("expert,expert,tokens\n0,0,1\n", "line 1", "there twice");
  expect_refused("step,tokens\n0,1\n", "line 1", "no column expert");
  expect_refused(R"({"tokens": [1, "2"]})", "tokens[1]", "2");
  expect_refused(R"({"tokens": [0, 0]})", "tokens", "no expert has tokens");
  expect_refused(R"({"layers": [[1], [-1]]})", "layers[1]", "-1");
  expect_refused(R"({"steps": [{"tokens": [1], "layers": [[1]]}]})", "steps[0].tokens", "one of tokens and layers");
  expect_refused(R"({"tokens": [1], "token": 1})", "token", "");
}

// Whatever the bytes: taken, or refused with one line.
TEST(RoutingHistogram, SurvivesAnyBytes) {
  const std::vector<std::string> samples = {
      R"({"steps": [{"tokens": [1, 2, 3]}, {"layers": [[4, 5, 6], [7, 8, 9e3]]}]})",
      "step,layer,expert,tokens\n0,0,0,12\n0,0,1,3.5e2\n0,1,0,1\n0,1,1,7\n1,0,0,2\n1,0,1,2\n1,1,0,3\n1,1,1,4\n"};
  const std::vector<std::string> pieces = {
      ",",      "\n",     "-", "1e999", "nan", "99999999999999999999", "[", "{", "\"", "\xff", std::string(1, '\0'),
      "expert", "1048576"};
  std::mt19937_64 random(7);
  Survival survival;
  auto parse = [](const std::string& text) { parse_routing_histogram("fuzzed", text); };
  for (int round = 0; round < 20'000; ++round) {
    std::string text = samples[random() % samples.size()];
    for (std::uint64_t edits = 1 + random() % 4; edits > 0; --edits) {
      const std::size_t at = random() % (text.size() + 1);
      switch (random() % 4) {
        case 0: text.erase(at, random() % 5); break;
        case 1: text.insert(at, pieces[random() % pieces.size()]); break;
        case 2: text.insert(at, 1, static_cast<char>(random())); break;
        default: text.resize(at);
      }
    }
    expect_survives_once(text, parse, survival);
  }
  for (int round = 0; round < 5'000; ++round) {
    std::string text(random() % 64, ' ');
    for (char& byte : text) byte = static_cast<char>(random());
    expect_survives_once(text, parse, survival);
  }
  EXPECT_GT(survival.accepted, 100);
  EXPECT_GT(survival.refused, 1000);
}

TEST(Routing, IsParsed) {
  EXPECT_EQ(parse_routing("1.5", {}).value, 1.5);
  EXPECT_EQ(parse_routing("draw:std=0.032", {}).kind, Routing::Kind::kDeviation);
  EXPECT_EQ(parse_routing("draw:dirichlet=4", {}).value, 4);
  for (const char* text : {"", "x", "0.9", "nan", "draw:", "draw:std=0", "draw:std=1", "draw:std=x",
                           "draw:dirichlet=-1", "/no/such/file", "."})
    EXPECT_THROW(parse_routing(text, {"", "imbalance"}), UserError) << text;
}

Routing histogram_of(const Rows& layers) {
  Routing routing(Routing::Kind::kHistogram, 0);
  routing.histogram = std::make_shared<const RoutingHistogram>(RoutingHistogram{.file = "h", .tokens = {layers}});
  return routing;
}

// Mixtral has 8 experts, top-2. On EP4 experts 0 and 1 are rank 0's: (3 + 1) of 16 tokens, which is its fair quarter;
// rank 1 has 6 of 16.
TEST(RankLoads, FollowThePlacementOfExperts) {
  const Model model = find_model("mixtral-8x7b");
  const RankLoads loads = rank_loads(histogram_of({{3, 1, 4, 2, 0, 2, 1, 3}}), model, plan_with(4), 1, 0);
  ASSERT_EQ(loads.size(), 32u);
  for (const std::vector<double>& layer : loads) EXPECT_EQ(layer, (std::vector<double>{1, 1.5, 0.5, 1}));
  const std::vector<Bytes> sent = destination_bytes(loads.front(), {400});
  EXPECT_EQ(sent, (std::vector<Bytes>{{100}, {150}, {50}, {100}}));
}

// With top-2 one expert gets half of the rows at most: 4 times its fair eighth. The rest is the other experts', as they
// share it: 1/14 of all rows each.
TEST(RankLoads, NeverExceedWhatTopKAllows) {
  const Model model = find_model("mixtral-8x7b");
  const std::vector<double> loads =
      rank_loads(histogram_of({{100, 1, 1, 1, 1, 1, 1, 1}}), model, plan_with(8), 1, 0).front();
  EXPECT_DOUBLE_EQ(loads[0], 4);
  for (std::size_t rank = 1; rank < 8; ++rank) EXPECT_DOUBLE_EQ(loads[rank], 8.0 / 14);
}

TEST(RankLoads, RefuseAHistogramOfAnotherModel) {
  const Model model = find_model("mixtral-8x7b");
  EXPECT_THROW(rank_loads(histogram_of({{1, 1}}), model, plan_with(1), 1, 0), UserError);
  EXPECT_THROW(rank_loads(histogram_of(Rows(3, std::vector<double>(8, 1))), model, plan_with(1), 1, 0), UserError);
}

TEST(RankLoads, OfAFactorHaveOneLoadedRankALayer) {
  const Model model = find_model("mixtral-8x7b");
  for (std::vector<double>& layer : rank_loads(Routing(1.75), model, plan_with(4), 3, 0)) {
    std::sort(layer.begin(), layer.end());
    EXPECT_EQ(layer, (std::vector<double>{0.75, 0.75, 0.75, 1.75}));
  }
}

TEST(RankLoads, AreDrawnWithTheDeviationAskedFor) {
  const Model model = find_model("mixtral-8x7b");
  double sum = 0, squares = 0, count = 0;
  for (std::int64_t step = 0; step < 200; ++step) {
    for (const std::vector<double>& layer :
         rank_loads(parse_routing("draw:std=0.032", {}), model, plan_with(8), 1, step)) {
      EXPECT_NEAR(std::accumulate(layer.begin(), layer.end(), 0.0), 8, 1e-9);
      for (const double load : layer) {
        sum += load / 8;
        squares += load / 8 * load / 8;
        ++count;
      }
    }
  }
  const double mean = sum / count;
  EXPECT_NEAR(mean, 1.0 / 8, 1e-9);
  EXPECT_NEAR(std::sqrt(squares / count - mean * mean), 0.032, 0.0005);  // 51,200 shares
}

TEST(RankLoads, DependOnSeedStepAndLayer) {
  const Model model = find_model("mixtral-8x7b");
  const Routing routing = parse_routing("draw:dirichlet=4", {});
  const RankLoads loads = rank_loads(routing, model, plan_with(8), 1, 0);
  EXPECT_EQ(loads, rank_loads(routing, model, plan_with(8), 1, 0));
  EXPECT_NE(loads, rank_loads(routing, model, plan_with(8), 2, 0));
  EXPECT_NE(loads, rank_loads(routing, model, plan_with(8), 1, 1));
  EXPECT_NE(loads[0], loads[1]);
  EXPECT_THROW(rank_loads(parse_routing("draw:std=0.5", {}), model, plan_with(8), 1, 0), UserError);  // at most 0.331
}

TEST(LognormalFactors, HaveMeanOneAndVaryAsAsked) {
  for (const double variation : {0.01, 0.1, 0.5, 2.0}) {
    const LognormalFactors factors(variation);
    double sum = 0, squares = 0;
    for (std::uint64_t i = 0; i < LognormalFactors::kEntries; ++i) {
      const double factor = factors.of(i << (64 - LognormalFactors::kLogEntries));
      EXPECT_GT(factor, 0);
      sum += factor;
      squares += factor * factor;
    }
    const double mean = sum / LognormalFactors::kEntries;
    EXPECT_NEAR(mean, 1, 1e-9);
    EXPECT_NEAR(std::sqrt(squares / LognormalFactors::kEntries - 1), variation, 1e-6);
  }
}

TEST(Stragglers, AreDrawnOrNamed) {
  const std::vector<double> drawn = compute_factors(parse_stragglers("3:1.5", {}), 64, 1);
  EXPECT_EQ(std::count(drawn.begin(), drawn.end(), 1.5), 3);
  EXPECT_EQ(std::count(drawn.begin(), drawn.end(), 1.0), 61);
  EXPECT_EQ(drawn, compute_factors(parse_stragglers("3:1.5", {}), 64, 1));
  EXPECT_NE(drawn, compute_factors(parse_stragglers("3:1.5", {}), 64, 2));
  const std::vector<double> named = compute_factors(parse_stragglers("rank5:2+rank5:1.5+rank0:3", {}), 8, 1);
  EXPECT_EQ(named, (std::vector<double>{3, 1, 1, 1, 1, 2, 1, 1}));
  EXPECT_TRUE(parse_stragglers("none", {}).empty());
}

TEST(Stragglers, RefuseWhatCannotBe) {
  for (const char* text : {"", "3", "3:", ":2", "3:0.5", "-1:2", "rank:2", "rank-1:2", "3:x", "3:1.5+", "3:1e9"})
    EXPECT_THROW(parse_stragglers(text, {"", "straggler"}), UserError) << text;
  EXPECT_THROW(compute_factors(parse_stragglers("rank8:2", {}), 8, 1), UserError);
  EXPECT_THROW(compute_factors(parse_stragglers("9:2", {}), 8, 1), UserError);
}

}  // namespace
}  // namespace msmoe::simulator
