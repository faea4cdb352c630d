// MappedFile: a file's bytes in memory, as the kernel pages them in. Nothing is read before it is asked for, and all
// processes of one host share one copy.
//
// Memory that a file no longer backs cannot be touched without dying of SIGBUS, so every access asks first how long the
// file is now. What remains is a file cut short in the microseconds between the question and the access.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "executor/descriptor.h"

namespace msmoe::executor {

class MappedFile {
 public:
  // A UserError where path is not a regular file that can be read. An empty file is one.
  explicit MappedFile(std::string path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  std::int64_t size() const { return size_; }  // bytes, when it was opened

  // The bytes [offset, offset + length), to be used at once. A UserError where the file was cut short since it was
  // opened. REQUIRES: 0 <= offset, 0 <= length, offset + length <= size().
  std::span<const std::byte> bytes(std::int64_t offset, std::int64_t length) const;

 private:
  std::string path_;
  Descriptor descriptor_;
  std::int64_t size_ = 0;
  const std::byte* memory_ = nullptr;  // [size_]; nullptr where that is 0
};

}  // namespace msmoe::executor
