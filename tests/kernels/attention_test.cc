#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "tests/kernels/tensors.h"

namespace msmoe::kernels {
namespace {

// 4 query heads on 2 key heads, keys wider than values, sequences of 1, 3, 0 and 2 tokens.
struct Example {
  AttentionShape shape{.heads = 4, .kv_heads = 2, .width = 3, .value_width = 2, .sequence_length = 4, .scale = 0.6};
  Integers starts{1, 5, {0, 1, 4, 4, 6}};
  std::int64_t tokens = 6, keys = tokens;
  Tensor query = random_tensor(tokens, shape.heads*shape.width, 1),
         key = random_tensor(keys, shape.kv_heads*shape.width, 2),
         value = random_tensor(keys, shape.kv_heads*shape.value_width, 3);
  Tensor out{tokens, shape.heads*shape.value_width}, log_sum_exp{shape.heads, tokens};
  View key_ranges = {};

  Attention forward() { return {shape, query, key, value, out, log_sum_exp, starts, key_ranges}; }
};

// Five keys for two sequences of two queries: [1, 3) and [0, 4), so that keys 1 and 2 are in both, and key 4 in none.
struct RangesExample {
  Integers ranges{2, 2, {1, 0, 3, 4}};
  Example of{.starts = {1, 3, {0, 2, 4}}, .tokens = 4, .keys = 5, .key_ranges = ranges};
};

// The definition, one sum at a time. Query i sees the keys [first_of[i], end_of[i]).
void expect_definition(Example& example, const std::vector<std::int64_t>& first_of,
                       const std::vector<std::int64_t>& end_of) {
  const AttentionShape& shape = example.shape;
  for (std::int64_t head = 0; head < shape.heads; ++head)
    for (std::int64_t i = 0; i < example.tokens; ++i) {
      const std::int64_t kv_head = head / (shape.heads / shape.kv_heads);
      double sum = 0;
      std::vector<double> mixed(static_cast<std::size_t>(shape.value_width), 0);
      for (std::int64_t j = first_of[static_cast<std::size_t>(i)]; j < end_of[static_cast<std::size_t>(i)]; ++j) {
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
  expect_definition(example, {0, 1, 1, 1, 4, 4}, {1, 2, 3, 4, 5, 6});
}

TEST(Attention, WithoutStartsSequencesAreEquallyLong) {
  Example example;
  example.shape.sequence_length = 3;
  Attention operation = example.forward();
  operation.starts = {};
  run(operation);
  expect_definition(example, {0, 0, 0, 3, 3, 3}, {1, 2, 3, 4, 5, 6});
}

// Scores of some hundreds: without the maximum taken off, exp() would overflow.
TEST(Attention, LargeScoresStayFinite) {
  Example example;
  example.shape.scale = 1000;
  run(example.forward());
  for (const float value : example.out.values) EXPECT_LE(std::fabs(value), 1);
}

// Long enough to be taken in several parts, the second sequence's last one a single query.
TEST(Attention, LongSequences) {
  Example example{.starts = {1, 3, {0, 70, 263}}, .tokens = 263};
  example.shape.sequence_length = 193;
  run(example.forward());
  std::vector<std::int64_t> first_of(263, 0), end_of(263);
  std::fill(first_of.begin() + 70, first_of.end(), 70);
  std::iota(end_of.begin(), end_of.end(), 1);
  expect_definition(example, first_of, end_of);
}

// Were a number that is none lost on the way, nobody would see that a run has diverged.
TEST(Attention, NotANumberStaysOne) {
  Example example;
  example.query[0] = std::nanf("");
  run(example.forward());
  EXPECT_TRUE(std::isnan(example.out[0]));
  EXPECT_FALSE(std::isnan(example.out.at(1, 0)));
}

TEST(Attention, RangesOfKeys) {
  RangesExample example;
  run(example.of.forward());
  expect_definition(example.of, {1, 1, 0, 0}, {2, 3, 3, 4});
}

void expect_gradients(Example& example) {
  const Tensor out_gradient = random_tensor(example.tokens, example.out.columns, 4);
  Tensor upstream = out_gradient;
  Tensor query_gradient(example.tokens, example.query.columns, 7), key_gradient(example.keys, example.key.columns, 7),
      value_gradient(example.keys, example.value.columns, 7);
  run(example.forward());
  run(AttentionBackward{example.shape, example.query, example.key, example.value, example.out, example.log_sum_exp,
                        upstream, query_gradient, key_gradient, value_gradient, example.starts, example.key_ranges});
  const auto loss = [&] {
    run(example.forward());
    return dot(example.out, out_gradient);
  };
  expect_gradient(example.query, query_gradient, loss, "query");
  expect_gradient(example.key, key_gradient, loss, "key");
  expect_gradient(example.value, value_gradient, loss, "value");
}

TEST(Attention, Gradients) {
  Example example;
  expect_gradients(example);
}

TEST(Attention, GradientsOfALongSequence) {
  Example example{.shape = {.heads = 1, .kv_heads = 1, .width = 1, .value_width = 1, .sequence_length = 67},
                  .starts = {1, 2, {0, 67}},
                  .tokens = 67};
  expect_gradients(example);
}

TEST(Attention, GradientsOfRangesOfKeys) {
  RangesExample example;
  expect_gradients(example.of);
}

// What a matrix holds in some of its rows, in the order given.
Tensor rows_of(const Tensor& matrix, const std::vector<std::int64_t>& rows) {
  Tensor picked(static_cast<std::int64_t>(rows.size()), matrix.columns);
  for (std::size_t r = 0; r < rows.size(); ++r)
    for (std::int64_t c = 0; c < matrix.columns; ++c)
      picked.at(static_cast<std::int64_t>(r), c) = matrix.at(rows[r], c);
  return picked;
}

// One sequence cut into four chunks, of which rank 0 has the queries of the first and the last, rank 1 of the others.
// Each has the keys of all. The gradients of keys and values add up over the ranks.
TEST(Attention, RangesOfKeysAreThoseOfContextParallelism) {
  constexpr std::int32_t kChunk = 70, kTokens = 4 * kChunk;
  const auto example_of = [](std::int64_t sequence, std::vector<std::int32_t> starts, std::int64_t tokens) {
    Example example{.starts = {1, static_cast<std::int64_t>(starts.size()), starts}, .tokens = tokens, .keys = kTokens};
    example.shape.sequence_length = sequence;
    return example;
  };
  const auto backward = [](Example& example, Tensor& upstream, Tensor& query, Tensor& key, Tensor& value) {
    run(example.forward());
    run(AttentionBackward{example.shape, example.query, example.key, example.value, example.out, example.log_sum_exp,
                          upstream, query, key, value, example.starts, example.key_ranges});
  };
  Example whole = example_of(kTokens, {0, kTokens}, kTokens);
  Tensor upstream = random_tensor(kTokens, 8, 4), query(kTokens, 12), key(kTokens, 6), value(kTokens, 4);
  backward(whole, upstream, query, key, value);

  Tensor key_sum(kTokens, 6), value_sum(kTokens, 4);
  for (const std::int32_t rank : {0, 1}) {
    const std::int32_t early = rank, late = 3 - rank;
    std::vector<std::int64_t> tokens(2 * kChunk);
    std::iota(tokens.begin(), tokens.begin() + kChunk, early * kChunk);
    std::iota(tokens.begin() + kChunk, tokens.end(), late * kChunk);
    Example part = example_of(kChunk, {0, kChunk, 2 * kChunk}, 2 * kChunk);
    Integers ranges(2, 2, {0, 0, (early + 1) * kChunk, (late + 1) * kChunk});
    part.key_ranges = ranges;
    part.query = rows_of(whole.query, tokens);
    Tensor part_upstream = rows_of(upstream, tokens), part_query(2 * kChunk, 12), part_key(kTokens, 6, 7),
           part_value(kTokens, 4, 7);
    backward(part, part_upstream, part_query, part_key, part_value);
    expect_near(part.out.values, rows_of(whole.out, tokens).values, 1e-6, "out");
    expect_near(part_query.values, rows_of(query, tokens).values, 1e-6, "query");
    for (std::size_t i = 0; i < key.size(); ++i) key_sum[i] += part_key[i];
    for (std::size_t i = 0; i < value.size(); ++i) value_sum[i] += part_value[i];
  }
  expect_near(key_sum.values, key.values, 1e-5, "key");
  expect_near(value_sum.values, value.values, 1e-5, "value");
}

}  // namespace
}  // namespace msmoe::kernels
