#include <gtest/gtest.h>

#include "tests/kernels/tensors.h"

namespace msmoe::kernels {
namespace {

// One token at position 2 and two heads: parts without position of 1 column, turned parts of 2, values of 2. The pair
// (0, 1) turns by 2 * base^0.
TEST(LatentHeads, PutsHeadsTogether) {
  Tensor queries(1, 6, {1, 2, 3, 4, 5, 6}), expanded(1, 6, {10, 11, 12, 20, 21, 22}), rotary(1, 2, {7, 8});
  Tensor query(1, 6, 9), key(1, 6, 9), value(1, 4, 9);
  Integers positions(1, 1, {2});
  run(LatentHeads{queries, expanded, rotary, positions, query, key, value, 2});
  const float c = std::cos(2.0F), s = std::sin(2.0F);
  const float shared = 7 * c - 8 * s, other = 8 * c + 7 * s;
  expect_near(query.values, {1, 2 * c - 3 * s, 3 * c + 2 * s, 4, 5 * c - 6 * s, 6 * c + 5 * s}, 1e-6, "query");
  expect_near(key.values, {10, shared, other, 20, shared, other}, 1e-6, "key");
  EXPECT_EQ(value.values, (std::vector<float>{11, 12, 21, 22}));
}

// 3 heads of 2 + 4 columns and values of 3.
struct Example {
  static constexpr std::int64_t kTokens = 4, kHeads = 3, kTogether = kHeads * 6, kExpanded = kHeads * 5;
  Tensor queries = random_tensor(kTokens, kTogether, 1), expanded = random_tensor(kTokens, kExpanded, 2),
         rotary = random_tensor(kTokens, 4, 3);
  Tensor query_out{kTokens, kTogether, 7}, key{kTokens, kTogether, 7}, value{kTokens, kHeads * 3, 7};
  Integers positions{1, kTokens, {0, 1, 77, 1000}};

  LatentHeads forward() { return {queries, expanded, rotary, positions, query_out, key, value, kHeads, 100}; }
};

TEST(LatentHeads, TurnsAsRope) {
  Example example;
  run(example.forward());
  Tensor turned = example.queries;
  run(Rope{.vectors = turned, .positions = example.positions, .width = 6, .rotated = 4, .base = 100});
  EXPECT_EQ(example.query_out.values, turned.values);
  turned = example.rotary;
  run(Rope{.vectors = turned, .positions = example.positions, .width = 4, .rotated = 4, .base = 100});
  for (std::int64_t token = 0; token < Example::kTokens; ++token)
    for (std::int64_t head = 0; head < Example::kHeads; ++head)
      for (std::int64_t c = 0; c < 4; ++c)
        EXPECT_EQ(example.key.at(token, head * 6 + 2 + c), turned.at(token, c)) << token << ", " << head << ", " << c;
}

TEST(LatentHeads, Gradients) {
  Example example;
  const Tensor query_weight = random_tensor(Example::kTokens, Example::kTogether, 4),
               key_weight = random_tensor(Example::kTokens, Example::kTogether, 5),
               value_weight = random_tensor(Example::kTokens, Example::kHeads * 3, 6);
  const auto loss = [&] {
    run(example.forward());
    return dot(example.query_out, query_weight) + dot(example.key, key_weight) + dot(example.value, value_weight);
  };
  Tensor query_gradient = query_weight, key_gradient = key_weight, value_gradient = value_weight;
  Tensor queries(Example::kTokens, Example::kTogether, 7), expanded(Example::kTokens, Example::kExpanded, 7),
      rotary(Example::kTokens, 4, 7);
  run(LatentHeadsBackward{query_gradient, key_gradient, value_gradient, example.positions, queries, expanded, rotary,
                          Example::kHeads, 100});
  expect_gradient(example.queries, queries, loss, "queries");
  expect_gradient(example.expanded, expanded, loss, "expanded");
  expect_gradient(example.rotary, rotary, loss, "rotary");
}

TEST(LatentHeads, QueriesInPlace) {
  Example example;
  run(example.forward());
  LatentHeads operation = example.forward();
  operation.query_out = example.queries;
  run(operation);
  EXPECT_EQ(example.queries.values, example.query_out.values);

  Tensor gradient = random_tensor(Example::kTokens, Example::kTogether, 4), key = gradient, out = gradient;
  Tensor expanded(Example::kTokens, Example::kExpanded), rotary(Example::kTokens, 4);
  LatentHeadsBackward backward{gradient,        key, example.value, example.positions, out, expanded, rotary,
                               Example::kHeads, 100};
  run(backward);
  backward.queries_gradient = gradient;
  run(backward);
  EXPECT_EQ(gradient.values, out.values);
}

}  // namespace
}  // namespace msmoe::kernels
