#include "executor/launch/join.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <cassert>
#include <stdexcept>
#include <thread>

#include "core/error.h"

namespace msmoe::executor {
namespace {

using Clock = std::chrono::steady_clock;

std::string hello_of(const RendezvousOptions& options) {
  PayloadWriter hello;
  hello.number(static_cast<std::uint32_t>(options.rank)).number(static_cast<std::uint32_t>(options.num_ranks));
  hello.text(options.job).number(static_cast<std::uint32_t>(options.must_agree.size()));
  for (const auto& [name, value] : options.must_agree) hello.text(name).text(value);
  return hello.take();
}

// One attempt. Where it does not succeed, complaint says why; a failure of the whole job is thrown.
std::unique_ptr<Connection> try_to_join(const RendezvousOptions& options, Deadline deadline, std::string& complaint) {
  ConnectResult connected = connect_to(options.host, options.port, deadline);
  if (!connected.socket.is_open()) {
    complaint = connected.complaint;
    return nullptr;
  }
  const std::uint64_t longest = 4 + static_cast<std::uint64_t>(options.num_ranks) * (4 + kLongestOffer);
  auto connection = std::make_unique<Connection>(
      std::move(connected.socket), static_cast<std::uint32_t>(std::min<std::uint64_t>(longest, 1u << 31)));
  const Deadline last = deadline + kGraceOfOthers;
  connection->send({FrameKind::hello, hello_of(options)}, last);
  complaint = "it does not answer";
  pollfd wait{.fd = connection->descriptor(), .events = POLLIN, .revents = 0};
  while (::poll(&wait, 1, milliseconds_until(last)) != 0) {
    const bool open = connection->receive();
    if (const auto frame = connection->next_frame()) {
      PayloadReader payload(frame->payload);
      if (frame->kind == FrameKind::welcome) return connection;
      if (frame->kind == FrameKind::failed) {
        const auto kind = static_cast<ErrorKind>(payload.number());
        throw_error(kind, payload.text());
      }
      complaint = frame->kind == FrameKind::refused ? payload.text() : "it answers out of turn";
      return nullptr;
    }
    if (!open) {
      complaint = "it closes the connection";
      return nullptr;
    }
  }
  return nullptr;
}

}  // namespace

void throw_error(ErrorKind kind, const std::string& text) {
  if (kind == ErrorKind::user) throw UserError("", "", text);
  throw std::runtime_error(text);
}

std::string name_ranks(const std::vector<int>& ranks) {
  constexpr std::size_t kMostNamed = 10;
  if (ranks.size() == 1) return fmt::format("rank {}", ranks[0]);
  std::vector<std::string> names;
  for (std::size_t idx = 0; idx < std::min(ranks.size(), kMostNamed); ++idx)
    names.push_back(std::to_string(ranks[idx]));
  if (ranks.size() > kMostNamed) return fmt::format("ranks {} and {} more", join(names), ranks.size() - kMostNamed);
  const std::string last = names.back();
  names.pop_back();
  return fmt::format("ranks {} and {}", join(names), last);
}

std::unique_ptr<Connection> join_rank_zero(const RendezvousOptions& options) {
  assert(options.rank > 0 && options.rank < options.num_ranks);
  const Deadline deadline = Clock::now() + options.timeout;
  std::chrono::milliseconds pause{10};
  std::string complaint = "no time was given";
  while (Clock::now() < deadline) {
    try {
      if (auto connection = try_to_join(options, deadline, complaint)) return connection;
    } catch (const MalformedFrame& malformed) {
      complaint = std::string("what listens there ") + malformed.what();
    }
    std::this_thread::sleep_until(std::min(deadline, Clock::now() + pause));
    pause = std::min(pause * 2, std::chrono::milliseconds{500});
  }
  throw std::runtime_error(fmt::format("rank {} cannot reach rank 0 at {} within {} s: {}", options.rank,
                                       address(options.host, options.port),
                                       static_cast<double>(options.timeout.count()) / 1000, complaint));
}

}  // namespace msmoe::executor
