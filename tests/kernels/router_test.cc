#include <gtest/gtest.h>

#include <algorithm>

#include "tests/kernels/tensors.h"

namespace msmoe::kernels {
namespace {

struct Routed {
  Tensor scores, gates, losses{1, 2};
  Integers experts, counts;
};

Routed route(const RouterShape& shape, Tensor& logits, View bias = {}) {
  Routed routed;
  routed.scores = Tensor(logits.rows, logits.columns);
  routed.gates = Tensor(logits.rows, shape.top_k);
  routed.experts = Integers(logits.rows, shape.top_k);
  routed.counts = Integers(1, logits.columns, 77);
  run(Router{shape, logits, bias, routed.scores, routed.experts, routed.gates, routed.counts, routed.losses});
  return routed;
}

float sigmoid(double x) { return static_cast<float>(1 / (1 + std::exp(-x))); }

TEST(Router, SoftmaxOfAHandMadeToken) {
  Tensor logits(1, 4, {0, std::log(2.0F), std::log(4.0F), 0});
  const Routed routed = route({.top_k = 2, .normalize = false, .scale = 3}, logits);
  expect_near(routed.scores.values, {0.125F, 0.25F, 0.5F, 0.125F}, 1e-6);
  EXPECT_EQ(routed.experts.values, (std::vector<std::int32_t>{2, 1}));
  expect_near(routed.gates.values, {1.5F, 0.75F}, 1e-6);
  EXPECT_EQ(routed.counts.values, (std::vector<std::int32_t>{0, 1, 1, 0}));
  expect_near(routed.losses.values, {4.0F / 2 * 0.75F, static_cast<float>(std::pow(std::log(8.0), 2))}, 1e-6);
}

TEST(Router, NormalizedGatesAddUpToTheScale) {
  Tensor logits = random_tensor(6, 8, 1);
  for (const Scoring scoring : {Scoring::kSoftmax, Scoring::kSigmoid}) {
    const Routed routed = route({.scoring = scoring, .top_k = 3, .scale = 2.5}, logits);
    for (std::int64_t t = 0; t < 6; ++t)
      EXPECT_NEAR(routed.gates.at(t, 0) + routed.gates.at(t, 1) + routed.gates.at(t, 2), 2.5, 1e-6);
  }
}

TEST(Router, EqualLogitsChooseTheLowerNumbersAndBalanceIsOne) {
  Tensor logits(4, 4, 0);
  EXPECT_EQ(route({.top_k = 2}, logits).experts.values, (std::vector<std::int32_t>{0, 1, 0, 1, 0, 1, 0, 1}));
  for (std::int64_t t = 0; t < 4; ++t) logits.at(t, t) = 1;
  EXPECT_NEAR(route({.top_k = 1}, logits).losses[0], 1, 1e-6);
}

TEST(Router, BiasChoosesButDoesNotWeigh) {
  Tensor logits(1, 3, {2, 1, 0}), bias(1, 3, {-1, 0, 0});
  const Routed routed = route({.scoring = Scoring::kSigmoid, .top_k = 2, .normalize = false}, logits, bias);
  EXPECT_EQ(routed.experts.values, (std::vector<std::int32_t>{1, 2}));
  expect_near(routed.gates.values, {sigmoid(1), sigmoid(0)}, 1e-6);
}

// Of the groups {0, 1} and {2, 3} the first has the best expert, the second the better two.
TEST(Router, GroupsAreJudgedByOneExpertOrByTwo) {
  Tensor logits(1, 4, {2, -9, 1, 1.5F});
  const RouterShape shape{.top_k = 2, .groups = 2, .top_groups = 1};
  EXPECT_EQ(route(shape, logits).experts.values, (std::vector<std::int32_t>{0, 1}));
  RouterShape by_two = shape;
  by_two.scoring = Scoring::kSigmoid;
  EXPECT_EQ(route(by_two, logits).experts.values, (std::vector<std::int32_t>{3, 2}));
}

// Scores that all vanish in fp32 must not divide by zero.
TEST(Router, VanishingScoresStayFinite) {
  Tensor logits(1, 4, -200);
  const Routed routed = route({.scoring = Scoring::kSigmoid, .top_k = 2}, logits);
  for (const float gate : routed.gates.values) EXPECT_TRUE(std::isfinite(gate));
  EXPECT_TRUE(std::isfinite(routed.losses[0]));
}

// Experts 2 and 3 are the only ones with numbers; the first of the groups {0, 1}, {2, 3}, {4, 5} has none.
TEST(Router, WhatIsNoNumberRanksLastAndNoExpertComesTwice) {
  const float none = std::nanf("");
  Tensor logits(1, 6, {none, none, 1, 2, none, none});
  const RouterShape shape{.scoring = Scoring::kSigmoid, .top_k = 4};
  EXPECT_EQ(route(shape, logits).experts.values, (std::vector<std::int32_t>{3, 2, 0, 1}));
  RouterShape grouped = shape;
  grouped.groups = 3, grouped.top_groups = 2;
  EXPECT_EQ(route(grouped, logits).experts.values, (std::vector<std::int32_t>{3, 2, 0, 1}));
  grouped.top_k = 2, grouped.top_groups = 1;
  EXPECT_EQ(route(grouped, logits).experts.values, (std::vector<std::int32_t>{3, 2}));
  // One logit that is no number leaves no score of a softmax one.
  EXPECT_EQ(route({.top_k = 3}, logits).experts.values, (std::vector<std::int32_t>{0, 1, 2}));
}

// Logits far enough apart that the steps of finite differences change no choice.
Tensor separated_logits(std::int64_t tokens, std::int64_t experts, unsigned seed) {
  std::mt19937 engine(seed);
  Tensor logits(tokens, experts);
  for (std::int64_t t = 0; t < tokens; ++t) {
    std::vector<float> values;
    for (std::int64_t e = 0; e < experts; ++e) values.push_back(0.35F * static_cast<float>(e) - 1.2F);
    std::shuffle(values.begin(), values.end(), engine);
    for (std::int64_t e = 0; e < experts; ++e) logits.at(t, e) = values[static_cast<std::size_t>(e)];
  }
  return logits;
}

struct GradientCase {
  Scoring scoring;
  bool normalize, grouped, biased;
  int top_k;
};
class RouterGradient : public testing::TestWithParam<GradientCase> {};

TEST_P(RouterGradient, IsExact) {
  const GradientCase& param = GetParam();
  constexpr std::int64_t kTokens = 5, kExperts = 8;
  constexpr double kAux = 0.7, kZ = 0.3;
  RouterShape shape{.scoring = param.scoring, .top_k = param.top_k, .normalize = param.normalize, .scale = 2.5};
  if (param.grouped) shape.groups = 4, shape.top_groups = 2;
  Tensor bias(1, kExperts, {0.3F, -0.2F, 0, 0.1F, -0.3F, 0.2F, 0.05F, -0.1F});
  const View used_bias = param.biased ? View(bias) : View();
  Tensor logits = separated_logits(kTokens, kExperts, 5), gate_gradient = random_tensor(kTokens, param.top_k, 6);
  Routed routed = route(shape, logits, used_bias);
  const std::vector<std::int32_t> chosen = routed.experts.values;
  const auto loss = [&] {
    const Routed now = route(shape, logits, used_bias);
    EXPECT_EQ(now.experts.values, chosen) << "a step of the differences changed the choice";
    return dot(now.gates, gate_gradient) + kAux * now.losses[0] + kZ * now.losses[1];
  };
  Tensor gradient(kTokens, kExperts, 7);
  run(RouterBackward{shape, logits, routed.scores, routed.experts, routed.counts, gate_gradient, gradient, kAux, kZ});
  expect_gradient(logits, gradient, loss, "logits");
}

INSTANTIATE_TEST_SUITE_P(Cases, RouterGradient,
                         testing::Values(GradientCase{Scoring::kSoftmax, true, false, false, 3},
                                         GradientCase{Scoring::kSoftmax, false, false, false, 2},
                                         GradientCase{Scoring::kSoftmax, false, true, false, 3},
                                         GradientCase{Scoring::kSoftmax, true, true, true, 2},
                                         GradientCase{Scoring::kSigmoid, true, false, false, 3},
                                         GradientCase{Scoring::kSigmoid, false, false, true, 2},
                                         GradientCase{Scoring::kSigmoid, true, true, true, 3},
                                         GradientCase{Scoring::kSigmoid, true, false, false, 1}));

}  // namespace
}  // namespace msmoe::kernels
