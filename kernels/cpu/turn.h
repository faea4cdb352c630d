// How rotary positions turn one pair of columns, (pair, pair + rotated / 2), of the `rotated` that turn: by the angle
// position * base^(-2 pair / rotated)  (arXiv 2104.09864). The opposite position turns back.
#pragma once

#include <cmath>
#include <cstdint>

namespace msmoe::kernels::cpu {

inline double turn_frequency(std::int64_t pair, std::int64_t rotated, double base) {
  return std::pow(base, -2.0 * static_cast<double>(pair) / static_cast<double>(rotated));
}

class Turn {
 public:
  Turn(double position, double frequency, std::int64_t rotated) {
    const double angle = position * frequency;
    cosine_ = std::cos(angle);
    sine_ = std::sin(angle);
    half_ = rotated / 2;
  }
  // to: the pair's first column.
  void apply(double x, double y, float* to) const {
    to[0] = static_cast<float>(x * cosine_ - y * sine_);
    to[half_] = static_cast<float>(y * cosine_ + x * sine_);
  }

 private:
  double cosine_, sine_;
  std::int64_t half_;
};

}  // namespace msmoe::kernels::cpu
