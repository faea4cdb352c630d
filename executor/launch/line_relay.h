// LineRelay: passes what comes out of a pipe on to another file, in whole lines only, so that those of several
// processes can share a terminal or a log.
#pragma once

#include <string>

#include "executor/descriptor.h"

namespace msmoe::executor {

class LineRelay {
 public:
  // The source is set to non-blocking; the target is not owned, and is waited for.
  LineRelay(Descriptor source, int target);

  int descriptor() const { return source_.value(); }  // -1 once the source has ended

  // Passes on the lines that have arrived; what comes after the last of them waits for its end, but a line of more than
  // 1 MiB is passed on in pieces. Reads 1 MiB at most, so that one loud process does not silence the others.
  void pump();
  // Passes on all that has arrived, with a line end where the last line has none, and closes the source.
  void finish();

  // The last line that is not empty, cut to 400 bytes.
  const std::string& last_line() const { return last_line_; }

 private:
  bool read_piece();  // false where nothing has arrived
  void pass_on(std::size_t length);

  Descriptor source_;
  int target_;
  std::string pending_;
  std::string last_line_;
};

}  // namespace msmoe::executor
