#include "executor/launch/frame.h"

#include <bit>
#include <cstring>

namespace msmoe::executor {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are copied as they lie in memory");

constexpr std::string_view kMagic = "msmoeRV1";
constexpr std::size_t kHeader = 16;

std::uint32_t number_at(std::string_view bytes, std::size_t offset) {
  std::uint32_t value = 0;
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value;
}

}  // namespace

std::string encode(const Frame& frame) {
  std::string bytes(kMagic);
  bytes += PayloadWriter().number(static_cast<std::uint32_t>(frame.kind)).text(frame.payload).take();
  return bytes;
}

std::optional<Frame> FrameReader::next() {
  const std::size_t length_of_magic = std::min(bytes_.size(), kMagic.size());
  if (std::string_view(bytes_).substr(0, length_of_magic) != kMagic.substr(0, length_of_magic)) throw MalformedFrame();
  if (bytes_.size() < kHeader) return std::nullopt;
  const std::uint32_t kind = number_at(bytes_, 8), length = number_at(bytes_, 12);
  if (kind < static_cast<std::uint32_t>(FrameKind::hello) || kind > static_cast<std::uint32_t>(FrameKind::lost) ||
      length > longest_)
    throw MalformedFrame();
  if (bytes_.size() < kHeader + length) return std::nullopt;
  Frame frame{static_cast<FrameKind>(kind), bytes_.substr(kHeader, length)};
  bytes_.erase(0, kHeader + length);
  return frame;
}

PayloadWriter& PayloadWriter::number(std::uint32_t value) {
  bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  return *this;
}

PayloadWriter& PayloadWriter::text(std::string_view value) {
  number(static_cast<std::uint32_t>(value.size()));
  bytes_ += value;
  return *this;
}

std::uint32_t PayloadReader::number() { return number_at(take(sizeof(std::uint32_t)), 0); }

std::string PayloadReader::text() { return std::string(take(number())); }

void PayloadReader::expect_end() const {
  if (!bytes_.empty()) throw MalformedFrame();
}

std::string_view PayloadReader::take(std::size_t length) {
  if (length > bytes_.size()) throw MalformedFrame();
  const std::string_view taken = bytes_.substr(0, length);
  bytes_.remove_prefix(length);
  return taken;
}

}  // namespace msmoe::executor
