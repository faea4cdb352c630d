// Frames: what the processes of a job say to each other while they find each other and afterwards.
//
//   bytes 0-7    "msmoeRV1"
//   bytes 8-11   kind
//   bytes 12-15  length of the payload, bytes
//   then         the payload: numbers of 4 bytes, and texts, each after its length
//
// All numbers are little-endian. What does not start so, or is longer than is allowed, is a MalformedFrame as soon as
// that can be seen.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace msmoe::executor {

enum class FrameKind : std::uint32_t {
  hello = 1,    // to rank 0, first: rank, num_ranks, job, what must agree
  welcome = 2,  // to all others, once all are there
  refused = 3,  // the text says why; another attempt may go better
  failed = 4,   // an ErrorKind and a text: the end for everybody
  offer = 5,    // one rank's bytes of an exchange
  leave = 6,    // this rank is done
  all = 7,      // every rank's bytes, in order
  lost = 8,     // the rank whose process has ended
};

struct Frame {
  FrameKind kind{};
  std::string payload;
};

struct MalformedFrame : std::runtime_error {
  MalformedFrame() : std::runtime_error("does not speak as a process of this program does") {}
};

std::string encode(const Frame& frame);

// Puts frames together from bytes that arrive in pieces of any size.
class FrameReader {
 public:
  explicit FrameReader(std::uint32_t longest) : longest_(longest) {}  // payload, bytes
  void add(std::string_view bytes) { bytes_ += bytes; }
  std::optional<Frame> next();  // none: it has not wholly arrived yet

 private:
  std::uint32_t longest_;
  std::string bytes_;
};

class PayloadWriter {
 public:
  PayloadWriter& number(std::uint32_t value);
  PayloadWriter& text(std::string_view value);
  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

// A MalformedFrame where the payload ends before that which is asked for.
class PayloadReader {
 public:
  explicit PayloadReader(std::string_view bytes) : bytes_(bytes) {}
  std::uint32_t number();
  std::string text();
  void expect_end() const;

 private:
  std::string_view take(std::size_t length);
  std::string_view bytes_;
};

}  // namespace msmoe::executor
