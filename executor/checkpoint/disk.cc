#include "executor/checkpoint/disk.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <utility>
#include <vector>

#include "core/error.h"
#include "executor/checkpoint/crc32c.h"
#include "executor/descriptor.h"

namespace msmoe::executor {
namespace {

// Some file systems have nothing to write through and say EINVAL.
bool sync(int descriptor) { return ::fsync(descriptor) == 0 || errno == EINVAL; }

}  // namespace

void disk_fault(const std::string& path, const std::string& what) {
  throw std::runtime_error(fmt::format("{}: {}: {}", path, what, std::strerror(errno)));
}

FileWriter::FileWriter(std::string path) : path_(std::move(path)) {
  record_.name = std::filesystem::path(path_).filename().string();
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) disk_fault(path_, "cannot be written");
}

FileWriter::~FileWriter() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(path_.c_str());
}

// In pieces, so that the checksum finds them in the processor's cache.
void FileWriter::append(std::span<const std::byte> bytes) {
  constexpr std::size_t kPiece = std::size_t{1} << 20;
  while (!bytes.empty()) {
    const auto written = ::write(descriptor_, bytes.data(), std::min(bytes.size(), kPiece));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) disk_fault(path_, "cannot be written");
    const auto piece = bytes.first(static_cast<std::size_t>(written));
    record_.crc32c = crc32c(piece, record_.crc32c);
    record_.bytes += written;
    bytes = bytes.subspan(piece.size());
  }
}

FileRecord FileWriter::finish() {
  if (!sync(descriptor_)) disk_fault(path_, "cannot be written");
  if (::close(std::exchange(descriptor_, -1)) != 0) {
    const int why = errno;
    ::unlink(path_.c_str());
    errno = why;
    disk_fault(path_, "cannot be written");
  }
  return record_;
}

bool is_plain_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == name.npos && name.find('\0') == name.npos;
}

FileRecord write_file(const std::string& path, std::string_view text) {
  FileWriter file(path);
  file.append(std::as_bytes(std::span(text)));
  return file.finish();
}

void sync_folder(const std::string& folder) {
  const Descriptor descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!descriptor.is_open() || !sync(descriptor.value())) disk_fault(folder, "cannot be written");
}

// Not mapped: a sector that the disk cannot read any more is then an error, not the end of the process.
FileRecord measure_file(const std::string& path) {
  FileRecord record{.name = std::filesystem::path(path).filename().string()};
  const Descriptor descriptor(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  std::vector<std::byte> buffer(std::size_t{1} << 20);
  while (true) {
    const auto length = !descriptor.is_open() ? -1 : ::read(descriptor.value(), buffer.data(), buffer.size());
    if (length < 0 && errno == EINTR) continue;
    if (length < 0) throw UserError(path, "", fmt::format("cannot be read: {}", std::strerror(errno)));
    if (length == 0) return record;
    record.crc32c = crc32c(std::span(buffer).first(static_cast<std::size_t>(length)), record.crc32c);
    record.bytes += length;
  }
}

}  // namespace msmoe::executor
