#include "executor/telling/appended_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "executor/checkpoint/disk.h"

namespace msmoe::executor {

AppendedFile::AppendedFile(std::string path, Open how) : path_(std::move(path)) {
  const int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (how == Open::kMustBeNew ? O_EXCL : 0);
  descriptor_ = Descriptor(::open(path_.c_str(), flags, 0666));
  if (!descriptor_.is_open()) throw UserError(path_, "", fmt::format("cannot be opened: {}", std::strerror(errno)));
}

void AppendedFile::append(std::string_view piece) {
  if (failed_) return;
  struct stat before {};
  const bool can_be_cut = ::fstat(descriptor_.value(), &before) == 0 && S_ISREG(before.st_mode);  // a pipe cannot
  while (!piece.empty()) {
    const auto written = ::write(descriptor_.value(), piece.data(), piece.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      const int why = errno;
      failed_ = true;
      // Should even this fail, a half line stays, which a resumed run cuts off.
      if (can_be_cut && ::ftruncate(descriptor_.value(), before.st_size) != 0) errno = why;
      errno = why;
      disk_fault(path_, "cannot be written");
    }
    piece.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace msmoe::executor
