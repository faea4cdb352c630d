// Files that survive: written through to the disk, with size and checksum taken on the way. What a disk refuses while
// we write is a fault (std::runtime_error, exit 3), what a user names to be read and is not there a UserError.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace msmoe::executor {

// What is known of a file once it is written; a manifest is a list of these.
struct FileRecord {
  std::string name;  // without its folder
  std::int64_t bytes = 0;
  std::uint32_t crc32c = 0;
  bool operator==(const FileRecord&) const = default;
};

// One file, written from front to back. Unless finish() is reached the destructor removes it.
class FileWriter {
 public:
  explicit FileWriter(std::string path);  // what was there under this name is gone
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  void append(std::span<const std::byte> bytes);
  // The bytes are on the disk when this returns; the file's name is only once sync_folder() was called.
  FileRecord finish();

 private:
  std::string path_;
  int descriptor_ = -1;
  FileRecord record_;
};

// For names that a file on the disk gives to another: one that cannot lead out of its folder.
bool is_plain_name(std::string_view name);

FileRecord write_file(const std::string& path, std::string_view text);

// The names of the files in this folder are on the disk when this returns.
void sync_folder(const std::string& folder);

// Size and checksum of a file as it is now; a UserError where it cannot be read to its end.
FileRecord measure_file(const std::string& path);

[[noreturn]] void disk_fault(const std::string& path, const std::string& what);  // with the text of errno

}  // namespace msmoe::executor
