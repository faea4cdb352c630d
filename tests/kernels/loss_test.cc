#include <gtest/gtest.h>

#include <algorithm>

#include "tests/kernels/tensors.h"

namespace msmoe::kernels {
namespace {

constexpr std::int64_t kTokens = 5, kVocabulary = 8;

struct Results {
  Tensor maximum{1, kTokens}, exp_sum{1, kTokens}, target_logit{1, kTokens};
};

Results forward(Tensor& logits, Integers& targets, std::int64_t first_id = 0) {
  Results results;
  run(CrossEntropy{logits, targets, results.maximum, results.exp_sum, results.target_logit, first_id});
  return results;
}

Integers some_targets() { return {1, kTokens, {0, 7, 3, 4, -1}}; }

double loss_of(const Results& results, const Integers& targets) {
  double loss = 0;
  for (std::size_t t = 0; t < kTokens; ++t)
    if (targets[t] >= 0)
      loss += std::log(static_cast<double>(results.exp_sum[t])) + results.maximum[t] - results.target_logit[t];
  return loss;
}

TEST(CrossEntropy, GradientIsExact) {
  Tensor logits = random_tensor(kTokens, kVocabulary, 1);
  Integers targets = some_targets();
  Results results = forward(logits, targets);
  Tensor gradient = logits;
  run(CrossEntropyBackward{targets, results.maximum, results.exp_sum, gradient, 0, 0.2});
  expect_gradient(
      logits, gradient, [&] { return 0.2 * loss_of(forward(logits, targets), targets); }, "logits");
  for (std::int64_t i = 0; i < kVocabulary; ++i) EXPECT_EQ(gradient.at(kTokens - 1, i), 0) << "padding";
}

TEST(CrossEntropy, LargeLogitsStayFinite) {
  Tensor logits(1, 2, {1000, 0}), maximum(1, 1), exp_sum(1, 1), target_logit(1, 1);
  Integers targets(1, 1, {1});
  run(CrossEntropy{logits, targets, maximum, exp_sum, target_logit});
  EXPECT_EQ(maximum[0], 1000);
  EXPECT_EQ(exp_sum[0], 1);
  EXPECT_EQ(target_logit[0], 0);
  run(CrossEntropyBackward{targets, maximum, exp_sum, logits});
  EXPECT_EQ(logits.values, (std::vector<float>{1, -1}));
}

// The first shard of 3 columns, the second of 5, combined as the header says.
TEST(CrossEntropy, TwoShardsEqualOne) {
  Tensor whole = random_tensor(kTokens, kVocabulary, 2), parts[2] = {{kTokens, 3}, {kTokens, 5}};
  for (float& value : whole.values) value *= 4;
  for (std::int64_t t = 0; t < kTokens; ++t)
    for (std::int64_t i = 0; i < kVocabulary; ++i) (i < 3 ? parts[0].at(t, i) : parts[1].at(t, i - 3)) = whole.at(t, i);
  Integers targets = some_targets();
  Results one = forward(whole, targets), of[2] = {forward(parts[0], targets, 0), forward(parts[1], targets, 3)}, both;
  for (std::size_t t = 0; t < kTokens; ++t) {
    both.maximum[t] = std::max(of[0].maximum[t], of[1].maximum[t]);
    for (const Results& shard : of) {
      both.exp_sum[t] += shard.exp_sum[t] * std::exp(shard.maximum[t] - both.maximum[t]);
      both.target_logit[t] += shard.target_logit[t];
    }
  }
  EXPECT_EQ(both.maximum.values, one.maximum.values);
  EXPECT_EQ(both.target_logit.values, one.target_logit.values);
  expect_near(both.exp_sum.values, one.exp_sum.values, 1e-6);

  run(CrossEntropyBackward{targets, one.maximum, one.exp_sum, whole, 0, 0.25});
  for (const std::int64_t first : {0, 3}) {
    Tensor& part = parts[first == 0 ? 0 : 1];
    run(CrossEntropyBackward{targets, both.maximum, both.exp_sum, part, first, 0.25});
    for (std::int64_t t = 0; t < kTokens; ++t)
      for (std::int64_t i = 0; i < part.columns; ++i) EXPECT_NEAR(part.at(t, i), whole.at(t, first + i), 1e-7);
  }
}

}  // namespace
}  // namespace msmoe::kernels
