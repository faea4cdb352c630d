#include <gtest/gtest.h>

#include "kernels/cpu/number_formats.h"
#include "tests/kernels/tensors.h"

namespace msmoe::kernels {
namespace {

using cpu::from_bf16;
using cpu::to_bf16;

// Ten steps of two tensors, one with decay and a bf16 parameter, against the formula in double.
TEST(AdamW, FollowsTheFormula) {
  constexpr std::size_t kSize = 6;
  constexpr double kRate = 1e-2, kBeta1 = 0.9, kBeta2 = 0.95, kEpsilon = 1e-8, kScale = 0.5;
  Tensor scale(1, 1, {static_cast<float>(kScale)}), first[2] = {{2, 3}, {2, 3}}, second[2] = {{2, 3}, {2, 3}};
  Tensor masters[2] = {random_tensor(2, 3, 1), random_tensor(2, 3, 2)}, wide(2, 3);
  Bf16 narrow(2, 3);
  const double decays[2] = {0.1, 0};
  struct State {
    double master, m = 0, v = 0;
  };
  std::vector<State> wanted;
  for (const Tensor& tensor : masters)
    for (const float master : tensor.values) wanted.push_back({master});

  for (int step = 1; step <= 10; ++step) {
    const auto seed = static_cast<unsigned>(step);
    Tensor gradients[2] = {random_tensor(2, 3, 10 + seed), random_tensor(2, 3, 30 + seed)};
    AdamW operation{.gradient_scale = scale, .rate = kRate, .beta1 = kBeta1, .beta2 = kBeta2, .epsilon = kEpsilon};
    operation.step = step;
    operation.tensors = {{narrow, gradients[0], masters[0], first[0], second[0], decays[0]},
                         {wide, gradients[1], masters[1], first[1], second[1], decays[1]}};
    run(operation);
    for (std::size_t i = 0; i < 2 * kSize; ++i) {
      State& state = wanted[i];
      const double gradient = gradients[i / kSize][i % kSize] * kScale;
      state.m = kBeta1 * state.m + (1 - kBeta1) * gradient;
      state.v = kBeta2 * state.v + (1 - kBeta2) * gradient * gradient;
      const double m = state.m / (1 - std::pow(kBeta1, step)), v = state.v / (1 - std::pow(kBeta2, step));
      state.master -= kRate * (m / (std::sqrt(v) + kEpsilon) + decays[i / kSize] * state.master);
      EXPECT_NEAR(masters[i / kSize][i % kSize], state.master, 1e-6) << "step " << step;
      EXPECT_NEAR(first[i / kSize][i % kSize], state.m, 1e-6);
      EXPECT_NEAR(second[i / kSize][i % kSize], state.v, 1e-6);
    }
  }
  EXPECT_EQ(wide.values, masters[1].values);
  for (std::size_t i = 0; i < kSize; ++i) EXPECT_EQ(narrow[i], to_bf16(masters[0][i]));
}

TEST(AdamW, WithoutAScaleGradientsCountWhole) {
  Tensor master(1, 1, 1), gradient(1, 1, -3), first(1, 1), second(1, 1), parameter(1, 1);
  run(AdamW{.tensors = {{parameter, gradient, master, first, second}}, .rate = 0.25});
  EXPECT_NEAR(master[0], 1.25, 1e-6) << "the first step is the rate, with the sign";
  EXPECT_NEAR(first[0], -0.3, 1e-6);
}

TEST(SquaredNorm, OverAllTensors) {
  Tensor a(1, 2, {3, 4}), b(2, 1, {1, 2}), none(0, 5), sum(1, 1, 9);
  run(SquaredNorm{{a, none, b}, sum});
  EXPECT_EQ(sum[0], 30);
  run(SquaredNorm{{}, sum});
  EXPECT_EQ(sum[0], 0);
}

TEST(ClipScale, ShrinksWhatIsTooLong) {
  Tensor squared(1, 1, 16), scale(1, 1);
  run(ClipScale{squared, scale, 1});
  EXPECT_NEAR(scale[0], 1 / (4 + 1e-6), 1e-7);
  run(ClipScale{squared, scale, 5});
  EXPECT_EQ(scale[0], 1);
  squared[0] = 0;
  run(ClipScale{squared, scale, 1});
  EXPECT_EQ(scale[0], 1);
}

// 2^24 + 1 is 2^24 in fp32, so the two columns, with the same parts in other orders, differ.
TEST(SumChunks, AddsInOrder) {
  const std::uint16_t large = to_bf16(0x1p24F), minus = to_bf16(-0x1p24F), one = to_bf16(1);
  Bf16 chunks(3, 2, {large, large, one, minus, minus, one}), narrow(1, 2);
  Tensor out(1, 2, 10);
  run(SumChunks{.chunks = chunks, .out = out});
  EXPECT_EQ(out.values, (std::vector<float>{0, 1}));
  run(SumChunks{.chunks = chunks, .out = narrow});
  EXPECT_EQ(from_bf16(narrow[1]), 1);
  out.values = {10, 10};
  run(SumChunks{.chunks = chunks, .out = out, .accumulate = true});
  EXPECT_EQ(out.values, (std::vector<float>{10, 11}));
}

// In bf16, 256 + 1 + 1 would stay 256.
TEST(SumChunks, SumsAreFp32) {
  Bf16 chunks(6, 1, {to_bf16(256), to_bf16(3), to_bf16(1), to_bf16(4), to_bf16(1), to_bf16(5)}), narrow(2, 1);
  run(SumChunks{.chunks = chunks, .out = narrow});
  EXPECT_EQ(from_bf16(narrow[0]), 258);
  EXPECT_EQ(from_bf16(narrow[1]), 12);
}

TEST(Zero, OfEveryType) {
  Tensor wide(1, 3, 1);
  Bf16 narrow(1, 3, 1);
  E4m3 codes(1, 3, 1);
  Integers integers(1, 3, 1);
  for (const View view : {View(wide), View(narrow), View(codes), View(integers)}) run(Zero{view});
  EXPECT_EQ(wide.values, std::vector<float>(3));
  EXPECT_EQ(narrow.values, std::vector<std::uint16_t>(3));
  EXPECT_EQ(codes.values, std::vector<std::uint8_t>(3));
  EXPECT_EQ(integers.values, std::vector<std::int32_t>(3));
}

}  // namespace
}  // namespace msmoe::kernels
