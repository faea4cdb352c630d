// Communicators: one for each kind of group that a rank is in (core/group.h), over Gloo's TCP connections. A group of
// one rank has no connections, and a job of one rank no network at all. Replicas of weights that share nodes sum their
// gradients inside the node first (two_level_communicator.h).
//
//     Communicators communicators(plan, rank, rendezvous);
//     communicators.of(GroupKind::kDenseData).all_reduce(norm, 1, Reduction::kSum);
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "core/group.h"
#include "core/plan.h"
#include "executor/communication/communicator.h"
#include "executor/launch/rendezvous.h"

namespace msmoe::executor {

struct CommunicatorsOptions {
  // Numeric address of this host that the other ranks reach, such as "10.0.0.5" of an InfiniBand interface; the same
  // family on all ranks. Empty: the one by which this host and rank 0 reach each other (Rendezvous::local_address).
  std::string address;
  // Of each operation, and of connecting. A rank that computes for longer before it comes to one is taken for stuck.
  std::chrono::milliseconds timeout{300'000};
  // Consecutive ranks that share a node, the same number on all ranks. 0: all do.
  std::int64_t gpus_per_node = 0;
};

class Communicators {
 public:
  // Collective over all ranks: two exchanges of the rendezvous where there are more than one rank. The rendezvous is
  // not used afterwards. REQUIRES: a valid plan; plan.gpus ranks.
  // CommunicationFault where a rank is not reached; what Rendezvous::exchange() throws.
  Communicators(const Plan& plan, int rank, Rendezvous& rendezvous, const CommunicatorsOptions& options = {});

  // Kinds whose groups are the same ranks share connections. Those of all kinds belong to one thread.
  Communicator& of(GroupKind kind) { return *of_kind_[static_cast<std::size_t>(kind)]; }

 private:
  std::array<std::shared_ptr<Communicator>, kNumGroupKinds> of_kind_;
};

}  // namespace msmoe::executor
