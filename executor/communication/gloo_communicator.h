// The communicator of a group of two ranks or more on CPUs, over Gloo.
//
// Every collective is one round in which each rank exchanges parts with each other directly, or two for all_reduce:
// with S bytes in all and n ranks, each rank sends (n - 1) / n * S a round, as a ring would, in one latency, not n - 1.
// Sums are made in order of rank, so that they do not depend on who comes first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "executor/communication/communicator.h"
#include "executor/communication/gloo_transport.h"
#include "executor/communication/outgoing_messages.h"

namespace msmoe::executor {

class GlooCommunicator final : public Communicator {
 public:
  // members: ranks of the job, ascending, the transport's among them; the same on all of them, as is the channel,
  // which no other group that shares two ranks with this one has.
  GlooCommunicator(std::shared_ptr<GlooTransport> transport, std::vector<int> members, std::uint32_t channel);

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(members_.size()); }

  void all_gather(const void* mine, void* all, std::span<const std::size_t> bytes_of) override;
  void reduce_scatter(const float* in, float* out, std::span<const std::size_t> count_of) override;
  void all_reduce(float* data, std::size_t count, Reduction reduction) override;
  void all_to_all(const void* in, std::span<const std::size_t> sent, void* out,
                  std::span<const std::size_t> received) override;
  void send(int to, const void* data, std::size_t bytes) override;
  void receive(int from, void* data, std::size_t bytes) override;
  void finish_sends() override;

 private:
  struct Part {
    std::byte* data;
    std::size_t bytes;
  };
  // By rank of the group. Parts of no bytes are not sent: both sides know their size.
  void exchange(const std::vector<Part>& sent, const std::vector<Part>& received, const char* operation);
  void reduce(const float* in, float* out, std::span<const std::size_t> count_of, Reduction reduction,
              const char* operation);
  void gather(const void* mine, void* all, std::span<const std::size_t> bytes_of, const char* operation);

  static std::vector<Part> parts_of(const void* data, std::span<const std::size_t> bytes_of);
  int world_rank(int rank) const { return members_[static_cast<std::size_t>(rank)]; }

  std::shared_ptr<GlooTransport> transport_;
  std::vector<int> members_;
  int rank_;
  std::uint32_t collective_channel_, message_channel_;
  OutgoingMessages outgoing_;
};

}  // namespace msmoe::executor
