#include "executor/mapped_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cassert>
#include <cerrno>
#include <cstring>

#include "core/error.h"

namespace msmoe::executor {
namespace {

[[noreturn]] void refuse(const std::string& path, int error) {
  throw UserError(path, "", fmt::format("cannot be read: {}", std::strerror(error)),
                  error == EMFILE ? "join files or raise the limit (ulimit -n)" : "");
}

}  // namespace

MappedFile::MappedFile(std::string path) : path_(std::move(path)) {
  // Without O_NONBLOCK a pipe would be waited for.
  descriptor_ = Descriptor(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!descriptor_.is_open()) refuse(path_, errno);
  struct stat status {};
  if (::fstat(descriptor_.value(), &status) != 0) refuse(path_, errno);
  if (!S_ISREG(status.st_mode)) throw UserError(path_, "", "is not a regular file");
  size_ = status.st_size;
  if (size_ == 0) return;  // which cannot be mapped
  void* const memory = ::mmap(nullptr, static_cast<std::size_t>(size_), PROT_READ, MAP_SHARED, descriptor_.value(), 0);
  if (memory == MAP_FAILED) refuse(path_, errno);
  memory_ = static_cast<const std::byte*>(memory);
}

MappedFile::~MappedFile() {
  if (memory_) ::munmap(const_cast<std::byte*>(memory_), static_cast<std::size_t>(size_));
}

std::span<const std::byte> MappedFile::bytes(std::int64_t offset, std::int64_t length) const {
  assert(offset >= 0 && length >= 0 && offset <= size_ && length <= size_ - offset);
  if (length == 0) return {};
  struct stat status {};
  if (::fstat(descriptor_.value(), &status) != 0) refuse(path_, errno);
  if (status.st_size < offset + length)
    throw UserError(path_, fmt::format("byte {}", status.st_size),
                    fmt::format("the file ends here, but had {} bytes when it was opened", size_),
                    "it must not be changed while it is in use");
  return {memory_ + offset, static_cast<std::size_t>(length)};
}

}  // namespace msmoe::executor
