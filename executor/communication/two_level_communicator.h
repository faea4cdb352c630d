// The communicator of a group whose ranks share nodes: what it sums or gathers crosses the network once for a node, not
// once for a rank (MegaScale-MoE, arXiv 2505.11432, appendix A.1).
//
// Of m nodes with l ranks each, rank r is local index r mod l of node r / l. A reduce-scatter of S bytes sums inside
// the node first, and then, for each local index, over the nodes; an all-gather takes the same way back. A rank sends
//
//     inside the node  (l - 1) / l * S        between nodes  (m - 1) / m * S / l
//
// where a flat one sends (m - 1) / m * S between nodes. Parts that lie together on a rank of the group do not on one of
// the node, so they are put in another order first, in a second buffer of S.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "executor/communication/communicator.h"

namespace msmoe::executor {

class TwoLevelCommunicator final : public Communicator {
 public:
  // local: the l ranks of this node; across: the m ranks of this local index; flat: all m * l of them. Each in order of
  // the group's ranks.
  TwoLevelCommunicator(std::shared_ptr<Communicator> local, std::shared_ptr<Communicator> across,
                       std::shared_ptr<Communicator> flat);

  int rank() const override { return flat_->rank(); }
  int size() const override { return flat_->size(); }

  // Sums are those over a node, in order of rank, added in order of node.
  void all_gather(const void* mine, void* all, std::span<const std::size_t> bytes_of) override;
  void reduce_scatter(const float* in, float* out, std::span<const std::size_t> count_of) override;
  // Maxima, of a few numbers, are taken flat, as are exchanges and messages: each byte has one receiver.
  void all_reduce(float* data, std::size_t count, Reduction reduction) override;
  void all_to_all(const void* in, std::span<const std::size_t> sent, void* out,
                  std::span<const std::size_t> received) override {
    flat_->all_to_all(in, sent, out, received);
  }
  void send(int to, const void* data, std::size_t bytes) override { flat_->send(to, data, bytes); }
  void receive(int from, void* data, std::size_t bytes) override { flat_->receive(from, data, bytes); }
  void finish_sends() override { flat_->finish_sends(); }

 private:
  // Sizes of the parts of each local index together, and of this one's parts by node. From sizes by rank.
  std::vector<std::size_t> sizes_by_local(std::span<const std::size_t> size_of) const;
  std::vector<std::size_t> sizes_by_node(std::span<const std::size_t> size_of) const;
  // visit(where it begins in order of rank, and in order of local index and then node; its size)
  template <class Visit>
  void for_each_part(std::span<const std::size_t> size_of, Visit visit) const;

  std::shared_ptr<Communicator> local_, across_, flat_;
  std::size_t num_locals_, num_nodes_;
};

}  // namespace msmoe::executor
