// Communicators between threads of one process, over memory that all of them see.
#pragma once

#include <algorithm>
#include <barrier>
#include <cassert>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "core/group.h"
#include "executor/communication/communicator.h"
#include "executor/communication/mesh.h"

namespace msmoe::executor {

// What the ranks of a group show each other during a collective.
struct ThreadGroup {
  explicit ThreadGroup(std::size_t size) : barrier(static_cast<std::ptrdiff_t>(size)), in(size), sizes(size) {}
  std::barrier<> barrier;
  std::vector<const std::byte*> in;
  std::vector<std::vector<std::size_t>> sizes;
};

class ThreadCommunicator : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<ThreadGroup> group, std::size_t rank) : group_(std::move(group)), rank_(rank) {}
  int rank() const override { return static_cast<int>(rank_); }
  int size() const override { return static_cast<int>(group_->in.size()); }

  void all_gather(const void* mine, void* all, std::span<const std::size_t> bytes_of) override {
    exchange(mine, bytes_of, [&](std::size_t peer, const std::byte* in, std::size_t) {
      std::memcpy(static_cast<std::byte*>(all) + before(bytes_of, peer), in, bytes_of[peer]);
    });
  }
  void reduce_scatter(const float* in, float* out, std::span<const std::size_t> count_of) override {
    std::fill_n(out, count_of[rank_], 0.0F);
    exchange(in, count_of, [&](std::size_t, const std::byte* from, std::size_t first) {
      const float* const part = reinterpret_cast<const float*>(from) + first;
      for (std::size_t idx = 0; idx < count_of[rank_]; ++idx) out[idx] += part[idx];
    });
  }
  void all_reduce(float* data, std::size_t count, Reduction reduction) override {
    const std::vector<float> mine(data, data + count);
    const std::vector<std::size_t> whole(group_->in.size(), 0);
    exchange(mine.data(), whole, [&](std::size_t peer, const std::byte* from, std::size_t) {
      const float* const theirs = reinterpret_cast<const float*>(from);
      for (std::size_t idx = 0; idx < count; ++idx)
        data[idx] = peer == 0                      ? theirs[idx]
                    : reduction == Reduction::kSum ? data[idx] + theirs[idx]
                                                   : std::max(data[idx], theirs[idx]);
    });
  }
  void all_to_all(const void* in, std::span<const std::size_t> sent, void* out,
                  std::span<const std::size_t> received) override {
    exchange(in, sent, [&](std::size_t peer, const std::byte* from, std::size_t first) {
      std::memcpy(static_cast<std::byte*>(out) + before(received, peer), from + first, received[peer]);
    });
  }
  void send(int, const void*, std::size_t) override { assert(false); }
  void receive(int, void*, std::size_t) override { assert(false); }
  void finish_sends() override {}

 private:
  static std::size_t before(std::span<const std::size_t> sizes, std::size_t idx) {
    return std::accumulate(sizes.begin(), sizes.begin() + static_cast<std::ptrdiff_t>(idx), std::size_t{0});
  }
  // take(peer, its buffer, where in it this rank's part begins), in order of rank.
  template <class Take>
  void exchange(const void* in, std::span<const std::size_t> sizes, Take take) {
    group_->in[rank_] = static_cast<const std::byte*>(in);
    group_->sizes[rank_].assign(sizes.begin(), sizes.end());
    group_->barrier.arrive_and_wait();
    for (std::size_t peer = 0; peer < group_->in.size(); ++peer)
      take(peer, group_->in[peer], before(group_->sizes[peer], rank_));
    group_->barrier.arrive_and_wait();
  }

  std::shared_ptr<ThreadGroup> group_;
  std::size_t rank_;
};

// The groups of all ranks of a plan.
class ThreadWorld {
 public:
  explicit ThreadWorld(const Plan& plan) : plan_(plan) {}

  Communicator& communicator(GroupKind kind, int rank) {
    const std::lock_guard lock(mutex_);
    std::unique_ptr<ThreadCommunicator>& communicator = communicators_[{kind, rank}];
    if (communicator == nullptr) {
      const std::vector<int> ranks = ranks_of_group(kind, plan_, rank);
      std::shared_ptr<ThreadGroup>& group = groups_[{kind, ranks}];
      if (group == nullptr) group = std::make_shared<ThreadGroup>(ranks.size());
      const auto place = std::find(ranks.begin(), ranks.end(), rank) - ranks.begin();
      communicator = std::make_unique<ThreadCommunicator>(group, static_cast<std::size_t>(place));
    }
    return *communicator;
  }

 private:
  Plan plan_;
  std::mutex mutex_;
  std::map<std::pair<GroupKind, std::vector<int>>, std::shared_ptr<ThreadGroup>> groups_;
  std::map<std::pair<GroupKind, int>, std::unique_ptr<ThreadCommunicator>> communicators_;
};

}  // namespace msmoe::executor
