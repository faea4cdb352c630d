#include <gtest/gtest.h>

#include "tests/kernels/tensors.h"

namespace msmoe::kernels {
namespace {

// 4 query heads on 2 key heads, keys wider than values, sequences of 1, 3, 0 and 2 tokens.
struct Example {
  AttentionShape shape{.heads = 4, .kv_heads = 2, .width = 3, .value_width = 2, .sequence_length = 4, .scale = 0.6};
  Integers starts{1, 5, {0, 1, 4, 4, 6}};
  std::int64_t tokens = 6;
  Tensor query = random_tensor(tokens, 12, 1), key = random_tensor(tokens, 6, 2), value = random_tensor(tokens, 4, 3);
  Tensor out{tokens, 8}, log_sum_exp{4, tokens};

  Attention forward() { return {shape, query, key, value, out, log_sum_exp, starts}; }
};

// The definition, one sum at a time.
void expect_definition(Example& example, const std::vector<std::int64_t>& first_of) {
  const AttentionShape& shape = example.shape;
  for (std::int64_t head = 0; head < shape.heads; ++head)
    for (std::int64_t i = 0; i < example.tokens; ++i) {
      const std::int64_t kv_head = head / (shape.heads / shape.kv_heads);
      double sum = 0;
      std::vector<double> mixed(static_cast<std::size_t>(shape.value_width), 0);
      for (std::int64_t j = first_of[static_cast<std::size_t>(i)]; j <= i; ++j) {
        double score = 0;
        for (std::int64_t d = 0; d < shape.width; ++d)
          score += static_cast<double>(example.query.at(i, head * shape.width + d)) *
                   example.key.at(j, kv_head * shape.width + d);
        const double weight = std::exp(shape.scale * score);
        sum += weight;
        for (std::size_t d = 0; d < mixed.size(); ++d)
          mixed[d] += weight * example.value.at(j, kv_head * shape.value_width + static_cast<std::int64_t>(d));
      }
      EXPECT_NEAR(example.log_sum_exp.at(head, i), std::log(sum), 1e-5);
      for (std::size_t d = 0; d < mixed.size(); ++d)
        EXPECT_NEAR(example.out.at(i, head * shape.value_width + static_cast<std::int64_t>(d)), mixed[d] / sum, 1e-5);
    }
}

TEST(Attention, SequencesOfDifferentLengths) {
  Example example;
  run(example.forward());
  expect_definition(example, {0, 1, 1, 1, 4, 4});
}

TEST(Attention, WithoutStartsSequencesAreEquallyLong) {
  Example example;
  example.shape.sequence_length = 3;
  Attention operation = example.forward();
  operation.starts = {};
  run(operation);
  expect_definition(example, {0, 0, 0, 3, 3, 3});
}

// Scores of some hundreds: without the maximum taken off, exp() would overflow.
TEST(Attention, LargeScoresStayFinite) {
  Example example;
  example.shape.scale = 1000;
  run(example.forward());
  for (const float value : example.out.values) EXPECT_LE(std::fabs(value), 1);
}

TEST(Attention, Gradients) {
  Example example;
  const Tensor out_gradient = random_tensor(example.tokens, 8, 4);
  Tensor upstream = out_gradient;
  Tensor query_gradient(example.tokens, 12, 7), key_gradient(example.tokens, 6, 7),
      value_gradient(example.tokens, 4, 7);
  run(example.forward());
  run(AttentionBackward{example.shape, example.query, example.key, example.value, example.out, example.log_sum_exp,
                        upstream, query_gradient, key_gradient, value_gradient, example.starts});
  const auto loss = [&] {
    run(example.forward());
    return dot(example.out, out_gradient);
  };
  expect_gradient(example.query, query_gradient, loss, "query");
  expect_gradient(example.key, key_gradient, loss, "key");
  expect_gradient(example.value, value_gradient, loss, "value");
}

}  // namespace
}  // namespace msmoe::kernels
