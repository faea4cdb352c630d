#include "executor/launch/line_relay.h"

#include <fcntl.h>
#include <poll.h>

#include <array>
#include <cerrno>
#include <string_view>
#include <utility>

namespace msmoe::executor {
namespace {

constexpr std::size_t kPiece = std::size_t{1} << 16, kPiecesAtOnce = 16;
constexpr std::size_t kLongestLine = std::size_t{1} << 20, kLongestLastLine = 400;

// What nobody reads any more is dropped.
void write_all(int target, std::string_view text) {
  while (!text.empty()) {
    const auto written = ::write(target, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EAGAIN) {
      pollfd wait{.fd = target, .events = POLLOUT, .revents = 0};
      ::poll(&wait, 1, -1);
    } else if (errno != EINTR) {
      return;
    }
  }
}

}  // namespace

LineRelay::LineRelay(Descriptor source, int target) : source_(std::move(source)), target_(target) {
  ::fcntl(source_.value(), F_SETFL, ::fcntl(source_.value(), F_GETFL) | O_NONBLOCK);
}

void LineRelay::pump() {
  for (std::size_t piece = 0; piece < kPiecesAtOnce && read_piece(); ++piece) {
  }
}

void LineRelay::finish() {
  while (read_piece()) {
  }
  source_.close();
  if (pending_.empty()) return;
  pending_ += '\n';
  pass_on(pending_.size());
}

bool LineRelay::read_piece() {
  if (!source_.is_open()) return false;
  std::array<char, kPiece> piece;
  const auto length = ::read(source_.value(), piece.data(), piece.size());
  if (length < 0 && errno == EINTR) return true;
  if (length < 0 && errno == EAGAIN) return false;
  if (length <= 0) {
    source_.close();
    return false;
  }
  const std::size_t before = pending_.size();
  pending_.append(piece.data(), static_cast<std::size_t>(length));
  const std::size_t newline = pending_.rfind('\n');
  if (newline != std::string::npos && newline >= before) pass_on(newline + 1);
  if (pending_.size() > kLongestLine) pass_on(pending_.size());
  return true;
}

void LineRelay::pass_on(std::size_t length) {
  const std::string_view lines = std::string_view(pending_).substr(0, length);
  write_all(target_, lines);
  if (const std::size_t end = lines.find_last_not_of("\r\n"); end != std::string_view::npos) {
    const std::size_t start = lines.substr(0, end).rfind('\n');
    last_line_ = lines.substr(start == std::string_view::npos ? 0 : start + 1);
    last_line_.resize(std::min(last_line_.find_last_not_of("\r\n") + 1, kLongestLastLine));
  }
  pending_.erase(0, length);
}

}  // namespace msmoe::executor
