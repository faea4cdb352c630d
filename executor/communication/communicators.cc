#include "executor/communication/communicators.h"

#include <algorithm>
#include <map>
#include <optional>
#include <vector>

#include "executor/communication/gloo_communicator.h"
#include "executor/communication/lone_communicator.h"
#include "executor/communication/mesh.h"
#include "executor/communication/two_level_communicator.h"

namespace msmoe::executor {
namespace {

struct Levels {
  std::vector<int> local, across;
};

// The members on this rank's node, and those that come at its place there on each node. None where that would not be
// two levels: on one node, or one rank a node. None as well where nodes hold unequal numbers.
std::optional<Levels> levels_of(const std::vector<int>& members, int rank, std::int64_t gpus_per_node) {
  if (gpus_per_node == 0) return std::nullopt;
  std::map<std::int64_t, std::vector<int>> of_node;
  for (const int member : members) of_node[member / gpus_per_node].push_back(member);
  Levels levels{.local = of_node.at(rank / gpus_per_node), .across = {}};
  if (of_node.size() < 2 || levels.local.size() < 2) return std::nullopt;
  const auto place = std::find(levels.local.begin(), levels.local.end(), rank) - levels.local.begin();
  for (const auto& [node, on_node] : of_node) {
    if (on_node.size() != levels.local.size()) return std::nullopt;
    levels.across.push_back(on_node[static_cast<std::size_t>(place)]);
  }
  return levels;
}

}  // namespace

Communicators::Communicators(const Plan& plan, int rank, Rendezvous& rendezvous, const CommunicatorsOptions& options) {
  const int num_ranks = static_cast<int>(plan.gpus);
  std::shared_ptr<GlooTransport> transport;
  if (num_ranks > 1)
    transport = std::make_shared<GlooTransport>(rank, num_ranks, options.address, options.timeout, rendezvous);

  // The members of a group are the same list on each of them, so all meet the same list first under the same kind and
  // level, whose number can be their channel.
  std::map<std::vector<int>, std::shared_ptr<Communicator>> of_members;
  const auto communicator_of = [&](const std::vector<int>& members, std::uint32_t channel) {
    std::shared_ptr<Communicator>& communicator = of_members[members];
    if (!communicator && members.size() == 1) communicator = lone_communicator();
    if (!communicator) communicator = std::make_shared<GlooCommunicator>(transport, members, channel);
    return communicator;
  };
  for (std::uint32_t kind = 0; kind < kNumGroupKinds; ++kind)
    of_kind_[kind] = communicator_of(ranks_of_group(static_cast<GroupKind>(kind), plan, rank), kind);

  for (const GroupKind kind : {GroupKind::kDenseData, GroupKind::kExpertData}) {
    const auto levels = levels_of(ranks_of_group(kind, plan, rank), rank, options.gpus_per_node);
    if (!levels) continue;
    const auto number = static_cast<std::uint32_t>(kind);
    std::shared_ptr<Communicator>& communicator = of_kind_[number];
    communicator = std::make_shared<TwoLevelCommunicator>(communicator_of(levels->local, kNumGroupKinds + number),
                                                          communicator_of(levels->across, 2 * kNumGroupKinds + number),
                                                          communicator);
  }
}

}  // namespace msmoe::executor
