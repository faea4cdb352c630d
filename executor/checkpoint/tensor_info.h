// A tensor as files describe it: a name, the type of its elements, a shape. Rows are contiguous, bytes little-endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace msmoe::executor {

// In the order in which a file holds them: by falling alignment, as the published writer has it.
enum class TensorType : std::uint8_t { kI64, kF32, kI32, kBf16, kF16, kF8E4m3, kU8 };

std::string_view name_of(TensorType type);  // "F32", as the header of a file spells it
std::optional<TensorType> find_tensor_type(std::string_view name);
std::string tensor_type_names();  // "I64, F32, ...", for messages
std::int64_t bytes_of(TensorType type);

struct TensorInfo {
  std::string name;
  TensorType type = TensorType::kF32;
  std::vector<std::int64_t> shape;  // outermost first; empty: a scalar
  std::int64_t begin = 0;  // its first byte, counted from the first of the file's data; set by whoever lays out

  std::int64_t bytes() const;  // REQUIRES a size that can be counted: see count_bytes
  bool operator==(const TensorInfo&) const = default;
};

// Nothing where an extent is negative or the product does not fit in 63 bits.
std::optional<std::int64_t> count_bytes(TensorType type, std::span<const std::int64_t> shape);

std::string shape_text(std::span<const std::int64_t> shape);  // "[2, 3]"

// The elements as fp32: exact for all types of floating point here. REQUIRES such a type, and as many bytes as
// elements.
void to_floats(TensorType type, std::span<const std::byte> bytes, std::span<float> floats);
// The other way, rounded to nearest even. REQUIRES kF32 or kBf16.
std::vector<std::byte> from_floats(TensorType type, std::span<const float> floats);

}  // namespace msmoe::executor
