#include "simulator/fluid_rates.h"

#include <algorithm>

namespace msmoe::simulator {
namespace {

// Shares are floats: 0.4f + 0.6f exceeds 1. Demands that exceed a capacity by less than this fit.
constexpr double kShareTolerance = 1e-6;
// A resource with less than this left is full; a level nearer than this to 1 is 1.
constexpr double kRounding = 1e-9;

using Amounts = std::array<double, kNumResources>;

bool all_fit(const Demand* const* demands, int count) {
  Amounts sum{};
  for (int i = 0; i < count; ++i) {
    for (int r = 0; r < kNumResources; ++r) sum[r] += demands[i]->share[r];
  }
  return std::all_of(sum.begin(), sum.end(), [](double total) { return total <= 1 + kShareTolerance; });
}

// Raises the rates of one class together. At each level some resource is full, or all have reached 1; the tasks that
// use a full resource keep their rate, and the rest rise on. Takes what the class uses out of `left`.
void fill_class(const Demand* const* demands, int count, bool holders, Amounts& left, double* rates) {
  unsigned rising = 0;  // bit i: demand i
  for (int i = 0; i < count; ++i) {
    if (demands[i]->holder == holders) rising |= 1u << i;
  }
  double level = 0;
  while (rising != 0) {
    Amounts slope{};  // use per unit of level
    for (int i = 0; i < count; ++i) {
      if (!(rising >> i & 1)) continue;
      for (int r = 0; r < kNumResources; ++r) slope[r] += demands[i]->share[r];
    }
    double rise = 1 - level;
    for (int r = 0; r < kNumResources; ++r) {
      if (slope[r] * rise > left[r]) rise = left[r] / slope[r];
    }
    level += rise;
    std::array<bool, kNumResources> full{};
    for (int r = 0; r < kNumResources; ++r) {
      left[r] = std::max(0.0, left[r] - slope[r] * rise);
      full[r] = left[r] < kRounding;
    }
    const bool at_top = level > 1 - kRounding;
    for (int i = 0; i < count; ++i) {
      if (!(rising >> i & 1)) continue;
      bool stops = at_top;
      for (int r = 0; r < kNumResources; ++r) stops |= full[r] && demands[i]->share[r] > 0;
      if (!stops) continue;
      rates[i] = at_top ? 1 : level;
      rising &= ~(1u << i);
    }
  }
}

}  // namespace

void fluid_rates(const Demand* const* demands, int count, double* rates) {
  if (all_fit(demands, count)) {
    std::fill_n(rates, count, 1.0);
    return;
  }
  Amounts left;
  left.fill(1);
  fill_class(demands, count, true, left, rates);
  fill_class(demands, count, false, left, rates);
}

}  // namespace msmoe::simulator
