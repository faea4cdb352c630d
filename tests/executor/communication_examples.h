// Parts of uneven sizes, bytes that tell where they belong, and numbers whose sum tells its order: what tests of
// communicators send.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

namespace msmoe::executor {

using Sizes = std::vector<std::size_t>;

// Uneven, some of them empty, and differing from round to round: 0 where (rank + round) % 3 is 0.
inline std::size_t uneven(int rank, int round) {
  return (rank + round) % 3 == 0 ? 0 : static_cast<std::size_t>(rank * 1000 + 7 * round);
}
inline std::size_t sum_of(const Sizes& sizes) { return std::accumulate(sizes.begin(), sizes.end(), std::size_t{0}); }

// Bytes that tell their sender, their receiver and their place.
inline std::vector<char> bytes_of(int from, int to, std::size_t count) {
  std::vector<char> bytes(count);
  for (std::size_t idx = 0; idx < count; ++idx)
    bytes[idx] = static_cast<char>(static_cast<std::size_t>(from * 31 + to * 17) + idx * 13);
  return bytes;
}
inline void append(std::vector<char>& to, const std::vector<char>& bytes) {
  to.insert(to.end(), bytes.begin(), bytes.end());
}

// Of magnitudes so different that any other order of summation shows.
inline std::vector<float> floats_of(int rank, std::size_t count) {
  std::mt19937 random(static_cast<std::mt19937::result_type>(rank + 1));
  std::vector<float> values(count);
  for (float& value : values)
    value = std::ldexp(static_cast<float>(random()) / 2e9f - 1, static_cast<int>(random() % 24));
  return values;
}
inline std::vector<float> sum_in_order_of_rank(int num_ranks, std::size_t count) {
  std::vector<float> total = floats_of(0, count);
  for (int rank = 1; rank < num_ranks; ++rank) {
    const std::vector<float> part = floats_of(rank, count);
    for (std::size_t idx = 0; idx < count; ++idx) total[idx] += part[idx];
  }
  return total;
}
inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

}  // namespace msmoe::executor
