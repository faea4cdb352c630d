#include "executor/data/synthetic_tokens.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <vector>

namespace msmoe::executor {
namespace {

using Tokens = std::vector<std::int32_t>;

Tokens tokens_of(std::uint64_t seed, std::int64_t vocabulary_size, std::int64_t first, std::size_t num_tokens) {
  Tokens tokens(num_tokens, -1);
  SyntheticTokens(seed, vocabulary_size).copy(first, tokens);
  return tokens;
}

// Computed from synthetic_tokens.h by another program, where a is the low and b the high half of draw_key({seed, p}).
TEST(SyntheticTokens, AreTheSameOnEveryMachine) {
  EXPECT_EQ(tokens_of(3, 50'257, 0, 8), (Tokens{15338, 19281, 9056, 13380, 29419, 12784, 24193, 14173}));
}

TEST(SyntheticTokens, DependOnSeedAndPositionOnly) {
  const Tokens whole = tokens_of(1, 1000, 0, 100);
  for (std::int64_t first = 0; first < 100; ++first)
    EXPECT_EQ(tokens_of(1, 1000, first, 1), Tokens{whole[static_cast<std::size_t>(first)]});
  EXPECT_NE(tokens_of(2, 1000, 0, 100), whole);
  EXPECT_NE(tokens_of(1, 1000, 100, 100), whole);
}

TEST(SyntheticTokens, StayInsideAnyVocabulary) {
  for (const std::int64_t vocabulary_size : {std::int64_t{1}, std::int64_t{2}, std::int64_t{3}, std::int64_t{1} << 31})
    for (const std::int64_t first : {std::int64_t{0}, SyntheticTokens::kTokens - 1000})
      for (const std::int32_t token : tokens_of(7, vocabulary_size, first, 1000)) {
        ASSERT_GE(token, 0);
        ASSERT_LT(token, vocabulary_size);
      }
}

// For a vocabulary of 256, from P(t) = 1 / V * sum of 1 / n for n = t + 1 .. V: the observed entropy of a million
// tokens is that of the distribution, and that is near ln V - 0.4228.
TEST(SyntheticTokens, HaveTheEntropyThatIsPromised) {
  constexpr int kVocabulary = 256, kTokens = 1'000'000;
  std::vector<double> counts(kVocabulary);
  for (const std::int32_t token : tokens_of(0, kVocabulary, 0, kTokens)) ++counts[static_cast<std::size_t>(token)];
  double observed = 0, expected = 0, probability = 0;
  for (int token = kVocabulary - 1; token >= 0; --token) {
    probability += 1.0 / (token + 1) / kVocabulary;
    const double share = counts[static_cast<std::size_t>(token)] / kTokens;
    EXPECT_NEAR(share, probability, 6 * std::sqrt(probability / kTokens)) << token;
    if (share > 0) observed -= share * std::log(share);
    expected -= probability * std::log(probability);
  }
  EXPECT_NEAR(observed, expected, 2e-3);
  EXPECT_NEAR(expected, std::log(kVocabulary) - 0.4228, 2e-2);
}

}  // namespace
}  // namespace msmoe::executor
