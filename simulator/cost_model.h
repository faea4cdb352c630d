// Cost model: an operator's time alone on its rank, and the share of each resource it uses meanwhile.
//
// Compute: max(work / rate, bytes / HBM) + launch, with whole waves of tiles for GEMMs. Transfers: latency + bytes over
// the wire, intra-node and inter-node parts side by side. Constants and their sources: cost_constants.h.
#pragma once

#include "core/cluster.h"
#include "core/group.h"
#include "core/program.h"
#include "simulator/engine.h"

namespace msmoe::simulator {

enum class Evidence : std::uint8_t { kMeasured, kDerived, kDataSheet, kAssumed };

struct OperatorCost {
  Duration alone;
  std::array<float, kNumResources> share{};
  Duration compute, transfer;  // the parts of a fused operator; alone = max of both + its first tile
};

class CostModel {
 public:
  // Both must outlive the model; groups as in Program::groups.
  CostModel(const Cluster& cluster, const Plan& plan);
  OperatorCost cost(const Operator& op) const;
  Duration compute_time(const Compute& compute) const;
  Duration transfer_time(const Transfer& transfer) const;
  const Group& group(GroupKind kind) const { return groups_[static_cast<std::size_t>(kind)]; }

 private:
  const Cluster& cluster_;
  const Plan& plan_;
  std::array<Group, kNumGroupKinds> groups_;
};

// The block of one pass of a module, ready for the engine.
Block make_block(const std::vector<Operator>& operators, const CostModel& costs);

}  // namespace msmoe::simulator
