// TCP sockets that never block and are not inherited; every wait has a deadline.
#pragma once

#include <chrono>
#include <string>

#include "executor/descriptor.h"

namespace msmoe::executor {

using Deadline = std::chrono::steady_clock::time_point;

// Milliseconds for poll: until the deadline, rounded up; 0 once it has passed.
int milliseconds_until(Deadline deadline);

// A socket that listens: on this host alone where `host` is a loopback address, else on all its addresses, for the
// name under which others know this host need not be one of its own. Port 0: any that is free. A std::runtime_error
// that names the port where it is taken.
Descriptor listen_on(const std::string& host, int port);
int port_of(int socket);

// Numeric address of this host's end of a connection. An IPv4 one that an IPv6 socket serves is written as such.
std::string local_address_of(int socket);
bool is_loopback(const std::string& host);

// What connect_to() found: a connected socket, or why there is none.
struct ConnectResult {
  Descriptor socket;
  std::string complaint;
};
ConnectResult connect_to(const std::string& host, int port, Deadline deadline);

// The next connection that waits; none: not open. A std::runtime_error where the system cannot go on.
Descriptor accept_from(int listener);

// Small messages leave at once; a peer whose host has lost power or network counts as closed after 15 s.
void tune(int socket);

std::string address(const std::string& host, int port);  // "host:port", "[::1]:port"

}  // namespace msmoe::executor
