// A file that grows by whole pieces while a training runs: each piece is with the operating system when append()
// returns, so a killed process loses none. (A loss of power may lose the last seconds: nothing waits for the disk.)
#pragma once

#include <string>
#include <string_view>

#include "executor/descriptor.h"

namespace msmoe::executor {

class AppendedFile {
 public:
  enum class Open { kAppend, kMustBeNew };

  // A UserError where the file cannot be opened, or is there already with kMustBeNew.
  AppendedFile(std::string path, Open how);

  // All of the piece, or none of it: where the disk is full the file is cut back to what it was before, and a
  // std::runtime_error names file and reason. That is told once; from then on append() does nothing, so a training that
  // goes on without this file is not told at every step.
  void append(std::string_view piece);
  bool failed() const { return failed_; }

 private:
  std::string path_;
  Descriptor descriptor_;
  bool failed_ = false;
};

}  // namespace msmoe::executor
