#include "executor/launch/connection.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <utility>

namespace msmoe::executor {

Connection::Connection(Descriptor socket, std::uint32_t longest) : socket_(std::move(socket)), frames_(longest) {
  tune(socket_.value());
}

// 1 MiB at most, so that one talkative peer does not keep the others waiting.
bool Connection::receive() {
  std::array<char, std::size_t{1} << 16> piece;
  for (int pieces = 0; pieces < 16; ++pieces) {
    const auto length = ::recv(socket_.value(), piece.data(), piece.size(), 0);
    if (length < 0 && errno == EINTR) continue;
    if (length < 0) return errno == EAGAIN;
    if (length == 0) return false;
    frames_.add({piece.data(), static_cast<std::size_t>(length)});
  }
  return true;
}

bool Connection::send(const Frame& frame, Deadline deadline) {
  const std::string bytes = encode(frame);
  for (std::string_view left = bytes; !left.empty();) {
    const auto length = ::send(socket_.value(), left.data(), left.size(), MSG_NOSIGNAL);
    if (length >= 0) {
      left.remove_prefix(static_cast<std::size_t>(length));
    } else if (errno == EAGAIN) {
      pollfd wait{.fd = socket_.value(), .events = POLLOUT, .revents = 0};
      if (::poll(&wait, 1, milliseconds_until(deadline)) == 0) return false;
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

}  // namespace msmoe::executor
