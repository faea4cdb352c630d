// CRC-32C, the checksum of iSCSI, ext4 and SSE 4.2 (Castagnoli polynomial 0x1edc6f41, bits reversed, inverted before
// and after: RFC 3720, section 12.1). It finds every error burst of up to 32 bits, and any other damage but for one
// case in 2^32. It is no protection against somebody who means to deceive.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace msmoe::executor {

// Of `before`'s bytes followed by these: crc32c(b, crc32c(a)) is that of a and b joined.
std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t before = 0);

// The same without the processor's own instruction, which crc32c takes where there is one.
std::uint32_t crc32c_in_software(std::span<const std::byte> bytes, std::uint32_t before = 0);

}  // namespace msmoe::executor
