#include "executor/communication/gloo_transport.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gloo/transport/context.h>
#include <gloo/transport/tcp/device.h>
#include <gloo/transport/unbound_buffer.h>

#include <algorithm>
#include <cassert>
#include <utility>

#include "core/error.h"
#include "executor/blocked_signals.h"
#include "executor/launch/frame.h"

namespace msmoe::executor {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kNoTime{0};
constexpr milliseconds kForEver = std::chrono::hours(1000);
constexpr std::uint64_t kWatchedSlot = ~std::uint64_t{0};  // no channel's

// Gloo waits five times a pair's time-out for its connection.
constexpr int kGlooConnectFactor = 5;

double seconds(milliseconds time) { return static_cast<double>(time.count()) / 1000; }

// Gloo's own text starts with the place in its source: "[/build/gloo/transport/tcp/pair.cc:598] Connection closed".
std::string text_of(const std::exception& error) {
  const std::string text = error.what();
  const std::size_t end = text.find("] ");
  return text.starts_with('[') && end != std::string::npos ? text.substr(end + 2) : text;
}

// Which address of this host the others connect to. Ranks on rank 0's host may know it by a loopback address, which
// does when all are there; else they take rank 0's own.
std::string listening_address(const std::string& wanted, Rendezvous& rendezvous, int rank) {
  in6_addr number;  // a name that is not known would end Gloo
  if (!wanted.empty() && ::inet_pton(AF_INET, wanted.c_str(), &number) != 1 &&
      ::inet_pton(AF_INET6, wanted.c_str(), &number) != 1)
    throw UserError("", "",
                    fmt::format("'{}' is not an address; give the numeric one of this host, such as 10.0.0.5", wanted));
  const std::vector<std::string> addresses = rendezvous.exchange(wanted.empty() ? rendezvous.local_address() : wanted);
  const std::string& mine = addresses[static_cast<std::size_t>(rank)];
  return is_loopback(mine) ? addresses[0] : mine;
}

}  // namespace

// ---- Transfer

GlooTransport::Transfer::Transfer(GlooTransport& transport, Direction direction, int peer, void* data,
                                  std::size_t bytes)
    : transport_(transport),
      direction_(direction),
      peer_(peer),
      buffer_(transport.context_->createUnboundBuffer(data, bytes)) {
  const std::lock_guard lock(transport_.mutex_);
  transport_.transfers_.push_back(this);
}

GlooTransport::Transfer::~Transfer() {
  const std::lock_guard lock(transport_.mutex_);
  std::erase(transport_.transfers_, this);
}

// An interrupted wait says nothing about the transfer, which may have been done before its peer closed: asked again.
bool GlooTransport::Transfer::wait(Deadline deadline) {
  const auto left = std::chrono::ceil<milliseconds>(deadline - std::chrono::steady_clock::now());
  try {
    return wait_for(std::clamp(left, kNoTime, kForEver)) || (!abandoned_ && wait_for(kNoTime));
  } catch (const std::exception&) {
    return false;
  }
}

bool GlooTransport::Transfer::wait_for(milliseconds time) {
  return direction_ == Direction::kSend ? buffer_->waitSend(time) : buffer_->waitRecv(time);
}

void GlooTransport::Transfer::abandon() {
  abandoned_ = true;
  interrupt();
}

void GlooTransport::Transfer::interrupt() {
  direction_ == Direction::kSend ? buffer_->abortWaitSend() : buffer_->abortWaitRecv();
}

// ---- GlooTransport

GlooTransport::GlooTransport(int rank, int num_ranks, const std::string& address, milliseconds timeout,
                             Rendezvous& rendezvous)
    : rank_(rank), num_ranks_(num_ranks), timeout_(timeout) {
  const std::string listening = listening_address(address, rendezvous, rank);
  connect(listening, rendezvous);
  const BlockedSignals blocked;
  watcher_ = std::thread([this] { watch(); });
}

GlooTransport::~GlooTransport() {
  {
    const std::lock_guard lock(mutex_);
    assert(transfers_.empty());
    stop_ = true;
    if (watched_) watched_->abortWaitRecv();
  }
  watcher_.join();
}

