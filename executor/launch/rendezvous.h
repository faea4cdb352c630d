// Rendezvous: what the processes of a job tell each other before they have NCCL or Gloo, and how they learn afterwards
// that one of them has died.
//
// All are connected to rank 0 over TCP, and stay so. A process that ends, however it does, closes its socket: rank 0
// sees that at once and tells all others which rank was lost. Hosts without power or network are noticed after 15 s.
//
//     Rendezvous rendezvous({.rank = 3, .num_ranks = 8, .host = "node0", .port = 29500}, [](int rank) { ... });
//     const std::vector<std::string> addresses = rendezvous.exchange(my_address);
//     ...                                     // train
//     rendezvous.leave();                     // or else the others take this rank for lost
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "executor/launch/join.h"

namespace msmoe::executor {

// A fault, exit code 3.
struct RankLost : std::runtime_error {
  explicit RankLost(int lost);
  int rank;
};

// exchange(), barrier() and leave() are collective: every rank calls the same ones in the same order, from one thread.
// The options' time-out holds for each; its error, a std::runtime_error, names the ranks that did not come, on every
// rank. A rank that is lost ends them with RankLost. Memory and sockets are not to be used in a forked process.
class Rendezvous {
 public:
  // Returns when all ranks are there; errors are those of gather_ranks() and join_rank_zero().
  // on_lost is called from another thread, once, when the first rank is lost; it must not destroy this object.
  explicit Rendezvous(RendezvousOptions options, std::function<void(int rank)> on_lost = {});
  ~Rendezvous();
  Rendezvous(const Rendezvous&) = delete;
  Rendezvous& operator=(const Rendezvous&) = delete;

  // Every rank's bytes, in order. REQUIRES: at most kLongestOffer bytes, and 2 GiB of all ranks.
  std::vector<std::string> exchange(const std::string& bytes);
  void barrier() { exchange(""); }
  // The last collective: from its return on, ranks may end. Nothing is noticed any more.
  void leave();

  // The first rank that was lost. Any thread may ask.
  std::optional<int> lost_rank() const;

  // Numeric address of this host in its connection to rank 0; on rank 0 in one that comes from another host, or a
  // loopback address where all are on this one.
  std::string local_address() const;

 private:
  std::vector<std::string> collective(Frame offer);
  void watch();
  bool watch_ranks();
  bool watch_rank_zero();
  void hear(int rank, const Frame& frame);
  void complete();
  void lose(int rank);
  void tell_others(const Frame& frame, int except);
  void wake();
  std::vector<int> not_offered() const;

  RendezvousOptions options_;
  std::function<void(int)> on_lost_;
  // By rank: on rank 0 all but its own, elsewhere only that of rank 0. Rank 0 sends and receives in the thread alone,
  // the others send in the caller's.
  std::vector<std::unique_ptr<Connection>> connections_;
  Descriptor wake_read_, wake_write_;  // a pipe that the thread listens to, too

  mutable std::mutex mutex_;  // of all below
  std::condition_variable changed_;
  std::vector<std::optional<Frame>> offers_;     // on rank 0: of the exchange that goes on
  std::optional<std::vector<std::string>> all_;  // what it brought; taken by the caller
  std::optional<std::string> failure_, told_;    // told_: a failure that the thread has still to tell
  std::optional<int> lost_;
  bool left_ = false, stop_ = false;

  std::thread thread_;
};

}  // namespace msmoe::executor
