#include <gtest/gtest.h>

#include "tests/kernels/tensors.h"

namespace msmoe::kernels {
namespace {

Tensor transposed(const Tensor& in) {
  Tensor out(in.columns, in.rows);
  for (std::int64_t r = 0; r < in.rows; ++r)
    for (std::int64_t c = 0; c < in.columns; ++c) out.at(c, r) = in.at(r, c);
  return out;
}

Tensor product(const Tensor& a, const Tensor& b) {
  Tensor c(a.rows, b.columns);
  for (std::int64_t i = 0; i < a.rows; ++i)
    for (std::int64_t j = 0; j < b.columns; ++j) {
      double sum = 0;
      for (std::int64_t k = 0; k < a.columns; ++k) sum += static_cast<double>(a.at(i, k)) * b.at(k, j);
      c.at(i, j) = static_cast<float>(sum);
    }
  return c;
}

TEST(Gemm, AllTransposesWithAndWithoutAccumulation) {
  const Tensor a = random_tensor(5, 7, 1), b = random_tensor(7, 3, 2), before = random_tensor(5, 3, 3);
  const Tensor wanted = product(a, b);
  for (const bool transpose_a : {false, true})
    for (const bool transpose_b : {false, true})
      for (const bool accumulate : {false, true}) {
        Tensor left = transpose_a ? transposed(a) : a, right = transpose_b ? transposed(b) : b, c = before;
        run(Gemm{.a = left,
                 .b = right,
                 .c = c,
                 .transpose_a = transpose_a,
                 .transpose_b = transpose_b,
                 .accumulate = accumulate});
        Tensor sum = wanted;
        for (std::size_t i = 0; accumulate && i < sum.size(); ++i) sum[i] += before[i];
        expect_near(c.values, sum.values, 1e-6);
      }
}

TEST(Gemm, AnEmptySumIsZero) {
  Tensor a(2, 0), b(0, 2), c(2, 2, 9);
  run(Gemm{.a = a, .b = b, .c = c});
  EXPECT_EQ(c.values, std::vector<float>(4, 0));
}

// 4 experts with 2, 0, 3 and 0 rows; the last two of 7 rows belong to none.
struct Grouped {
  static constexpr std::int64_t kIn = 4, kOut = 3, kExperts = 4, kRows = 7;
  Integers offsets{1, kExperts + 1, {0, 2, 2, 5, 5}};
  Tensor rows = random_tensor(kRows, kIn, 11), weights = random_tensor(kExperts * kOut, kIn, 12);
  Tensor out_gradient = random_tensor(kRows, kOut, 13);

  Tensor forward() {
    Tensor out(kRows, kOut, 7);
    run(GroupedGemm{.pass = GroupedPass::kForward, .rows = rows, .weights = weights, .out = out, .offsets = offsets});
    return out;
  }
  double loss() {
    const Tensor out = forward();
    double sum = 0;
    for (std::size_t i = 0; i < 5 * kOut; ++i) sum += static_cast<double>(out[i]) * out_gradient[i];
    return sum;
  }
};

TEST(GroupedGemm, ForwardMultipliesEachRowByItsExpert) {
  Grouped grouped;
  const Tensor out = grouped.forward();
  const std::vector<std::int64_t> expert_of = {0, 0, 2, 2, 2};
  for (std::int64_t r = 0; r < Grouped::kRows; ++r)
    for (std::int64_t o = 0; o < Grouped::kOut; ++o) {
      double wanted = r < 5 ? 0 : 7;
      for (std::int64_t i = 0; r < 5 && i < Grouped::kIn; ++i)
        wanted += static_cast<double>(grouped.rows.at(r, i)) *
                  grouped.weights.at(expert_of[static_cast<std::size_t>(r)] * Grouped::kOut + o, i);
      EXPECT_NEAR(out.at(r, o), wanted, 1e-6) << r << ", " << o;
    }
}

TEST(GroupedGemm, InputGradient) {
  Grouped grouped;
  Tensor gradient(Grouped::kRows, Grouped::kIn, 7);
  run(GroupedGemm{.pass = GroupedPass::kInputGradient,
                  .rows = grouped.out_gradient,
                  .weights = grouped.weights,
                  .out = gradient,
                  .offsets = grouped.offsets});
  for (std::size_t i = 5 * Grouped::kIn; i < gradient.size(); ++i) {
    EXPECT_EQ(gradient[i], 7) << "rows beyond the last are not written";
    gradient[i] = 0;
  }
  expect_gradient(
      grouped.rows, gradient, [&] { return grouped.loss(); }, "rows");
}

TEST(GroupedGemm, WeightGradientOverwritesOrAccumulates) {
  Grouped grouped;
  Tensor gradient(Grouped::kExperts * Grouped::kOut, Grouped::kIn, 7);
  GroupedGemm operation{.pass = GroupedPass::kWeightGradient,
                        .rows = grouped.out_gradient,
                        .weights = grouped.rows,
                        .out = gradient,
                        .offsets = grouped.offsets};
  run(operation);
  expect_gradient(
      grouped.weights, gradient, [&] { return grouped.loss(); }, "weights");
  for (std::size_t i = 0; i < Grouped::kOut * Grouped::kIn; ++i)
    EXPECT_EQ(gradient[Grouped::kOut * Grouped::kIn + i], 0) << "an expert without rows gets zeros";

  Tensor twice = gradient;
  operation.out = twice;
  operation.accumulate = true;
  run(operation);
  for (float& value : gradient.values) value *= 2;
  expect_near(twice.values, gradient.values, 1e-6);
}

}  // namespace
}  // namespace msmoe::kernels
