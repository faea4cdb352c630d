// Shuffle: a permutation of 0 .. size - 1 that depends on a key and is computed one value at a time, so that no array
// of indices has to be kept, or built anew when a run goes on where it stopped.
//
// It is a Feistel network (Luby, Rackoff: How to Construct Pseudorandom Permutations from Pseudorandom Functions, SIAM
// J. Comput. 17, 1988) on the smallest even number of bits that holds every index. A round takes the two halves
//
//     (left, right)  to  (right, left xor F(right)),        F(x) = the low bits of mix_bits(round's key + x)
//
// which can be undone whatever F is: each round is a permutation. A value that is not below size is put through the
// network again (Black, Rogaway: Ciphers with Arbitrary Finite Domains, CT-RSA 2002), until one is: at most 4 times
// on average, as fewer than 4 * size values fit into the bits. Integer arithmetic only, the same on every machine.
#pragma once

#include <array>
#include <cstdint>

namespace msmoe::executor {

class Shuffle {
 public:
  // REQUIRES: 1 <= size <= 2^62.
  Shuffle(std::int64_t size, std::uint64_t key);

  // REQUIRES: 0 <= idx < size.
  std::int64_t operator()(std::int64_t idx) const;

 private:
  // Four are enough to look random on large domains; halves of few bits, whose F has few values, need more.
  static constexpr int kRounds = 8;

  std::uint64_t size_;
  int half_bits_;
  std::array<std::uint64_t, kRounds> round_keys_;
};

}  // namespace msmoe::executor
