// In software: "slicing by 8" (Kounavis and Berry, ISCC 2005). Table k holds what a byte does to the checksum when k
// more bytes follow it, so that eight bytes take eight look-ups which do not wait for one another.
#include "executor/checkpoint/crc32c.h"

#include <array>
#include <bit>
#include <cstring>

namespace msmoe::executor {
namespace {

static_assert(std::endian::native == std::endian::little, "words of eight bytes are taken apart from the lowest up");

using Table = std::array<std::uint32_t, 256>;

constexpr std::array<Table, 8> make_tables() {
  constexpr std::uint32_t kPolynomial = 0x82f63b78;  // with its bits reversed
  std::array<Table, 8> tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ (value & 1 ? kPolynomial : 0);
    tables[0][byte] = value;
  }
  for (std::size_t table_idx = 1; table_idx < 8; ++table_idx)
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t value = tables[table_idx - 1][byte];
      tables[table_idx][byte] = (value >> 8) ^ tables[0][value & 0xff];
    }
  return tables;
}
constexpr std::array<Table, 8> kTables = make_tables();

std::uint64_t load_word(const std::byte* at) {
  std::uint64_t word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) std::uint32_t crc32c_in_hardware(std::span<const std::byte> bytes,
                                                                   std::uint32_t before) {
  std::uint64_t value = ~before;
  for (; bytes.size() >= 8; bytes = bytes.subspan(8)) value = __builtin_ia32_crc32di(value, load_word(bytes.data()));
  auto rest = static_cast<std::uint32_t>(value);
  for (const std::byte byte : bytes) rest = __builtin_ia32_crc32qi(rest, std::to_integer<unsigned char>(byte));
  return ~rest;
}
#endif

}  // namespace

std::uint32_t crc32c_in_software(std::span<const std::byte> bytes, std::uint32_t before) {
  std::uint32_t value = ~before;
  for (; bytes.size() >= 8; bytes = bytes.subspan(8)) {
    const std::uint64_t word = load_word(bytes.data()) ^ value;
    value = 0;
    for (std::size_t byte_idx = 0; byte_idx < 8; ++byte_idx)
      value ^= kTables[7 - byte_idx][(word >> (8 * byte_idx)) & 0xff];
  }
  for (const std::byte byte : bytes)
    value = (value >> 8) ^ kTables[0][(value ^ std::to_integer<std::uint32_t>(byte)) & 0xff];
  return ~value;
}

std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t before) {
#ifdef __x86_64__
  static const bool has_instruction = __builtin_cpu_supports("sse4.2") != 0;
  if (has_instruction) return crc32c_in_hardware(bytes, before);
#endif
  return crc32c_in_software(bytes, before);
}

}  // namespace msmoe::executor
