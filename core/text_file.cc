#include "core/text_file.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <system_error>

#include "core/error.h"

namespace msmoe {
namespace {

constexpr std::size_t kLargestFile = std::size_t{64} << 20;

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

[[noreturn]] void disk_fault(const std::string& path) {
  throw std::runtime_error(fmt::format("{}: cannot be written: {}", path, std::strerror(errno)));
}

void write_whole(const std::string& path, std::string_view text) {
  File file(std::fopen(path.c_str(), "wb"));
  if (!file) disk_fault(path);
  if (std::fwrite(text.data(), 1, text.size(), file.get()) != text.size()) disk_fault(path);
  if (std::fclose(file.release()) != 0) disk_fault(path);
}

}  // namespace

std::string read_text_file(const std::string& path) {
  const File file(std::fopen(path.c_str(), "rb"));
  if (!file) throw UserError(path, "", fmt::format("cannot be read: {}", std::strerror(errno)));
  std::string text;
  char buffer[1 << 16];
  while (const std::size_t length = std::fread(buffer, 1, sizeof buffer, file.get())) {
    text.append(buffer, length);
    if (text.size() > kLargestFile) throw UserError(path, "", "larger than 64 MiB");
  }
  if (std::ferror(file.get())) throw UserError(path, "", fmt::format("cannot be read: {}", std::strerror(errno)));
  return text;
}

void write_text_file(const std::string& path, std::string_view text) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  // A device or a pipe (/dev/stdout) is written to, not replaced; a symbolic link keeps pointing where it did.
  if (fs::exists(path, ignored) && !fs::is_regular_file(path, ignored)) return write_whole(path, text);
  const std::string target = fs::is_symlink(path, ignored) ? fs::weakly_canonical(path, ignored).string() : path;

  const std::string temporary = fmt::format("{}.{}.tmp", target, ::getpid());
  try {
    write_whole(temporary, text);
    if (std::rename(temporary.c_str(), target.c_str()) != 0) disk_fault(target);
  } catch (...) {
    std::remove(temporary.c_str());
    throw;
  }
}

}  // namespace msmoe
