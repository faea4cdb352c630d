#include "executor/telling/tf_record.h"

#include <bit>
#include <span>

#include "executor/checkpoint/crc32c.h"

namespace msmoe::executor {

std::uint32_t masked_crc32c(std::string_view bytes) {
  constexpr std::uint32_t kMaskDelta = 0xa282ead8;
  return std::rotr(crc32c(std::as_bytes(std::span(bytes))), 15) + kMaskDelta;
}

void append_little_endian(std::string& bytes, std::uint64_t value, int num_bytes) {
  for (int byte_idx = 0; byte_idx < num_bytes; ++byte_idx)
    bytes.push_back(static_cast<char>(static_cast<unsigned char>(value >> (8 * byte_idx))));
}

std::string tf_record(std::string_view data) {
  std::string record;
  append_little_endian(record, data.size(), 8);
  append_little_endian(record, masked_crc32c(record), 4);
  record += data;
  append_little_endian(record, masked_crc32c(data), 4);
  return record;
}

}  // namespace msmoe::executor
