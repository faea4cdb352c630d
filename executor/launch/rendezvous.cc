#include "executor/launch/rendezvous.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include "executor/blocked_signals.h"

namespace msmoe::executor {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kTimeToTell{5};

Frame failed_frame(const std::string& text) {
  return {FrameKind::failed, PayloadWriter().number(static_cast<std::uint32_t>(ErrorKind::fault)).text(text).take()};
}

double seconds(std::chrono::milliseconds time) { return static_cast<double>(time.count()) / 1000; }

}  // namespace

RankLost::RankLost(int lost)
    : std::runtime_error(fmt::format("rank {} was lost: its process ended", lost)), rank(lost) {}

Rendezvous::Rendezvous(RendezvousOptions options, std::function<void(int)> on_lost)
    : options_(std::move(options)), on_lost_(std::move(on_lost)) {
  assert(options_.num_ranks >= 1 && options_.rank >= 0 && options_.rank < options_.num_ranks);
  const Descriptor unused(options_.num_ranks == 1 ? options_.listener : -1);
  if (options_.num_ranks == 1) return;
  if (options_.rank == 0) {
    connections_ = gather_ranks(options_);
  } else {
    connections_.push_back(join_rank_zero(options_));
  }
  offers_.resize(static_cast<std::size_t>(options_.num_ranks));
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0)
    throw std::runtime_error(fmt::format("pipe2: {}", std::strerror(errno)));
  wake_read_ = Descriptor(ends[0]);
  wake_write_ = Descriptor(ends[1]);

  const BlockedSignals blocked;
  thread_ = std::thread([this] { watch(); });
}

Rendezvous::~Rendezvous() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake();
  thread_.join();
}

std::vector<std::string> Rendezvous::exchange(const std::string& bytes) {
  assert(bytes.size() <= kLongestOffer);
  return collective({FrameKind::offer, bytes});
}

// The thread ends by itself then, once it has told the others.
void Rendezvous::leave() {
  collective({FrameKind::leave, ""});
  if (thread_.joinable()) thread_.join();
}

std::optional<int> Rendezvous::lost_rank() const {
  const std::lock_guard lock(mutex_);
  return lost_;
}

std::string Rendezvous::local_address() const {
  std::string found = "127.0.0.1";
  for (const auto& connection : connections_) {
    if (!connection) continue;
    found = local_address_of(connection->descriptor());
    if (!is_loopback(found)) break;
  }
  return found;
}

std::vector<std::string> Rendezvous::collective(Frame offer) {
  if (options_.num_ranks == 1) return {offer.payload};
  {
    const std::lock_guard lock(mutex_);
    assert(!left_);  // before anything is sent: the answer to a farewell may be there as soon as that is
  }
  std::chrono::milliseconds patience = options_.timeout;
  if (options_.rank != 0) {
    patience += kGraceOfOthers;
    connections_[0]->send(offer, Clock::now() + patience);  // where it fails, the thread learns why
  }
  std::unique_lock lock(mutex_);
  if (options_.rank == 0) {
    offers_[0] = std::move(offer);
    wake();
  }
  const bool ended = changed_.wait_for(lock, patience, [&] { return all_ || failure_ || lost_; });
  if (all_) return *std::exchange(all_, std::nullopt);
  // A failure that all are told ends rank 0 as well, and so comes before its loss.
  if (lost_ && !failure_) throw RankLost(*lost_);
  if (!ended && options_.rank == 0) {
    failure_ = told_ =
        fmt::format("{} did not come to an exchange within {} s", name_ranks(not_offered()), seconds(options_.timeout));
    wake();
  } else if (!ended) {
    failure_ = fmt::format("rank 0 at {} did not answer within {} s", address(options_.host, options_.port),
                           seconds(patience));
  }
  throw std::runtime_error(*failure_);
}

// ---- The thread.

void Rendezvous::watch() {
  while (options_.rank == 0 ? watch_ranks() : watch_rank_zero()) {
    const std::lock_guard lock(mutex_);
    if (left_ || lost_ || (stop_ && !told_)) return;
  }
}

