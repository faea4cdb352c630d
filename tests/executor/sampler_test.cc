#include "executor/data/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/random_bits.h"
#include "executor/data/sample_order.h"

namespace msmoe::executor {
namespace {

using Numbers = std::vector<std::int64_t>;
using Tokens = std::vector<std::int32_t>;

// Token p is p, so that a sample shows where it is from.
class Positions : public TokenSource {
 public:
  explicit Positions(std::int64_t num_tokens) : num_tokens_(num_tokens) {}
  const std::string& name() const override { return name_; }
  std::int64_t num_tokens() const override { return num_tokens_; }
  std::int64_t num_documents() const override { return 1; }
  std::int64_t document_begin(std::int64_t document_idx) const override { return document_idx * num_tokens_; }
  void copy(std::int64_t first, std::span<std::int32_t> out) const override {
    ASSERT_GE(first, 0);
    ASSERT_LE(first + static_cast<std::int64_t>(out.size()), num_tokens_);
    std::iota(out.begin(), out.end(), static_cast<std::int32_t>(first));
  }

 private:
  std::string name_ = "positions";
  std::int64_t num_tokens_;
};

Numbers epoch_of(const SampleOrder& order, std::int64_t epoch) {
  Numbers begins;
  for (std::int64_t idx = 0; idx < order.num_sequences(); ++idx)
    begins.push_back(order.begin_of(epoch * order.num_sequences() + idx));
  return begins;
}

// Where the samples of this rank's share begin, read num_read at a time. Checks that they are whole sequences.
Numbers step_of(const Sampler& sampler, std::int64_t seq_len, std::int64_t num_read = 1) {
  Numbers begins;
  for (std::int64_t first = 0; first < sampler.samples_per_step(); first += num_read) {
    const std::int64_t num_samples = std::min(num_read, sampler.samples_per_step() - first);
    Tokens tokens(static_cast<std::size_t>(num_samples * seq_len), -1), targets(tokens.size(), -1);
    sampler.read(first, tokens, targets);
    for (std::size_t idx = 0; idx < tokens.size(); ++idx) {
      EXPECT_EQ(targets[idx], tokens[idx] + 1);
      if (idx % static_cast<std::size_t>(seq_len) != 0) {
        EXPECT_EQ(tokens[idx], tokens[idx - 1] + 1);
      } else {
        begins.push_back(tokens[idx]);
      }
    }
  }
  return begins;
}

// What the steps of all ranks read, in the order of samples; a rank's sampler stands at the same position as the
// others.
Numbers steps_of(const TokenSource& source, Sampling sampling, int num_ranks, int num_steps) {
  std::vector<Sampler> samplers;
  sampling.num_ranks = num_ranks;
  for (sampling.rank = 0; sampling.rank < num_ranks; ++sampling.rank) samplers.emplace_back(source, sampling);
  Numbers begins;
  for (int step = 0; step < num_steps; ++step)
    for (Sampler& sampler : samplers) {
      for (const std::int64_t begin : step_of(sampler, sampling.seq_len)) begins.push_back(begin);
      sampler.advance();
    }
  return begins;
}

// 99 tokens to predict in sequences of 9 are 11; computed from sample_order.h by another program. A change of these
// values changes what every run that goes on from a checkpoint reads.
TEST(SampleOrder, IsPartOfWhatACheckpointMeans) {
  const SampleOrder order(100, 9, 42);
  ASSERT_EQ(order.num_sequences(), 11);
  EXPECT_EQ(epoch_of(order, 0), (Numbers{90, 9, 18, 72, 63, 36, 0, 54, 27, 81, 45}));
  EXPECT_EQ(epoch_of(order, 1), (Numbers{63, 9, 81, 36, 90, 0, 54, 27, 18, 72, 45}));
}

TEST(SampleOrder, ReadsEverySequenceOnceAnEpoch) {
  for (const std::int64_t num_tokens : {2, 3, 17, 100, 1000, 1001, 4097})
    for (const std::int64_t seq_len : {1, 2, 7, 16}) {
      if (num_tokens <= seq_len) continue;
      const SampleOrder order(num_tokens, seq_len, 1);
      for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
        Numbers begins = epoch_of(order, epoch);
        std::ranges::sort(begins);
        for (std::size_t idx = 0; idx < begins.size(); ++idx)
          ASSERT_EQ(begins[idx], static_cast<std::int64_t>(idx) * seq_len);
        // The last one ends inside the data, and another would not.
        ASSERT_LT(begins.back() + seq_len, num_tokens);
        ASSERT_GE(begins.back() + 2 * seq_len, num_tokens);
      }
    }
}

TEST(SampleOrder, DiffersFromEpochToEpochAndFromSeedToSeed) {
  std::set<Numbers> orders;
  for (std::uint64_t seed = 0; seed < 20; ++seed)
    for (std::int64_t epoch = 0; epoch < 20; ++epoch) orders.insert(epoch_of(SampleOrder(1000, 10, seed), epoch));
  EXPECT_EQ(orders.size(), 400u);
}

// One of several ranks reads what the only one does, whatever their number: together the next samples, each once.
TEST(Sampler, RanksReadEachGlobalBatchOnce) {
  const Positions source(1000);
  const Sampling sampling{.seq_len = 10, .global_batch = 8, .seed = 3};
  const SampleOrder order(1000, 10, 3);
  Numbers expected;
  for (std::int64_t sample_idx = 0; sample_idx < 30 * 8; ++sample_idx) expected.push_back(order.begin_of(sample_idx));
  for (const int num_ranks : {1, 2, 4, 8}) EXPECT_EQ(steps_of(source, sampling, num_ranks, 30), expected) << num_ranks;
}

// 99 sequences in batches of 8: a step that goes over the end of an epoch loses none and repeats none.
TEST(Sampler, StepsGoOverTheEndOfAnEpoch) {
  const Positions source(1000);
  const Numbers begins = steps_of(source, {.seq_len = 10, .global_batch = 8}, 2, 99);
  std::map<std::int64_t, int> times;
  for (const std::int64_t begin : begins) ++times[begin];
  EXPECT_EQ(times.size(), 99u);
  for (const auto& [begin, count] : times) EXPECT_EQ(count, 8) << begin;
}

// From any position, under another number of ranks and another global batch, a run reads on with the next sample.
TEST(Sampler, GoesOnFromAnyPosition) {
  const Positions source(500);
  const Numbers whole = steps_of(source, {.seq_len = 7, .global_batch = 1, .seed = 9}, 1, 400);
  for (std::int64_t position = 0; position < 300; ++position)
    for (const int num_ranks : {1, 2, 4}) {
      const Numbers rest =
          steps_of(source, {.seq_len = 7, .global_batch = 12, .seed = 9, .position = position}, num_ranks, 2);
      ASSERT_TRUE(std::equal(rest.begin(), rest.end(), whole.begin() + position)) << position << ' ' << num_ranks;
    }
}

TEST(Sampler, PositionCountsTheSamplesOfAllRanks) {
  const Positions source(500);
  Sampler sampler(source, {.seq_len = 7, .global_batch = 12, .rank = 1, .num_ranks = 4, .position = 5});
  EXPECT_EQ(sampler.samples_per_step(), 3);
  EXPECT_EQ(sampler.samples_per_epoch(), 71);  // 499 / 7
  sampler.advance();
  sampler.advance();
  EXPECT_EQ(sampler.position(), 29);
}

TEST(Sampler, MicroBatchesAreTheirShareInParts) {
  const Positions source(5000);
  const Sampler sampler(source, {.seq_len = 16, .global_batch = 24, .rank = 1, .num_ranks = 2, .seed = 4});
  const Numbers whole = step_of(sampler, 16, 12);
  for (const std::int64_t micro_batch : {1, 2, 3, 4, 5, 6}) EXPECT_EQ(step_of(sampler, 16, micro_batch), whole);
}

TEST(Sampler, RefusesDataShorterThanASequence) {
  const Positions source(16);
  EXPECT_NO_THROW(Sampler(source, {.seq_len = 15, .global_batch = 1}));
  try {
    const Sampler sampler(source, {.seq_len = 16, .global_batch = 1});
    ADD_FAILURE() << "was accepted";
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(), "positions: holds 16 tokens, too few for one sequence of 16; 17 or more are needed");
  }
}

}  // namespace
}  // namespace msmoe::executor
