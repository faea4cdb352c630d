#include "kernels/cpu/number_formats.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "tests/kernels/tensors.h"

namespace msmoe::kernels {
namespace {

using cpu::from_bf16;
using cpu::from_e4m3;
using cpu::to_bf16;
using cpu::to_e4m3;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(E4m3Format, AllCodesSurviveARoundTrip) {
  for (int code = 0; code < 256; ++code) {
    const float value = from_e4m3(static_cast<std::uint8_t>(code));
    EXPECT_EQ(std::isnan(value), (code & 0x7f) == 0x7f) << code;
    EXPECT_EQ(to_e4m3(value) & 0x7f, code & 0x7f) << code;
    EXPECT_TRUE(std::isnan(value) || to_e4m3(value) == code) << code;
  }
}

// From the table of OCP's OFP8 specification.
TEST(E4m3Format, KnownValues) {
  EXPECT_EQ(from_e4m3(0x01), 0x1p-9F);
  EXPECT_EQ(from_e4m3(0x07), 0.875F * 0x1p-6F);
  EXPECT_EQ(from_e4m3(0x08), 0x1p-6F);
  EXPECT_EQ(from_e4m3(0x38), 1);
  EXPECT_EQ(from_e4m3(0xbc), -1.5F);
  EXPECT_EQ(from_e4m3(0x7e), 448);
}

// Between each two neighbours: the middle goes to the even code, what lies off it to the nearer one.
TEST(E4m3Format, RoundsToNearestTiesToEven) {
  for (std::uint8_t code = 0; code < 0x7e; ++code) {
    const auto next = static_cast<std::uint8_t>(code + 1);
    const float middle = (from_e4m3(code) + from_e4m3(next)) / 2;
    EXPECT_EQ(to_e4m3(middle), code % 2 == 0 ? code : next) << int{code};
    EXPECT_EQ(to_e4m3(std::nextafter(middle, 0.0F)), code);
    EXPECT_EQ(to_e4m3(std::nextafter(middle, kInfinity)), next);
    EXPECT_EQ(to_e4m3(-middle), to_e4m3(middle) | 0x80);
  }
}

TEST(E4m3Format, SaturatesAndKeepsSigns) {
  for (const float large : {448.0F, 449.0F, 1e30F, kInfinity}) {
    EXPECT_EQ(to_e4m3(large), 0x7e);
    EXPECT_EQ(to_e4m3(-large), 0xfe);
  }
  EXPECT_EQ(to_e4m3(0.0F), 0);
  EXPECT_EQ(to_e4m3(-0.0F), 0x80);
  EXPECT_EQ(to_e4m3(std::numeric_limits<float>::denorm_min()), 0);
}

TEST(Bf16Format, RoundsToNearestTiesToEven) {
  EXPECT_EQ(to_bf16(1), 0x3f80);
  EXPECT_EQ(to_bf16(1 + 0x1p-8F), 0x3f80) << "a tie, down to even";
  EXPECT_EQ(to_bf16(1 + 3 * 0x1p-8F), 0x3f82) << "a tie, up to even";
  EXPECT_EQ(to_bf16(1 + 0x1p-8F + 0x1p-20F), 0x3f81);
  EXPECT_EQ(to_bf16(-1 - 3 * 0x1p-8F), 0xbf82);
  EXPECT_EQ(to_bf16(std::numeric_limits<float>::max()), 0x7f80) << "rounds up to infinity";
  EXPECT_EQ(from_bf16(to_bf16(-kInfinity)), -kInfinity);
}

TEST(Bf16Format, AllCodesSurviveARoundTrip) {
  for (std::uint32_t code = 0; code < 0x10000; ++code) {
    const float value = from_bf16(static_cast<std::uint16_t>(code));
    EXPECT_TRUE(std::isnan(value) ? std::isnan(from_bf16(to_bf16(value))) : to_bf16(value) == code) << code;
  }
  EXPECT_TRUE(std::isnan(from_bf16(to_bf16(std::bit_cast<float>(0x7f800001U))))) << "not an infinity";
}

TEST(Cast, ToBf16AndBack) {
  Tensor in(1, 3, {1, 1 + 0x1p-8F, -3.25F}), back(1, 3);
  Bf16 narrow(1, 3);
  run(Cast{in, narrow});
  run(Cast{narrow, back});
  EXPECT_EQ(back.values, (std::vector<float>{1, 1, -3.25F}));
}

TEST(Cast, OfEqualTypesCopies) {
  Tensor in = random_tensor(3, 5, 1), out(3, 5);
  Bf16 narrow(1, 2, {0x3F80, 0xC000}), narrow_out(1, 2);
  run(Cast{in, out});
  run(Cast{narrow, narrow_out});
  EXPECT_EQ(out.values, in.values);
  EXPECT_EQ(narrow_out.values, narrow.values);
}

// Blocks of each kind, the last of them not full. An element is off by half a step of its binade at most, 1/16 of it,
// or by half of the smallest step of its block.
TEST(Quantize, ErrorsAreBounded) {
  for (const ScaleBlocks blocks : {ScaleBlocks::kToken, ScaleBlocks::kChannel}) {
    Tensor in = blocks == ScaleBlocks::kToken ? random_tensor(3, 300, 1) : random_tensor(300, 3, 1);
    for (std::size_t i = 0; i < in.size(); i += 7) in[i] *= 1e-3F;
    Tensor scales(3, 3), out(in.rows, in.columns);
    E4m3 narrow(in.rows, in.columns);
    run(Quantize{in, narrow, scales, blocks});
    run(Dequantize{narrow, scales, out, blocks});
    for (std::int64_t r = 0; r < in.rows; ++r)
      for (std::int64_t c = 0; c < in.columns; ++c) {
        const float scale = blocks == ScaleBlocks::kToken ? scales.at(r, c / 128) : scales.at(r / 128, c);
        const double allowed = std::max(std::fabs(in.at(r, c)) / 16, scale * 0x1p-10F) * 1.0001;
        EXPECT_NEAR(out.at(r, c), in.at(r, c), allowed);
      }
  }
}

TEST(Quantize, TheLargestOfABlockIsExactAndZerosHaveScaleOne) {
  Tensor in(2, 130, 0), scales(2, 2), out(2, 130);
  in.at(0, 3) = -896;
  in.at(0, 5) = 2;
  in.at(1, 129) = 1e-40F;
  E4m3 narrow(2, 130);
  run(Quantize{in, narrow, scales});
  EXPECT_EQ(scales.values, (std::vector<float>{2, 1, 1, 1}));
  EXPECT_EQ(narrow.at(0, 3), 0xfe);
  EXPECT_EQ(narrow.at(0, 5), 0x38);
  run(Dequantize{narrow, scales, out});
  EXPECT_EQ(out.at(0, 3), -896);
  EXPECT_EQ(out.at(1, 129), 0);
}

// Just above the scales that would be subnormal, where 1 / scale is the largest that it gets.
TEST(Quantize, TheSmallestScaleHasAFiniteReciprocal) {
  Tensor in(1, 1, {448 * 0x1p-126F}), scales(1, 1);
  E4m3 narrow(1, 1);
  run(Quantize{in, narrow, scales});
  EXPECT_EQ(scales.at(0, 0), 0x1p-126F);
  EXPECT_EQ(narrow.at(0, 0), 0x7e);
}

}  // namespace
}  // namespace msmoe::kernels