// False where there is nothing more to watch.
bool Rendezvous::watch_ranks() {
  std::vector<pollfd> polled = {{.fd = wake_read_.value(), .events = POLLIN, .revents = 0}};
  for (std::size_t rank = 1; rank < connections_.size(); ++rank)
    polled.push_back({.fd = connections_[rank]->descriptor(), .events = POLLIN, .revents = 0});
  ::poll(polled.data(), polled.size(), -1);
  std::array<char, 64> ignored;
  [[maybe_unused]] const auto length = ::read(wake_read_.value(), ignored.data(), ignored.size());

  for (std::size_t rank = 1; rank < connections_.size(); ++rank) {
    if (polled[rank].revents == 0) continue;
    bool open = false;
    try {
      open = connections_[rank]->receive();
      while (const auto frame = connections_[rank]->next_frame()) hear(static_cast<int>(rank), *frame);
    } catch (const MalformedFrame&) {
      open = false;
    }
    if (!open) {
      lose(static_cast<int>(rank));
      return false;
    }
  }
  std::optional<std::string> to_tell;
  {
    const std::lock_guard lock(mutex_);
    to_tell = std::exchange(told_, std::nullopt);
  }
  if (to_tell) {
    tell_others(failed_frame(*to_tell), -1);
    return true;
  }
  complete();
  return true;
}

bool Rendezvous::watch_rank_zero() {
  std::array<pollfd, 2> polled = {{{.fd = wake_read_.value(), .events = POLLIN, .revents = 0},
                                   {.fd = connections_[0]->descriptor(), .events = POLLIN, .revents = 0}}};
  ::poll(polled.data(), polled.size(), -1);
  if (polled[1].revents == 0) return true;
  bool open = false;
  try {
    open = connections_[0]->receive();
    while (const auto frame = connections_[0]->next_frame()) hear(0, *frame);
  } catch (const MalformedFrame&) {
    open = false;
  }
  {
    const std::lock_guard lock(mutex_);
    if (open || left_ || lost_) return !left_ && !lost_;
  }
  lose(0);
  return false;
}

void Rendezvous::hear(int rank, const Frame& frame) {
  PayloadReader payload(frame.payload);
  if (frame.kind == FrameKind::lost) return lose(static_cast<int>(payload.number()));
  const std::lock_guard lock(mutex_);
  if (options_.rank == 0) {
    if (frame.kind != FrameKind::offer && frame.kind != FrameKind::leave) throw MalformedFrame();
    offers_[static_cast<std::size_t>(rank)] = frame;
  } else if (frame.kind == FrameKind::failed) {
    payload.number();
    failure_ = payload.text();
  } else if (frame.kind == FrameKind::all) {
    left_ = payload.number() != 0;
    all_.emplace();
    for (int from = 0; from < options_.num_ranks; ++from) all_->push_back(payload.text());
  } else {
    throw MalformedFrame();
  }
  changed_.notify_all();
}

// Rank 0: once every rank has offered, all get all.
void Rendezvous::complete() {
  Frame answer;
  {
    const std::lock_guard lock(mutex_);
    if (failure_ || !not_offered().empty()) return;
    std::vector<int> others;
    for (std::size_t rank = 0; rank < offers_.size(); ++rank)
      if (offers_[rank]->kind != offers_[0]->kind) others.push_back(static_cast<int>(rank));
    if (others.empty()) {
      left_ = offers_[0]->kind == FrameKind::leave;
      PayloadWriter payload;
      payload.number(left_ ? 1 : 0);
      all_.emplace();
      for (auto& offer : offers_) {
        payload.text(offer->payload);
        all_->push_back(std::move(offer->payload));
        offer.reset();
      }
      answer = {FrameKind::all, payload.take()};
    } else {
      failure_ = fmt::format("{} and rank 0 do not agree whether the job has ended", name_ranks(others));
      answer = failed_frame(*failure_);
    }
  }
  changed_.notify_all();
  tell_others(answer, -1);
}

void Rendezvous::lose(int rank) {
  {
    const std::lock_guard lock(mutex_);
    if (lost_) return;
    lost_ = rank;
  }
  changed_.notify_all();
  if (options_.rank == 0)
    tell_others({FrameKind::lost, PayloadWriter().number(static_cast<std::uint32_t>(rank)).take()}, rank);
  if (on_lost_) on_lost_(rank);
}

// A rank that does not take it will be found lost, or is told nothing because it hangs.
void Rendezvous::tell_others(const Frame& frame, int except) {
  const Deadline deadline = Clock::now() + kTimeToTell;
  for (std::size_t rank = 1; rank < connections_.size(); ++rank)
    if (static_cast<int>(rank) != except) connections_[rank]->send(frame, deadline);
}

void Rendezvous::wake() { [[maybe_unused]] const auto written = ::write(wake_write_.value(), "w", 1); }

std::vector<int> Rendezvous::not_offered() const {
  std::vector<int> ranks;
  for (std::size_t rank = 0; rank < offers_.size(); ++rank)
    if (!offers_[rank]) ranks.push_back(static_cast<int>(rank));
  return ranks;
}

}  // namespace msmoe::executor
