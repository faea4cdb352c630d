#include "executor/checkpoint/tensor_info.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>

#include "kernels/cpu/number_formats.h"

namespace msmoe::executor {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are copied as they lie in files");

struct TypeRow {
  TensorType type;
  std::string_view name;
  std::int64_t bytes;
};
constexpr std::array kTypes = {
    TypeRow{TensorType::kI64, "I64", 8}, TypeRow{TensorType::kF32, "F32", 4},
    TypeRow{TensorType::kI32, "I32", 4}, TypeRow{TensorType::kBf16, "BF16", 2},
    TypeRow{TensorType::kF16, "F16", 2}, TypeRow{TensorType::kF8E4m3, "F8_E4M3", 1},
    TypeRow{TensorType::kU8, "U8", 1},
};

const TypeRow& row_of(TensorType type) {
  const TypeRow& row = kTypes[static_cast<std::size_t>(type)];
  assert(row.type == type);
  return row;
}

// IEEE 754 binary16: 5 bits of exponent with bias 15, 10 of mantissa.
float from_f16(std::uint16_t bits) {
  const float sign = bits & 0x8000 ? -1.0F : 1.0F;
  const int exponent = (bits >> 10) & 0x1f;
  const int mantissa = bits & 0x3ff;
  if (exponent == 0x1f) return mantissa == 0 ? sign * INFINITY : NAN;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), -24);
  return sign * std::ldexp(static_cast<float>(mantissa + 0x400), exponent - 25);
}

// Bits is the unsigned integer as wide as an element; the bytes need no alignment.
template <class Bits, class Convert>
void convert(std::span<const std::byte> bytes, std::span<float> floats, Convert from_bits) {
  for (std::size_t idx = 0; idx < floats.size(); ++idx) {
    Bits bits;
    std::memcpy(&bits, bytes.data() + idx * sizeof bits, sizeof bits);
    floats[idx] = from_bits(bits);
  }
}

}  // namespace

std::string_view name_of(TensorType type) { return row_of(type).name; }
std::int64_t bytes_of(TensorType type) { return row_of(type).bytes; }

std::optional<TensorType> find_tensor_type(std::string_view name) {
  for (const TypeRow& row : kTypes)
    if (row.name == name) return row.type;
  return std::nullopt;
}

std::string tensor_type_names() {
  std::string names;
  for (const TypeRow& row : kTypes) names += fmt::format("{}{}", names.empty() ? "" : ", ", row.name);
  return names;
}

std::optional<std::int64_t> count_bytes(TensorType type, std::span<const std::int64_t> shape) {
  std::int64_t bytes = bytes_of(type);
  for (const std::int64_t extent : shape)
    if (extent < 0 || __builtin_mul_overflow(bytes, extent, &bytes)) return std::nullopt;
  return bytes;
}

std::int64_t TensorInfo::bytes() const {
  const std::optional<std::int64_t> bytes = count_bytes(type, shape);
  assert(bytes);
  return *bytes;
}

std::string shape_text(std::span<const std::int64_t> shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

void to_floats(TensorType type, std::span<const std::byte> bytes, std::span<float> floats) {
  assert(bytes.size() == floats.size() * static_cast<std::size_t>(bytes_of(type)));
  switch (type) {
    case TensorType::kF32:
      if (!bytes.empty()) std::memcpy(floats.data(), bytes.data(), bytes.size());
      return;
    case TensorType::kBf16: return convert<std::uint16_t>(bytes, floats, kernels::cpu::from_bf16);
    case TensorType::kF16: return convert<std::uint16_t>(bytes, floats, from_f16);
    case TensorType::kF8E4m3: return convert<std::uint8_t>(bytes, floats, kernels::cpu::from_e4m3);
    case TensorType::kI64:
    case TensorType::kI32:
    case TensorType::kU8: break;
  }
  assert(false && "an integer type");
}

std::vector<std::byte> from_floats(TensorType type, std::span<const float> floats) {
  assert(type == TensorType::kF32 || type == TensorType::kBf16);
  const auto size = static_cast<std::size_t>(bytes_of(type));
  std::vector<std::byte> bytes(floats.size() * size);
  for (std::size_t idx = 0; idx < floats.size(); ++idx) {
    const std::uint16_t narrow = kernels::cpu::to_bf16(floats[idx]);
    const void* const from = type == TensorType::kF32 ? static_cast<const void*>(&floats[idx]) : &narrow;
    std::memcpy(bytes.data() + idx * size, from, size);
  }
  return bytes;
}

}  // namespace msmoe::executor
