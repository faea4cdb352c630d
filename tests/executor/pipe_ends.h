// A pipe between a test and the processes that it starts, and what they wrote.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

#include "executor/descriptor.h"

namespace msmoe::executor {

class PipeEnds {
 public:
  PipeEnds() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    read_end_ = Descriptor(ends[0]);
    write_end_ = Descriptor(ends[1]);
  }
  int write_end() const { return write_end_.value(); }
  void inherit() { ::fcntl(write_end_.value(), F_SETFD, 0); }  // the writing end, by programs too
  void close_read() { read_end_.close(); }
  void close_write() { write_end_.close(); }

  // Without its end; waits for it. Empty where all writers have ended.
  std::string read_line() {
    std::string line;
    for (char c = 0; ::read(read_end_.value(), &c, 1) == 1 && c != '\n';) line += c;
    return line;
  }
  // Until all writers have ended.
  std::string read_to_end() {
    std::string text;
    for (char c = 0; ::read(read_end_.value(), &c, 1) == 1;) text += c;
    return text;
  }
  // Until something was written or all writers have ended; false at the deadline.
  bool wait(std::chrono::steady_clock::time_point deadline) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    pollfd polled{.fd = read_end_.value(), .events = POLLIN, .revents = 0};
    return ::poll(&polled, 1, static_cast<int>(std::max<std::int64_t>(left, 0))) == 1;
  }

 private:
  Descriptor read_end_, write_end_;
};

// Closes it.
inline std::string contents_of(FILE* file) {
  std::string text(static_cast<std::size_t>(::lseek(::fileno(file), 0, SEEK_END)), '\0');
  EXPECT_EQ(::pread(::fileno(file), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  std::fclose(file);
  return text;
}

}  // namespace msmoe::executor
