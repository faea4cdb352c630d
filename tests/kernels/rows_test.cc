#include <gtest/gtest.h>

#include "tests/kernels/tensors.h"

namespace msmoe::kernels {
namespace {

using Ints = std::vector<std::int32_t>;

TEST(SortByExpert, ByExpertThenTokenThenChoice) {
  Integers experts(3, 2, {2, 0, 0, 3, 2, 0}), offsets(1, 5), row_of(3, 2), assignment_of(1, 6);
  run(SortByExpert{experts, offsets, row_of, assignment_of});
  EXPECT_EQ(offsets.values, (Ints{0, 3, 3, 5, 6}));
  EXPECT_EQ(assignment_of.values, (Ints{1, 2, 5, 0, 4, 3}));
  EXPECT_EQ(row_of.values, (Ints{3, 0, 1, 5, 4, 2}));
}

// Experts 2 and 3 are here.
TEST(SortByExpert, ExpertsElsewhereAreLeftOut) {
  Integers experts(3, 2, {2, 0, 0, 3, 2, 4}), offsets(1, 3), row_of(3, 2), assignment_of(1, 6);
  run(SortByExpert{experts, offsets, row_of, assignment_of, 2});
  EXPECT_EQ(offsets.values, (Ints{0, 2, 3}));
  EXPECT_EQ(assignment_of.values, (Ints{0, 4, 3, -1, -1, -1}));
  EXPECT_EQ(row_of.values, (Ints{0, -1, -1, 2, 1, -1}));
}

// Two ranks send 2 and 1, and 1 and 2 rows for two experts, into a buffer of 8: they arrive as rank 0: e0 e0 e1,
// rank 1: e0 e1 e1.
TEST(SortArrivals, ByExpertThenRank) {
  Integers counts(2, 2, {2, 1, 1, 2}), offsets(1, 3), source_of(1, 8), arrives_at(1, 8);
  run(SortArrivals{counts, offsets, source_of, arrives_at});
  EXPECT_EQ(offsets.values, (Ints{0, 3, 6}));
  EXPECT_EQ(source_of.values, (Ints{0, 1, 3, 2, 4, 5, -1, -1}));
  EXPECT_EQ(arrives_at.values, (Ints{0, 1, 3, 2, 4, 5, -1, -1}));
}

TEST(SortArrivals, TheSecondMapIsTheInverse) {
  Integers counts(3, 3, {1, 0, 2, 0, 3, 1, 2, 0, 1}), offsets(1, 4), source_of(1, 10), arrives_at(1, 10);
  run(SortArrivals{counts, offsets, source_of, arrives_at});
  EXPECT_EQ(offsets.values, (Ints{0, 3, 6, 10}));
  EXPECT_EQ(source_of.values, (Ints{0, 7, 8, 3, 4, 5, 1, 2, 6, 9}));
  for (std::int32_t r = 0; r < 10; ++r)
    EXPECT_EQ(arrives_at[static_cast<std::size_t>(source_of[static_cast<std::size_t>(r)])], r);
}

TEST(GatherRows, RepeatsWeighsAndFills) {
  Tensor in(2, 2, {1, 2, 3, 4}), weights(1, 4, {1, 10, 100, 1000}), out(4, 2, 9);
  Integers source_of(1, 4, {3, 0, -1, 1});
  run(GatherRows{.in = in, .source_of = source_of, .weights = weights, .out = out, .fan_out = 2});
  EXPECT_EQ(out.values, (std::vector<float>{3000, 4000, 1, 2, 0, 0, 10, 20}));
  run(GatherRows{.in = in, .source_of = source_of, .out = out, .fan_out = 2});
  EXPECT_EQ(out.values, (std::vector<float>{3, 4, 1, 2, 0, 0, 1, 2}));
}

TEST(CombineRows, AddsInOrderOfChoices) {
  Tensor in(3, 1, {1e8F, 1, -1e8F}), out(2, 1, 9), weights(2, 3, {1, 1, 1, 2, 2, 2});
  Integers row_of(2, 3, {0, 2, 1, 1, -1, 1});
  run(CombineRows{.in = in, .row_of = row_of, .out = out});
  EXPECT_EQ(out.values, (std::vector<float>{1, 2}));
  Integers other_order(2, 3, {0, 1, 2, -1, -1, -1});
  run(CombineRows{.in = in, .row_of = other_order, .weights = weights, .out = out});
  EXPECT_EQ(out.values, (std::vector<float>{0, 0})) << "1e8 + 1 is 1e8 in fp32";
}

// 4 tokens with 2 choices on 4 experts, of which this rank has the first 3.
struct Sorted {
  Integers experts{4, 2, {1, 0, 3, 2, 0, 2, 1, 3}}, offsets{1, 4}, row_of{4, 2}, assignment_of{1, 8};
  Sorted() { run(SortByExpert{experts, offsets, row_of, assignment_of}); }
};

TEST(GatherRows, CombineIsTheGradient) {
  Sorted sorted;
  Tensor in = random_tensor(4, 3, 1), out(8, 3), out_gradient = random_tensor(8, 3, 2), gradient(4, 3, 9);
  run(CombineRows{.in = out_gradient, .row_of = sorted.row_of, .out = gradient});
  const auto loss = [&] {
    run(GatherRows{.in = in, .source_of = sorted.assignment_of, .out = out, .fan_out = 2});
    return dot(out, out_gradient);
  };
  expect_gradient(in, gradient, loss, "in");
}

TEST(CombineRows, GatherAndTheWeightGradientAreTheGradients) {
  Sorted sorted;
  Tensor in = random_tensor(8, 3, 1), weights = random_tensor(4, 2, 2), out(4, 3);
  Tensor out_gradient = random_tensor(4, 3, 3), gradient(8, 3, 9), weight_gradient(4, 2, 9);
  run(GatherRows{.in = out_gradient,
                 .source_of = sorted.assignment_of,
                 .weights = weights.as(1, 8),
                 .out = gradient,
                 .fan_out = 2});
  run(CombineWeightGradient{in, sorted.row_of, out_gradient, weight_gradient});
  const auto loss = [&] {
    run(CombineRows{in, sorted.row_of, weights, out});
    return dot(out, out_gradient);
  };
  expect_gradient(in, gradient, loss, "in");
  expect_gradient(weights, weight_gradient, loss, "weights");
}

TEST(GatherScalars, BringsScalarsBack) {
  Tensor in(1, 3, {5, 6, 7}), out(2, 2, 9);
  Integers row_of(2, 2, {2, -1, 0, 1});
  run(GatherScalars{in, row_of, out});
  EXPECT_EQ(out.values, (std::vector<float>{7, 0, 5, 6}));
}

}  // namespace
}  // namespace msmoe::kernels
