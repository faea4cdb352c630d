// The part of rank 0 in join.h.
#include <fmt/format.h>
#include <poll.h>
#include <sys/resource.h>

#include <algorithm>
#include <cassert>
#include <list>

#include "core/error.h"
#include "executor/launch/join.h"

namespace msmoe::executor {
namespace {

using Clock = std::chrono::steady_clock;

// What a guest may say before it is known, bytes; and how many unknown ones are kept beside those that may be ranks.
constexpr std::uint32_t kLongestOfGuest = kLongestOffer + 64;
constexpr std::size_t kMostStrangers = 256;
constexpr std::chrono::seconds kTimeToTell{5};

// One descriptor for each rank, which may be more than a process is given unasked.
void allow_descriptors() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

struct Hello {
  std::uint32_t rank = 0, num_ranks = 0;
  std::string job;
  std::vector<std::pair<std::string, std::string>> must_agree;
};

Hello read_hello(const Frame& frame) {
  if (frame.kind != FrameKind::hello) throw MalformedFrame();
  PayloadReader payload(frame.payload);
  Hello hello{.rank = payload.number(), .num_ranks = payload.number(), .job = payload.text()};
  for (std::uint32_t left = payload.number(); left > 0; --left) {
    std::string name = payload.text();
    hello.must_agree.emplace_back(std::move(name), payload.text());
  }
  payload.expect_end();
  return hello;
}

// The gathering, from the first connection to the welcome.
class Gathering {
 public:
  explicit Gathering(const RendezvousOptions& options)
      : options_(options),
        listener_(options.listener >= 0 ? Descriptor(options.listener) : listen_on(options.host, options.port)),
        joined_(static_cast<std::size_t>(options.num_ranks)) {}

  std::vector<std::unique_ptr<Connection>> run() {
    const Deadline deadline = Clock::now() + options_.timeout;
    while (!missing().empty()) {
      if (!wait(deadline))
        fail(ErrorKind::fault,
             fmt::format("{} of {} missing after {} s at {}", name_ranks(missing()), options_.num_ranks,
                         static_cast<double>(options_.timeout.count()) / 1000, address(options_.host, options_.port)));
    }
    for (auto& connection : joined_)
      if (connection) connection->send({FrameKind::welcome, ""}, Clock::now() + kTimeToTell);
    return std::move(joined_);
  }

 private:
  std::vector<int> missing() const {
    std::vector<int> ranks;
    for (int rank = 1; rank < options_.num_ranks; ++rank)
      if (!joined_[static_cast<std::size_t>(rank)]) ranks.push_back(rank);
    return ranks;
  }

  // False at the deadline.
  bool wait(Deadline deadline) {
    std::vector<pollfd> polled = {{.fd = listener_.value(), .events = POLLIN, .revents = 0}};
    const auto watch = [&](const Connection& connection) {
      polled.push_back({.fd = connection.descriptor(), .events = POLLIN, .revents = 0});
    };
    std::vector<int> ranks;
    for (int rank = 1; rank < options_.num_ranks; ++rank) {
      if (!joined_[static_cast<std::size_t>(rank)]) continue;
      watch(*joined_[static_cast<std::size_t>(rank)]);
      ranks.push_back(rank);
    }
    for (const auto& guest : guests_) watch(*guest);
    // Strangers may call again and again; they do not put the deadline off.
    if (Clock::now() >= deadline || ::poll(polled.data(), polled.size(), milliseconds_until(deadline)) == 0)
      return false;

    std::size_t at = 1;
    for (const int rank : ranks)
      if (polled[at++].revents != 0 && !joined_[static_cast<std::size_t>(rank)]->receive())
        fail(ErrorKind::fault, fmt::format("rank {} was lost while others were waited for", rank));
    for (auto guest = guests_.begin(); guest != guests_.end();) {
      const bool stays = polled[at++].revents == 0 || hear(*guest);
      guest = stays ? std::next(guest) : guests_.erase(guest);
    }
    if (polled[0].revents != 0) accept_guests();
    return true;
  }

  void accept_guests() {
    for (Descriptor socket = accept_from(listener_.value()); socket.is_open();
         socket = accept_from(listener_.value())) {
      guests_.push_back(std::make_unique<Connection>(std::move(socket), kLongestOfGuest));
      if (guests_.size() > kMostStrangers + joined_.size()) guests_.pop_front();
    }
  }

  // False where the guest is to be forgotten: it has joined, or is none of ours.
  bool hear(std::unique_ptr<Connection>& guest) {
    try {
      const bool open = guest->receive();
      const auto frame = guest->next_frame();
      if (!frame) return open;
      admit(read_hello(*frame), guest);
    } catch (const MalformedFrame&) {
    }
    return false;
  }

  void admit(const Hello& hello, std::unique_ptr<Connection>& guest) {
    if (hello.job != options_.job) {
      guest->send({FrameKind::refused, PayloadWriter().text("another job listens there").take()}, Clock::now());
      return;
    }
    const int rank = static_cast<int>(hello.rank);
    const auto disagree = [&](std::string_view what, std::string_view theirs, std::string_view ours) {
      joined_[0] = std::move(guest);  // so that it is told, too
      fail(ErrorKind::user, fmt::format("{} is '{}' on rank {} but '{}' on rank 0; every rank needs the same", what,
                                        excerpt(theirs), rank, excerpt(ours)));
    };
    if (hello.num_ranks != static_cast<std::uint32_t>(options_.num_ranks))
      disagree("the number of ranks", std::to_string(hello.num_ranks), std::to_string(options_.num_ranks));
    for (std::size_t idx = 0; idx < std::max(hello.must_agree.size(), options_.must_agree.size()); ++idx) {
      static const std::pair<std::string, std::string> kNothing;
      const auto& theirs = idx < hello.must_agree.size() ? hello.must_agree[idx] : kNothing;
      const auto& ours = idx < options_.must_agree.size() ? options_.must_agree[idx] : kNothing;
      if (theirs.first != ours.first) disagree("the list of what must agree", theirs.first, ours.first);
      if (theirs.second != ours.second) disagree(ours.first, theirs.second, ours.second);
    }
    if (hello.rank == 0 || hello.rank >= joined_.size()) throw MalformedFrame();
    auto& place = joined_[hello.rank];
    if (place) {
      joined_[0] = std::move(guest);
      fail(ErrorKind::user, fmt::format("two processes say that they are rank {}", rank));
    }
    place = std::move(guest);
  }

  [[noreturn]] void fail(ErrorKind kind, const std::string& text) {
    const std::string payload = PayloadWriter().number(static_cast<std::uint32_t>(kind)).text(text).take();
    for (auto& connection : joined_)
      if (connection) connection->send({FrameKind::failed, payload}, Clock::now() + kTimeToTell);
    throw_error(kind, text);
  }

  const RendezvousOptions& options_;
  Descriptor listener_;
  std::vector<std::unique_ptr<Connection>> joined_;  // by rank
  std::list<std::unique_ptr<Connection>> guests_;    // have not said who they are
};

}  // namespace

std::vector<std::unique_ptr<Connection>> gather_ranks(const RendezvousOptions& options) {
  assert(options.rank == 0);
  allow_descriptors();
  return Gathering(options).run();
}

}  // namespace msmoe::executor
