#include "executor/launch/socket.h"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <stdexcept>

namespace msmoe::executor {
namespace {

using Addresses = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

// host nullptr: all addresses of this host. Empty, with a complaint, where the name is not known.
Addresses resolve(const char* host, int port, int family, std::string& complaint) {
  addrinfo wanted{}, *found = nullptr;
  wanted.ai_family = family;
  wanted.ai_socktype = SOCK_STREAM;
  wanted.ai_flags = AI_NUMERICSERV | (host == nullptr ? AI_PASSIVE : 0);
  const int error = ::getaddrinfo(host, std::to_string(port).c_str(), &wanted, &found);
  if (error != 0) complaint = ::gai_strerror(error);
  return {error == 0 ? found : nullptr, &::freeaddrinfo};
}

Descriptor open_socket(const addrinfo& at) {
  return Descriptor(::socket(at.ai_family, at.ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, at.ai_protocol));
}

void set_option(int socket, int level, int option, int value) {
  ::setsockopt(socket, level, option, &value, sizeof(value));
}

// True where it listens; else errno tells why not.
bool listen_at(const Descriptor& socket, const addrinfo& at) {
  if (!socket.is_open()) return false;
  set_option(socket.value(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (at.ai_family == AF_INET6) set_option(socket.value(), IPPROTO_IPV6, IPV6_V6ONLY, 0);
  return ::bind(socket.value(), at.ai_addr, at.ai_addrlen) == 0 && ::listen(socket.value(), SOMAXCONN) == 0;
}

// 0, or the errno of what went wrong.
int finish_connect(int socket, Deadline deadline) {
  pollfd wait{.fd = socket, .events = POLLOUT, .revents = 0};
  int ready = 0;
  do {
    ready = ::poll(&wait, 1, milliseconds_until(deadline));
  } while (ready < 0 && errno == EINTR);
  if (ready == 0) return ETIMEDOUT;
  int error = 0;
  socklen_t length = sizeof(error);
  ::getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &length);
  return error;
}

}  // namespace

int milliseconds_until(Deadline deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, 1 << 30));
}

Descriptor listen_on(const std::string& host, int port) {
  std::string complaint = "no address";
  for (const int family : {AF_INET6, AF_INET}) {  // one of IPv6 serves both, where there is IPv6
    const Addresses addresses = resolve(is_loopback(host) ? host.c_str() : nullptr, port, family, complaint);
    for (const addrinfo* at = addresses.get(); at != nullptr; at = at->ai_next) {
      Descriptor socket = open_socket(*at);
      if (listen_at(socket, *at)) return socket;
      complaint = std::strerror(errno);
    }
  }
  throw std::runtime_error(fmt::format("port {} of this host cannot be listened on: {}", port, complaint));
}

int port_of(int socket) {
  sockaddr_storage at{};
  socklen_t length = sizeof(at);
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&at), &length) != 0)
    throw std::runtime_error(fmt::format("getsockname: {}", std::strerror(errno)));
  return ntohs(at.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(at).sin6_port
                                        : reinterpret_cast<const sockaddr_in&>(at).sin_port);
}

std::string local_address_of(int socket) {
  sockaddr_storage at{};
  socklen_t length = sizeof(at);
  std::array<char, NI_MAXHOST> text{};
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&at), &length) != 0 ||
      ::getnameinfo(reinterpret_cast<sockaddr*>(&at), length, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST) !=
          0)
    throw std::runtime_error(fmt::format("the address of a connection is not known: {}", std::strerror(errno)));
  const std::string name = text.data();
  const std::string mapped = "::ffff:";  // RFC 4291, 2.5.5.2
  return name.starts_with(mapped) && name.find('.') != std::string::npos ? name.substr(mapped.size()) : name;
}

bool is_loopback(const std::string& host) { return host == "localhost" || host == "::1" || host.starts_with("127."); }

ConnectResult connect_to(const std::string& host, int port, Deadline deadline) {
  ConnectResult result;
  const Addresses addresses = resolve(host.c_str(), port, AF_UNSPEC, result.complaint);
  for (const addrinfo* at = addresses.get(); at != nullptr; at = at->ai_next) {
    Descriptor socket = open_socket(*at);
    int error = socket.is_open() && ::connect(socket.value(), at->ai_addr, at->ai_addrlen) == 0 ? 0 : errno;
    if (error == EINPROGRESS) error = finish_connect(socket.value(), deadline);
    if (error == 0) return {std::move(socket), ""};
    result.complaint = std::strerror(error);
  }
  return result;
}

Descriptor accept_from(int listener) {
  const int socket = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (socket < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM || errno == EBADF ||
                     errno == EINVAL || errno == ENOTSOCK))
    throw std::runtime_error(fmt::format("no connection can be accepted: {}", std::strerror(errno)));
  return Descriptor(socket);
}

void tune(int socket) {
  set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(socket, IPPROTO_TCP, TCP_KEEPIDLE, 5);
  set_option(socket, IPPROTO_TCP, TCP_KEEPINTVL, 2);
  set_option(socket, IPPROTO_TCP, TCP_KEEPCNT, 5);
  set_option(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, 15'000);
}

std::string address(const std::string& host, int port) {
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port) : fmt::format("[{}]:{}", host, port);
}

}  // namespace msmoe::executor
