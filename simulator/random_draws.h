// Draws that depend on a key and nothing else: threads may make them in any order, and equal seeds give equal results
// on every machine.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/random_bits.h"

namespace msmoe::simulator {

// A sequence of draws.
class Draws {
 public:
  explicit Draws(std::uint64_t key) : state_(key) {}
  std::uint64_t bits() { return mix_bits(state_ += kSplitMixStep); }
  double uniform();            // in (0, 1)
  double normal();             // Box-Muller
  double gamma(double shape);  // of scale 1. REQUIRES: shape > 0
  std::uint64_t below(std::uint64_t bound) { return bits() % bound; }

 private:
  std::uint64_t state_;
};

// A lognormal factor of mean 1, as a table of equally likely values: its coefficient of variation is the one asked for,
// and its largest value that of one draw in kEntries.
class LognormalFactors {
 public:
  // REQUIRES: 0 < variation <= kMostVariation, beyond which so few values cannot vary so much.
  explicit LognormalFactors(double variation);
  double of(std::uint64_t bits) const { return factors_[bits >> (64 - kLogEntries)]; }

  static constexpr int kLogEntries = 12;
  static constexpr std::size_t kEntries = std::size_t{1} << kLogEntries;
  static constexpr double kMostVariation = 2;

 private:
  std::array<double, kEntries> factors_{};
};

}  // namespace msmoe::simulator