// Each pair of ranks has a connection of its own: the addresses of all of a rank's ends, by peer, are its offer.
void GlooTransport::connect(const std::string& address, Rendezvous& rendezvous) {
  PayloadWriter ends;
  try {
    const BlockedSignals blocked;
    device_ = gloo::transport::tcp::CreateDevice(address.c_str());
    context_ = device_->createContext(rank_, num_ranks_);
    context_->setTimeout(std::max(timeout_ / kGlooConnectFactor, milliseconds{1}));
    for (int peer = 0; peer < num_ranks_; ++peer) {
      if (peer == rank_) {
        ends.text("");
        continue;
      }
      const std::vector<char> end = context_->createPair(peer)->address().bytes();
      ends.text({end.data(), end.size()});
    }
  } catch (const std::exception& error) {
    throw CommunicationFault(fmt::format("rank {} cannot listen at {}: {}", rank_, address, text_of(error)));
  }
  const std::vector<std::string> offers = rendezvous.exchange(ends.take());
  for (int peer = 0; peer < num_ranks_; ++peer) {
    if (peer == rank_) continue;
    PayloadReader ends_of_peer(offers[static_cast<std::size_t>(peer)]);
    for (int other = 0; other < rank_; ++other) ends_of_peer.text();
    const std::string end = ends_of_peer.text();
    try {
      context_->getPair(peer)->connect({end.begin(), end.end()});
    } catch (const std::exception& error) {
      throw CommunicationFault(
          fmt::format("rank {} at {} cannot connect to rank {}: {}", rank_, address, peer, text_of(error)));
    }
  }
}

std::unique_ptr<GlooTransport::Transfer> GlooTransport::send(std::uint32_t channel, int to, const void* data,
                                                             std::size_t bytes, const char* operation) {
  return start(Direction::kSend, channel, to, const_cast<void*>(data), bytes, operation);  // Gloo only reads it
}

std::unique_ptr<GlooTransport::Transfer> GlooTransport::receive(std::uint32_t channel, int from, void* data,
                                                                std::size_t bytes, const char* operation) {
  return start(Direction::kReceive, channel, from, data, bytes, operation);
}

std::unique_ptr<GlooTransport::Transfer> GlooTransport::start(Direction direction, std::uint32_t channel, int peer,
                                                              void* data, std::size_t bytes, const char* operation) {
  assert(peer != rank_ && peer >= 0 && peer < num_ranks_ && bytes > 0);
  {
    const std::lock_guard lock(mutex_);
    if (!fault_.empty()) throw CommunicationFault(fault_);
  }
  std::unique_ptr<Transfer> transfer(new Transfer(*this, direction, peer, data, bytes));
  try {
    const BlockedSignals blocked;
    if (direction == Direction::kSend) {
      transfer->buffer_->send(peer, channel);
    } else {
      transfer->buffer_->recv(peer, channel);
    }
  } catch (const std::exception&) {
    fail(peer, deadline(), operation);
  }
  return transfer;
}

void GlooTransport::finish(Transfer& transfer, Deadline deadline, const char* operation) {
  if (!transfer.wait(deadline)) fail(transfer.peer(), deadline, operation);
}

void GlooTransport::fail(int peer, Deadline deadline, const char* operation) {
  const bool is_late = std::chrono::steady_clock::now() >= deadline;
  const std::lock_guard lock(mutex_);
  if (fault_.empty()) {
    fault_ = is_late ? fmt::format("rank {} did not answer within {} s: {} on rank {}", peer, seconds(timeout_),
                                   operation, rank_)
                     : fmt::format("rank {} closed its connection: {} on rank {}", gone_.empty() ? peer : gone_.front(),
                                   operation, rank_);
    for (int other = 0; other < num_ranks_; ++other)
      if (other != rank_) context_->getPair(other)->close();
  }
  throw CommunicationFault(fault_);
}

// ---- The watcher's thread

// Each round waits until one more peer is gone.
void GlooTransport::watch() {
  while (true) {
    gloo::transport::UnboundBuffer* watched = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (stop_ || !fault_.empty()) return;
      watched_ = context_->createUnboundBuffer(nullptr, 0);
      watched = watched_.get();
      for (int peer = 0; peer < num_ranks_; ++peer) {
        if (peer == rank_ || std::find(gone_.begin(), gone_.end(), peer) != gone_.end()) continue;
        try {
          watched->recv(peer, kWatchedSlot);
        } catch (const std::exception&) {
          lose(peer);
        }
      }
    }
    try {
      watched->waitRecv(kForEver);
      return;  // stopped
    } catch (const std::exception&) {
    }
  }
}

void GlooTransport::lose(int peer) {
  gone_.push_back(peer);
  for (Transfer* transfer : transfers_)
    if (transfer->peer() == peer) transfer->interrupt();
}

}  // namespace msmoe::executor
