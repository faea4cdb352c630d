// TokenArray: tokens of one width that lie one after the other in a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

#include "executor/mapped_file.h"

namespace msmoe::executor {

// One number of a file, little-endian as the machine is, at any alignment. REQUIRES: sizeof(Number) bytes there.
template <class Number>
Number load(const std::byte* from) {
  Number number;
  std::memcpy(&number, from, sizeof number);
  return number;
}

enum class TokenType { kUint8, kInt8, kUint16, kInt16, kInt32, kUint32, kInt64 };
std::int64_t bytes_per_token(TokenType type);

class TokenArray {
 public:
  // From byte begin of the file on. REQUIRES: all tokens lie inside the file; 1 <= vocabulary_size <= 2^31.
  TokenArray(std::shared_ptr<const MappedFile> file, std::int64_t begin, TokenType type, std::int64_t num_tokens,
             std::int64_t vocabulary_size);

  const std::string& path() const { return file_->path(); }
  std::int64_t num_tokens() const { return num_tokens_; }
  // As TokenSource::copy.
  void copy(std::int64_t first, std::span<std::int32_t> out) const;

 private:
  std::shared_ptr<const MappedFile> file_;
  std::int64_t begin_;  // byte
  TokenType type_;
  std::int64_t num_tokens_, vocabulary_size_;
};

}  // namespace msmoe::executor
