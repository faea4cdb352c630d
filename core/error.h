// The one exception for a mistake of the user's. Readers and validators throw it; each tool's main catches it
// once, prints what() on one line to standard error, and exits with kExitUsage. Our own mistakes are assertions.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace msmoe {

enum ExitCode : int {
  kExitDone = 0,
  kExitNo = 1,     // the answer is no: nothing fits, a validation failed
  kExitUsage = 2,  // bad usage or input
  kExitFault = 3,  // a fault while running: device, network, disk
};

class UserError : public std::runtime_error {
 public:
  // file: as the user named it, may be empty. place: a key path, a flag, or "line 3, column 7"; may be empty.
  // message: what is wrong, with the value. hint: what is allowed or what to do; may be empty.
  UserError(std::string file, std::string place, std::string message, std::string hint = {});

  const std::string& file() const { return file_; }
  const std::string& place() const { return place_; }
  const std::string& message() const { return message_; }
  const std::string& hint() const { return hint_; }

 private:
  std::string file_, place_, message_, hint_;
};

// The candidate nearest to word by edit distance, or empty if none is near (more than a third of it differs).
std::string nearest_word(std::string_view word, const std::vector<std::string>& candidates);

// At most `longest` bytes of the user's text as plain ASCII, to be quoted in a message.
std::string excerpt(std::string_view text, std::size_t longest = 60);

// "a, b, c"
std::string join(const std::vector<std::string>& words, std::string_view separator = ", ");

}  // namespace msmoe
