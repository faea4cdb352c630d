#include "simulator/fluid_rates.h"

#include <algorithm>
#include <cmath>

#include "core/contention.h"

namespace msmoe::simulator {
namespace {

// Shares are floats: 0.4f + 0.6f exceeds 1. Demands that exceed a capacity by less than this fit.
constexpr double kShareTolerance = 1e-6;
// A resource with less than this left is full; a level nearer than this to 1 is 1.
constexpr double kRounding = 1e-9;

// What holders hold of the SMs is a resource of its own, which kSm then does not count.
constexpr int kHeldSm = kNumResources;
constexpr int kNumLimits = kNumResources + 1;
using Amounts = std::array<double, kNumLimits>;

Amounts amounts_of(const Demand& demand) {
  Amounts use{};
  for (int r = 0; r < kNumResources; ++r) use[r] = demand.share[r];
  use[kHeldSm] = demand.holder ? use[kSm] : 0;
  use[kSm] -= use[kHeldSm];
  return use;
}

bool all_fit(const Demand* const* demands, int count) {
  std::array<float, kNumResources> sum{};
  for (int i = 0; i < count; ++i) {
    for (int r = 0; r < kNumResources; ++r) sum[r] += demands[i]->share[r];
  }
  constexpr auto kFits = static_cast<float>(1 + kShareTolerance);
  return std::all_of(sum.begin(), sum.end(), [](float total) { return total <= kFits; });
}

// A share of SMs is a float: 20 / 132 of them is a little more or less.
double whole_waves(double tiles_per_sm, double part) { return std::ceil(tiles_per_sm / part - 1e-4); }

// The SM share that lets a tiled kernel on `free` SMs run at W(1) / W(free).
double tiled_share(const Demand& demand, double free) {
  const double alone = demand.share[kSm];
  if (demand.tiles_per_sm <= 0 || free <= 0 || demand.tiles_per_sm <= free) return alone;
  const double rate = whole_waves(demand.tiles_per_sm, 1) / (whole_waves(demand.tiles_per_sm, free) + 1);
  return std::max(alone, free / rate);
}

// 1 / s_i.
double highest_rate(const Demand* const* demands, int count, int own) {
  const Interference& of = demands[own]->interference;
  double crowds = 0, presses = 0;
  for (int i = 0; i < count; ++i) {
    if (i == own) continue;
    crowds += static_cast<double>(demands[i]->interference.crowds);
    presses += static_cast<double>(demands[i]->interference.presses);
  }
  double slowdown = 1;
  if (of.yields > 0 && presses > 0) slowdown = slowed_operator(of.yields, presses);
  if (of.waits > 0 && of.wire < 1 && crowds > 0) slowdown *= slowed_transfer(of.wire, of.waits, crowds);
  return 1 / slowdown;
}

}  // namespace

// At each level some resource is full, or some rate is as high as it may be; these tasks and those that use a full
// resource keep their rate, and the rest rise on. Only resources that would be asked for more than there is at rate 1
// can fill up.
void fluid_rates(const Demand* const* demands, int count, double* rates) {
  std::array<double, kMaxStreams> highest;
  for (int i = 0; i < count; ++i) highest[i] = highest_rate(demands, count, i);
  if (all_fit(demands, count)) {
    std::copy_n(highest.begin(), count, rates);
    return;
  }
  std::array<Amounts, kMaxStreams> use;
  double held = 0;
  for (int i = 0; i < count; ++i) {
    use[i] = amounts_of(*demands[i]);
    held += use[i][kHeldSm];
  }
  Amounts left;
  left.fill(1);
  left[kSm] = std::max(0.0, 1 - held);
  for (int i = 0; i < count && held > 0; ++i) {
    if (use[i][kSm] > 0) use[i][kSm] = tiled_share(*demands[i], left[kSm]);
  }
  std::array<int, kNumLimits> scarce;
  int num_scarce = 0;
  for (int r = 0; r < kNumLimits; ++r) {
    double wanted = 0;
    for (int i = 0; i < count; ++i) wanted += use[i][r];
    if (wanted > left[r]) scarce[num_scarce++] = r;
  }
  unsigned rising = (1u << count) - 1;  // bit i: demand i
  double level = 0;
  while (rising != 0) {
    double rise = 1 - level;
    for (int i = 0; i < count; ++i) {
      if (rising >> i & 1) rise = std::min(rise, highest[i] - level);
    }
    std::array<double, kNumLimits> slope{};  // of scarce[s]: use per unit of level
    for (int s = 0; s < num_scarce; ++s) {
      for (int i = 0; i < count; ++i) {
        if (rising >> i & 1) slope[s] += use[i][scarce[s]];
      }
      if (slope[s] * rise > left[scarce[s]]) rise = left[scarce[s]] / slope[s];
    }
    level += rise;
    unsigned at_top = 0;
    for (int i = 0; i < count; ++i) at_top |= static_cast<unsigned>(level > highest[i] - kRounding) << i;
    unsigned stopped = at_top;
    for (int s = 0; s < num_scarce; ++s) {
      double& rest = left[scarce[s]];
      rest = std::max(0.0, rest - slope[s] * rise);
      if (rest >= kRounding) continue;
      for (int i = 0; i < count; ++i) {
        if (use[i][scarce[s]] > 0) stopped |= 1u << i;
      }
    }
    stopped &= rising;
    for (int i = 0; i < count; ++i) {
      if (stopped >> i & 1) rates[i] = at_top >> i & 1 ? highest[i] : level;
    }
    rising &= ~stopped;
  }
}

}  // namespace msmoe::simulator
