#include "executor/communication/communicators.h"

#include <map>
#include <utility>
#include <vector>

#include "executor/communication/gloo_communicator.h"
#include "executor/communication/lone_communicator.h"
#include "executor/communication/mesh.h"

namespace msmoe::executor {

Communicators::Communicators(const Plan& plan, int rank, Rendezvous& rendezvous, const CommunicatorsOptions& options) {
  const int num_ranks = static_cast<int>(plan.gpus);
  std::shared_ptr<GlooTransport> transport;
  if (num_ranks > 1)
    transport = std::make_shared<GlooTransport>(rank, num_ranks, options.address, options.timeout, rendezvous);

  // The members of a group are the same list on each of them, so all meet the same list first under the same kind,
  // whose number can be their channel.
  std::map<std::vector<int>, std::shared_ptr<Communicator>> of_members;
  for (std::uint32_t kind = 0; kind < kNumGroupKinds; ++kind) {
    const std::vector<int> members = ranks_of_group(static_cast<GroupKind>(kind), plan, rank);
    std::shared_ptr<Communicator>& communicator = of_members[members];
    if (!communicator && members.size() == 1) communicator = lone_communicator();
    if (!communicator) communicator = std::make_shared<GlooCommunicator>(transport, members, kind);
    of_kind_[kind] = communicator;
  }
}

}  // namespace msmoe::executor
