// The narrow number formats in software: bf16, and E4M3 as in OCP's OFP8 and NVIDIA's GPUs (4 bits of exponent with
// bias 7, 3 of mantissa; no infinities, largest value 448; 0x7f and 0xff are NaN).
//
// Both conversions round to nearest, ties to even, whatever the rounding mode. What exceeds 448, infinities included,
// saturates to 448 with its sign, as cvt.satfinite does. NaNs stay NaNs; zeros keep their sign.
#pragma once

#include <cstdint>

#include "kernels/view.h"

namespace msmoe::kernels::cpu {

constexpr float kLargestE4m3 = 448;

std::uint16_t to_bf16(float value);
float from_bf16(std::uint16_t bits);

std::uint8_t to_e4m3(float value);
float from_e4m3(std::uint8_t bits);

// An element of an fp32 or bf16 view, by its index in memory.
float load(const View& view, std::int64_t index);
void store(const View& view, std::int64_t index, float value);

}  // namespace msmoe::kernels::cpu
