#include "executor/data/shuffle.h"

#include <bit>
#include <cassert>

#include "core/random_bits.h"

namespace msmoe::executor {

Shuffle::Shuffle(std::int64_t size, std::uint64_t key)
    : size_(static_cast<std::uint64_t>(size)), half_bits_((std::bit_width(size_ - 1) + 1) / 2) {
  assert(size >= 1 && size <= std::int64_t{1} << 62);
  for (std::uint64_t round = 0; round < kRounds; ++round) round_keys_[round] = draw_key({key, round});
}

std::int64_t Shuffle::operator()(std::int64_t idx) const {
  auto value = static_cast<std::uint64_t>(idx);
  assert(idx >= 0 && value < size_);
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  do {
    std::uint64_t left = value >> half_bits_, right = value & mask;
    for (const std::uint64_t key : round_keys_) {
      const std::uint64_t next = left ^ (mix_bits(key + right) & mask);
      left = right;
      right = next;
    }
    value = left << half_bits_ | right;
  } while (value >= size_);
  return static_cast<std::int64_t>(value);
}

}  // namespace msmoe::executor
