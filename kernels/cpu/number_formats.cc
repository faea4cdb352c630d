#include "kernels/cpu/number_formats.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace msmoe::kernels::cpu {
namespace {

constexpr int kMantissaBits = 3, kBias = 7;
constexpr std::uint8_t kNan = 0x7f, kLargest = 0x7e;

// The integer nearest to a value that is not negative; of two, the even one.
std::uint32_t round_to_even(float value) {
  const float below = std::floor(value);
  const float rest = value - below;
  const auto integer = static_cast<std::uint32_t>(below);
  if (rest == 0.5F) return integer + integer % 2;
  return rest > 0.5F ? integer + 1 : integer;
}

}  // namespace

std::uint16_t to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>(bits >> 16 | 0x40);
  const std::uint32_t last_kept = bits >> 16 & 1;
  return static_cast<std::uint16_t>((bits + 0x7fff + last_kept) >> 16);
}

float from_bf16(std::uint16_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

std::uint8_t to_e4m3(float value) {
  const std::uint8_t sign = std::signbit(value) ? 0x80 : 0;
  if (std::isnan(value)) return sign | kNan;
  const float magnitude = std::fabs(value);
  if (magnitude >= kLargestE4m3) return sign | kLargest;
  // Below the smallest normal number the steps stay those of its exponent, and the code is the number of steps. Above,
  // a binade has 8 steps, and rounding up to its end carries into the exponent.
  const int exponent = magnitude == 0 ? 1 - kBias : std::max(std::ilogb(magnitude), 1 - kBias);
  const std::uint32_t steps = round_to_even(std::ldexp(magnitude, kMantissaBits - exponent));
  return sign | static_cast<std::uint8_t>(((exponent + kBias - 1) << kMantissaBits) + static_cast<int>(steps));
}

float from_e4m3(std::uint8_t bits) {
  const int magnitude = bits & 0x7f, exponent = magnitude >> kMantissaBits, mantissa = magnitude & 7;
  if (magnitude == kNan) return std::numeric_limits<float>::quiet_NaN();
  const float value = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), 1 - kBias - kMantissaBits)
                                    : std::ldexp(static_cast<float>(8 + mantissa), exponent - kBias - kMantissaBits);
  return (bits & 0x80) != 0 ? -value : value;
}

float load(const View& view, std::int64_t index) {
  return view.element == Element::kBf16 ? from_bf16(view.as<std::uint16_t>()[index]) : view.as<float>()[index];
}

void store(const View& view, std::int64_t index, float value) {
  if (view.element == Element::kBf16)
    view.as<std::uint16_t>()[index] = to_bf16(value);
  else
    view.as<float>()[index] = value;
}

}  // namespace msmoe::kernels::cpu
