// A file that is there whole or not at all: bytes go to a temporary name beside it, and commit() renames.
//
// What is not a regular file (/dev/stdout, a pipe) has nothing to rename and is written straight away. Every failure
// is a std::runtime_error of one line that names the file and the reason; the temporary file is then removed and
// what stood under the name before still stands.
#pragma once

#include <string>
#include <string_view>

namespace msmoe::reports {

class OutputFile {
 public:
  explicit OutputFile(std::string path);
  ~OutputFile();  // without commit(): the temporary file goes
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(std::string_view bytes);
  void commit();

 private:
  void open_temporary();
  void discard();
  [[noreturn]] void fail(int error);

  std::string path_;       // as the user named it
  std::string target_;     // path_ with links followed
  std::string temporary_;  // empty: written straight to path_
  int descriptor_ = -1;
};

}  // namespace msmoe::reports
