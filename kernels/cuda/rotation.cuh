// How rotary positions turn pairs of columns, on the device: the pair (i, i + half) by the angle
// position * base^(-2 i / rotated), rotated = 2 half  (arXiv 2104.09864).
#pragma once

#include "kernels/cuda/device.cuh"

namespace msmoe::kernels {

// By how many octaves the frequency of a pair is below that of the pair before.
inline double octaves_each(double base, std::int64_t rotated) {
  return std::log2(base) * 2 / static_cast<double>(rotated);
}

// At position 1.
__device__ inline double turns_of_pair(double octaves_each, int pair) {
  constexpr double kTurnsPerRadian = 0.15915494309189535;
  return kTurnsPerRadian * exp2(-octaves_each * pair);
}

// Cosine and sine. Whole turns are dropped in double: at position 2^17 an angle in fp32 is off by hundredths.
__device__ inline float2 cosine_and_sine(double turns, float direction) {
  float sine, cosine;
  sincospif(2 * static_cast<float>(turns - rint(turns)), &sine, &cosine);
  return {cosine, direction * sine};
}

__device__ inline void turn(float& x, float& y, const float2& by) {
  const float before = x;
  x = before * by.x - y * by.y;
  y = before * by.y + y * by.x;
}

}  // namespace msmoe::kernels
