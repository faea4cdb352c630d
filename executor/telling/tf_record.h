// The framing of TensorFlow's record files (tensorflow/core/lib/io/record_writer.cc); all numbers little-endian:
//
//   u64 length | u32 masked crc32c of those 8 bytes | data | u32 masked crc32c of the data
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace msmoe::executor {

// A checksum of bytes that hold checksums themselves is weak, so LevelDB and TensorFlow turn it by 15 bits to the right
// and add a constant.
std::uint32_t masked_crc32c(std::string_view bytes);

std::string tf_record(std::string_view data);

// Appends the low `num_bytes` bytes of a number, lowest first.
void append_little_endian(std::string& bytes, std::uint64_t value, int num_bytes);

}  // namespace msmoe::executor
