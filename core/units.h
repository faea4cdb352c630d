// Quantities with units. A bare double never crosses a public interface.
//
//   Duration   picoseconds in 64 bits: a run of up to 106 days, and sums that do not depend on their order.
//   Bytes, Flops, BytesPerSecond, FlopsPerSecond   doubles; whole numbers are exact up to 2^53.
//
// Only meaningful operators exist: Bytes / BytesPerSecond is a Duration, rounded up to a tick.
#pragma once

#include <chrono>
#include <cmath>
#include <compare>
#include <cstdint>
#include <ratio>

namespace msmoe {

using Duration = std::chrono::duration<std::int64_t, std::pico>;

// Rounds up to the next picosecond, so that work never takes less time than it needs.
// REQUIRES: finite, and below 9.2e6 seconds.
inline Duration seconds(double value) { return Duration{static_cast<std::int64_t>(std::ceil(value * 1e12))}; }
inline double to_seconds(Duration duration) { return static_cast<double>(duration.count()) * 1e-12; }

template <class Tag>
struct Quantity {
  double count = 0;

  constexpr auto operator<=>(const Quantity&) const = default;
  constexpr Quantity& operator+=(Quantity other) {
    count += other.count;
    return *this;
  }
  constexpr Quantity& operator-=(Quantity other) {
    count -= other.count;
    return *this;
  }
  friend constexpr Quantity operator+(Quantity a, Quantity b) { return {a.count + b.count}; }
  friend constexpr Quantity operator-(Quantity a, Quantity b) { return {a.count - b.count}; }
  friend constexpr Quantity operator*(Quantity a, double factor) { return {a.count * factor}; }
  friend constexpr Quantity operator*(double factor, Quantity a) { return {a.count * factor}; }
  friend constexpr Quantity operator/(Quantity a, double divisor) { return {a.count / divisor}; }
  friend constexpr double operator/(Quantity a, Quantity b) { return a.count / b.count; }
};

using Bytes = Quantity<struct BytesTag>;
using Flops = Quantity<struct FlopsTag>;
using BytesPerSecond = Quantity<struct BytesPerSecondTag>;
using FlopsPerSecond = Quantity<struct FlopsPerSecondTag>;

inline Duration operator/(Bytes size, BytesPerSecond rate) { return seconds(size.count / rate.count); }
inline Duration operator/(Flops work, FlopsPerSecond rate) { return seconds(work.count / rate.count); }

inline constexpr double kKiB = 1024.0;
inline constexpr double kMiB = 1024.0 * kKiB;
inline constexpr double kGiB = 1024.0 * kMiB;

}  // namespace msmoe
