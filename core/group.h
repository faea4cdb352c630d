// Group: the ranks that one communicator joins, by size and by how many of them share a node.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/cluster.h"
#include "core/plan.h"

namespace msmoe {

enum class GroupKind : std::uint8_t {
  kAttention,     // tensor or Ulysses ranks
  kContext,       // context-parallel ranks
  kExpert,        // expert-parallel ranks
  kExpertTensor,  // expert-tensor ranks
  kExpertAll,     // both together: what all-gather dispatch spans
  kDenseData,     // replicas of attention, dense feed-forward, embedding and head
  kExpertData,    // replicas of one expert shard
  kPipeline,      // one stage and the next
  kWorld,
};
inline constexpr int kNumGroupKinds = 9;

struct Group {
  std::int64_t size = 1;
  std::int64_t ranks_per_node = 1;
  std::int64_t nodes() const { return (size + ranks_per_node - 1) / ranks_per_node; }
  bool operator==(const Group&) const = default;
};

// Ranks lie stride apart; a node holds gpus_per_node consecutive ones.
inline Group make_group(std::int64_t size, std::int64_t stride, std::int64_t gpus_per_node) {
  return {size, std::clamp<std::int64_t>(gpus_per_node / std::max<std::int64_t>(stride, 1), 1, size)};
}

// The group of each kind under this plan's rank order (core/plan.h). kPipeline: size 2, in one node only where a
// stage and the next fit there.
Group group_of(GroupKind kind, const Plan& plan, std::int64_t gpus_per_node);

}  // namespace msmoe
