#include <gtest/gtest.h>

#include "tests/kernels/tensors.h"

namespace msmoe::kernels {
namespace {

constexpr std::int64_t kTokens = 4, kWidth = 6;

TEST(RmsNorm, DividesByTheRootOfTheMeanSquare) {
  Tensor input(1, 2, {3, 4}), weight(1, 2, {2, 10}), out(1, 2), inverse_rms(1, 1);
  run(RmsNorm{.input = input, .weight = weight, .out = out, .inverse_rms = inverse_rms, .epsilon = 0});
  const double rms = std::sqrt(12.5);
  expect_near(out.values, {static_cast<float>(6 / rms), static_cast<float>(40 / rms)}, 1e-6);
  EXPECT_NEAR(inverse_rms[0], 1 / rms, 1e-7);
}

// The loss reads both results, as the block after a norm and the way round it do.
TEST(RmsNorm, GradientsWithResidual) {
  Tensor input = random_tensor(kTokens, kWidth, 1), residual = random_tensor(kTokens, kWidth, 2);
  Tensor weight = random_tensor(1, kWidth, 3), out(kTokens, kWidth), sum(kTokens, kWidth), inverse_rms(1, kTokens);
  Tensor out_gradient = random_tensor(kTokens, kWidth, 4), sum_gradient = random_tensor(kTokens, kWidth, 5);
  const auto loss = [&] {
    run(RmsNorm{input, residual, weight, out, sum, inverse_rms, 1e-2});
    return dot(out, out_gradient) + dot(sum, sum_gradient);
  };
  loss();
  const Tensor before = random_tensor(1, kWidth, 6);
  Tensor input_gradient(kTokens, kWidth, 7), weight_gradient = before;
  run(RmsNormBackward{sum, weight, inverse_rms, out_gradient, sum_gradient, input_gradient, weight_gradient});
  for (std::size_t i = 0; i < weight_gradient.size(); ++i) weight_gradient[i] -= before[i];
  expect_gradient(input, input_gradient, loss, "input");
  expect_gradient(residual, input_gradient, loss, "residual");
  expect_gradient(weight, weight_gradient, loss, "weight");
}

TEST(RmsNorm, GradientsWithoutResidual) {
  Tensor input = random_tensor(kTokens, kWidth, 1), weight = random_tensor(1, kWidth, 3), out(kTokens, kWidth);
  Tensor inverse_rms(1, kTokens), out_gradient = random_tensor(kTokens, kWidth, 4);
  const auto loss = [&] {
    run(RmsNorm{.input = input, .weight = weight, .out = out, .inverse_rms = inverse_rms});
    return dot(out, out_gradient);
  };
  loss();
  Tensor input_gradient(kTokens, kWidth, 7), weight_gradient(1, kWidth);
  run(RmsNormBackward{.input = input,
                      .weight = weight,
                      .inverse_rms = inverse_rms,
                      .out_gradient = out_gradient,
                      .input_gradient = input_gradient,
                      .weight_gradient = weight_gradient});
  expect_gradient(input, input_gradient, loss, "input", 5e-4);
  expect_gradient(weight, weight_gradient, loss, "weight");
}

// Two heads of 6 columns, of which the last 4 turn: pairs (2, 4) and (3, 5), by position and position / base^(1/2).
TEST(Rope, TurnsPairsOfTheLastColumns) {
  Tensor vectors = random_tensor(2, 12, 1);
  const Tensor before = vectors;
  Integers positions(1, 2, {0, 3});
  run(Rope{.vectors = vectors, .positions = positions, .width = 6, .rotated = 4, .base = 100});
  for (std::int64_t c = 0; c < 12; ++c) EXPECT_EQ(vectors.at(0, c), before.at(0, c)) << "position 0 turns nothing";
  for (const std::int64_t head : {0, 6}) {
    for (const std::int64_t c : {0, 1}) EXPECT_EQ(vectors.at(1, head + c), before.at(1, head + c));
    for (const std::int64_t pair : {0, 1}) {
      const double angle = pair == 0 ? 3 : 0.3;
      const double x = before.at(1, head + 2 + pair), y = before.at(1, head + 4 + pair);
      EXPECT_NEAR(vectors.at(1, head + 2 + pair), x * std::cos(angle) - y * std::sin(angle), 1e-6);
      EXPECT_NEAR(vectors.at(1, head + 4 + pair), y * std::cos(angle) + x * std::sin(angle), 1e-6);
    }
  }
}

TEST(Rope, OutIsWhatInPlaceGives) {
  Tensor vectors = random_tensor(3, 12, 1), in_place = vectors, out(3, 12, 7);
  const Tensor before = vectors;
  Integers positions(1, 3, {0, 5, 1000});
  for (const std::int64_t rotated : {0, 4, 6}) {
    in_place = before;
    run(Rope{.vectors = in_place, .positions = positions, .width = 6, .rotated = rotated});
    run(Rope{.vectors = vectors, .positions = positions, .out = out, .width = 6, .rotated = rotated});
    EXPECT_EQ(out.values, in_place.values) << rotated;
    EXPECT_EQ(vectors.values, before.values) << rotated;
  }
}

TEST(Rope, BackwardIsTheGradient) {
  Tensor vectors = random_tensor(3, 12, 1), gradient = random_tensor(3, 12, 2);
  const Tensor out_gradient = gradient;
  Integers positions(1, 3, {0, 5, 1000});
  Rope operation{.positions = positions, .width = 6, .rotated = 4};
  const auto loss = [&] {
    Tensor rotated = vectors;
    operation.vectors = rotated;
    run(operation);
    return dot(rotated, out_gradient);
  };
  Rope backward = operation;
  backward.vectors = gradient;
  backward.backward = true;
  run(backward);
  expect_gradient(vectors, gradient, loss, "vectors");
}

TEST(SwiGlu, GradientsWithGateWeights) {
  Tensor gate_up = random_tensor(kTokens, 2 * kWidth, 1), gate_weights = random_tensor(1, kTokens, 2);
  Tensor out(kTokens, kWidth), out_gradient = random_tensor(kTokens, kWidth, 3);
  const auto loss = [&] {
    run(SwiGlu{gate_up, gate_weights, out});
    return dot(out, out_gradient);
  };
  loss();
  Tensor gate_up_gradient(kTokens, 2 * kWidth, 7), weight_gradient(1, kTokens, 7), again(kTokens, kWidth, 7);
  run(SwiGluBackward{gate_up, gate_weights, out_gradient, gate_up_gradient, weight_gradient, again});
  EXPECT_EQ(again.values, out.values);
  expect_gradient(gate_up, gate_up_gradient, loss, "gate_up");
  expect_gradient(gate_weights, weight_gradient, loss, "gate_weights");
}

TEST(SwiGlu, GradientsWithoutGateWeights) {
  Tensor gate_up = random_tensor(kTokens, 2 * kWidth, 1), out(kTokens, kWidth);
  Tensor out_gradient = random_tensor(kTokens, kWidth, 3), gate_up_gradient(kTokens, 2 * kWidth, 7);
  const auto loss = [&] {
    run(SwiGlu{.gate_up = gate_up, .out = out});
    return dot(out, out_gradient);
  };
  run(SwiGluBackward{.gate_up = gate_up, .out_gradient = out_gradient, .gate_up_gradient = gate_up_gradient});
  expect_gradient(gate_up, gate_up_gradient, loss, "gate_up");
}

TEST(SwiGlu, ExtremeGatesStayFinite) {
  Tensor gate_up(1, 4, {-1000, 1000, 2, 2}), out(1, 2), gradient(1, 2, 1), gate_up_gradient(1, 4);
  run(SwiGlu{.gate_up = gate_up, .out = out});
  EXPECT_EQ(out.values, (std::vector<float>{0, 2000}));
  run(SwiGluBackward{.gate_up = gate_up, .out_gradient = gradient, .gate_up_gradient = gate_up_gradient});
  EXPECT_EQ(gate_up_gradient.values, (std::vector<float>{0, 2, 0, 1000}));
}

TEST(Add, MayOverwriteAnOperand) {
  Tensor a(1, 3, {1, 2, 3}), b(1, 3, {10, 20, 30});
  run(Add{a, b, a});
  EXPECT_EQ(a.values, (std::vector<float>{11, 22, 33}));
}

// The shard holds the ids 10, 11 and 12.
TEST(Embedding, OtherShardsGiveZerosAndTakeNothing) {
  Tensor table(3, 2, {1, 2, 3, 4, 5, 6}), out(4, 2, 9);
  Integers ids(1, 4, {12, 9, 10, 13});
  run(Embedding{.table = table, .ids = ids, .out = out, .first_id = 10});
  EXPECT_EQ(out.values, (std::vector<float>{5, 6, 0, 0, 1, 2, 0, 0}));
}

TEST(Embedding, GradientsOfEqualIdsAddUp) {
  Tensor gradient(3, 2, {1, 2, 3, 4, 5, 6}), table_gradient(3, 2, 100);
  Integers ids(1, 3, {11, 20, 11});
  run(EmbeddingBackward{.out_gradient = gradient, .ids = ids, .table_gradient = table_gradient, .first_id = 10});
  EXPECT_EQ(table_gradient.values, (std::vector<float>{100, 100, 106, 108, 100, 100}));
}

}  // namespace
}  // namespace msmoe::kernels
