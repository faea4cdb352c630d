#include "executor/data/shuffle.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <set>
#include <vector>

#include "core/random_bits.h"

namespace msmoe::executor {
namespace {

std::vector<std::int64_t> values_of(std::int64_t size, std::uint64_t key) {
  const Shuffle shuffle(size, key);
  std::vector<std::int64_t> values;
  for (std::int64_t idx = 0; idx < size; ++idx) values.push_back(shuffle(idx));
  return values;
}

// Whether every index below size is there once.
bool is_permutation(const std::vector<std::int64_t>& values) {
  std::vector<bool> seen(values.size());
  for (const std::int64_t value : values) {
    if (value < 0 || value >= static_cast<std::int64_t>(values.size()) || seen[static_cast<std::size_t>(value)])
      return false;
    seen[static_cast<std::size_t>(value)] = true;
  }
  return true;
}

TEST(Shuffle, IsAPermutation) {
  for (std::int64_t size = 1; size <= 1100; ++size)
    for (std::uint64_t key = 0; key < 3; ++key) ASSERT_TRUE(is_permutation(values_of(size, key))) << size << ' ' << key;
  for (const std::int64_t size : {4095, 4096, 4097, 65535, 65536, 65537, 100'003})
    EXPECT_TRUE(is_permutation(values_of(size, 5))) << size;
}

// Too large to be gone through: distinct indices, those at both ends among them, have distinct values in range.
TEST(Shuffle, OfHugeSizesKeepsIndicesApart) {
  for (const int bits : {31, 32, 33, 47, 61, 62})
    for (const std::int64_t below : {0, 1, 12'345}) {
      const std::int64_t size = (std::int64_t{1} << bits) - below;
      const Shuffle shuffle(size, 1);
      std::set<std::int64_t> values;
      for (std::int64_t idx = 0; idx < 500; ++idx) {
        values.insert(shuffle(idx));
        values.insert(shuffle(size - 1 - idx));
      }
      EXPECT_EQ(values.size(), 1000u) << size;
      EXPECT_GE(*values.begin(), 0);
      EXPECT_LT(*values.rbegin(), size);
    }
}

TEST(Shuffle, OfOtherKeysDiffer) {
  std::set<std::vector<std::int64_t>> orders;
  for (std::uint64_t key = 0; key < 200; ++key) orders.insert(values_of(50, key));
  EXPECT_EQ(orders.size(), 200u);
}

// Over K keys an index lands on each of n places K / n times, give or take the square root of that: over all n * n
// pairs the sum of (count - K / n)^2 / (K / n) has a mean of n (n - 1) and a standard deviation of about
// sqrt(2) (n - 1). Five of them are allowed.
TEST(Shuffle, PutsEveryIndexAnywhere) {
  constexpr int kKeys = 20'000;
  for (const std::int64_t size : {5, 7, 16, 37, 100}) {
    std::vector<double> counts(static_cast<std::size_t>(size * size));
    for (std::uint64_t key = 0; key < kKeys; ++key) {
      const Shuffle shuffle(size, key);
      for (std::int64_t idx = 0; idx < size; ++idx) ++counts[static_cast<std::size_t>(idx * size + shuffle(idx))];
    }
    const auto places = static_cast<double>(size);
    const double expected = kKeys / places;
    double distance = 0;
    for (const double count : counts) distance += (count - expected) * (count - expected) / expected;
    EXPECT_NEAR(distance, places * (places - 1), 5 * std::sqrt(2.0) * (places - 1)) << size;
  }
}

// Neighbours do not stay together: in a random order of n, about 2 of its n - 1 steps are steps of 1, up or down.
TEST(Shuffle, TearsNeighboursApart) {
  const std::vector<std::int64_t> values = values_of(10'000, 3);
  int num_neighbours = 0;
  for (std::size_t idx = 1; idx < values.size(); ++idx) num_neighbours += std::abs(values[idx] - values[idx - 1]) == 1;
  EXPECT_LE(num_neighbours, 10);
}

// Computed from the description in shuffle.h by another program, with whole numbers of any size.
TEST(Shuffle, IsTheSameOnEveryMachine) {
  EXPECT_EQ(values_of(10, 7), (std::vector<std::int64_t>{3, 8, 4, 7, 5, 1, 2, 6, 0, 9}));
  const Shuffle shuffle(std::int64_t{1} << 40, 7);
  EXPECT_EQ(shuffle(0), 1'065'479'758'287);
  EXPECT_EQ(shuffle(1), 750'358'757'343);
  EXPECT_EQ(shuffle(2), 470'371'358'127);
}

// The first draw of SplitMix64 as published with its seed 1234567.
TEST(RandomBits, AreThoseOfSplitMix64) { EXPECT_EQ(draw_key({1'234'567}), 6'457'827'717'110'365'317u); }

}  // namespace
}  // namespace msmoe::executor
