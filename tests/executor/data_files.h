// Data sets for tests, written byte by byte from what the formats say: no code is shared with the readers.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "executor/data/token_source.h"
#include "tests/executor/scratch_folder.h"

namespace msmoe::executor {

// A folder of its own for each test, gone after it.
class DataFiles : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return scratch_ / name; }
  // A line that names a file of the folder, without the folder.
  std::string without_folder(const std::string& line) const {
    return line.starts_with(path("")) ? line.substr(path("").size()) : line;
  }
  std::string write(const std::string& name, std::string_view bytes) const {
    std::filesystem::remove(path(name));  // ext4 would flush a file that is written over to the disk
    std::ofstream(path(name), std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return path(name);
  }

  const ScratchFolder scratch_;
};

// The bytes of numbers, one after the other.
template <class Number, class Value>
std::string bytes_of(const std::vector<Value>& values) {
  std::string bytes;
  for (const Value value : values) {
    const auto number = static_cast<Number>(value);
    bytes.append(reinterpret_cast<const char*>(&number), sizeof number);
  }
  return bytes;
}
template <class Number>
std::string bytes_of(std::int64_t value) {
  return bytes_of<Number>(std::vector{value});
}

using Tokens = std::vector<std::int32_t>;

// PREFIX.idx of documents, each of sequences of so many tokens. Number of the type as the format has it.
inline std::string megatron_index(int type, std::int64_t token_bytes,
                                  const std::vector<std::vector<std::int32_t>>& documents) {
  std::vector<std::int64_t> sizes, pointers, ends = {0};
  std::int64_t pointer = 0;
  for (const auto& document : documents) {
    for (const std::int32_t size : document) {
      sizes.push_back(size);
      pointers.push_back(pointer);
      pointer += size * token_bytes;
    }
    ends.push_back(static_cast<std::int64_t>(sizes.size()));
  }
  return std::string("MMIDIDX\0\0", 9) + bytes_of<std::uint64_t>(1) + bytes_of<std::uint8_t>(type) +
         bytes_of<std::uint64_t>(static_cast<std::int64_t>(sizes.size())) +
         bytes_of<std::uint64_t>(static_cast<std::int64_t>(ends.size())) + bytes_of<std::int32_t>(sizes) +
         bytes_of<std::int64_t>(pointers) + bytes_of<std::int64_t>(ends);
}

// A file of llm.c.
template <class Number>
std::string llm_c_file(std::int32_t magic, std::int32_t version, const Tokens& tokens) {
  std::vector<std::int32_t> header(256);
  header[0] = magic;
  header[1] = version;
  header[2] = static_cast<std::int32_t>(tokens.size());
  return bytes_of<std::int32_t>(header) + bytes_of<Number>(tokens);
}

// So many tokens, none of them 0: 1, 2, ..., most, 1, 2, ...
inline Tokens counting(std::int64_t num_tokens, std::int32_t most) {
  Tokens tokens;
  for (std::int64_t idx = 0; idx < num_tokens; ++idx) tokens.push_back(static_cast<std::int32_t>(1 + idx % most));
  return tokens;
}

inline Tokens read_all(const TokenSource& source) {
  Tokens tokens(static_cast<std::size_t>(source.num_tokens()));
  source.copy(0, tokens);
  return tokens;
}

inline std::vector<std::int64_t> document_begins(const TokenSource& source) {
  std::vector<std::int64_t> begins;
  for (std::int64_t idx = 0; idx <= source.num_documents(); ++idx) begins.push_back(source.document_begin(idx));
  return begins;
}

// The line that refuses it, or nothing.
std::string refusal(const auto& action) {
  try {
    action();
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

}  // namespace msmoe::executor
