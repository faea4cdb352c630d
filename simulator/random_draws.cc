#include "simulator/random_draws.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace msmoe::simulator {
namespace {

// Where the normal distribution has this much below it; bisected, since it is needed a few thousand times in all.
double normal_quantile(double probability) {
  double low = -10, high = 10;
  for (int halving = 0; halving < 60; ++halving) {
    const double middle = (low + high) / 2;
    (0.5 * std::erfc(-middle / std::numbers::sqrt2) < probability ? low : high) = middle;
  }
  return (low + high) / 2;
}

}  // namespace

double Draws::uniform() { return (static_cast<double>(bits() >> 11) + 0.5) * 0x1p-53; }

double Draws::normal() {
  const double radius = std::sqrt(-2 * std::log(uniform()));
  return radius * std::cos(2 * std::numbers::pi * uniform());
}

// Marsaglia and Tsang, A Simple Method for Generating Gamma Variables, TOMS 26 (2000), section 6 for shapes below 1.
double Draws::gamma(double shape) {
  if (shape < 1) {
    const double larger = gamma(shape + 1);
    return larger * std::pow(uniform(), 1 / shape);
  }
  const double d = shape - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  for (;;) {
    const double x = normal();
    const double v = std::pow(1 + c * x, 3);
    if (v > 0 && std::log(uniform()) < x * x / 2 + d - d * v + d * std::log(v)) return d * v;
  }
}

// exp(sigma z) at the middle of each of kEntries equal parts of the distribution. A table has no tails, so sigma is
// bisected until the table itself varies as asked; for small variations it ends near sqrt(ln(1 + variation^2)).
LognormalFactors::LognormalFactors(double variation) {
  std::array<double, kEntries> quantiles{};
  for (std::size_t i = 0; i < kEntries; ++i)
    quantiles[i] = normal_quantile((static_cast<double>(i) + 0.5) / static_cast<double>(kEntries));
  const auto fill = [&](double sigma) {
    double sum = 0, squares = 0;
    for (std::size_t i = 0; i < kEntries; ++i) {
      factors_[i] = std::exp(sigma * quantiles[i]);
      sum += factors_[i];
    }
    for (double& factor : factors_) {
      factor *= static_cast<double>(kEntries) / sum;
      squares += (factor - 1) * (factor - 1);
    }
    return std::sqrt(squares / static_cast<double>(kEntries));
  };
  double low = 0, high = 4;
  for (int halving = 0; halving < 50; ++halving) {
    const double middle = (low + high) / 2;
    (fill(middle) < variation ? low : high) = middle;
  }
  fill(high);
}

}  // namespace msmoe::simulator
