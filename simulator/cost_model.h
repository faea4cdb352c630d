// Cost model: an operator's time alone on its rank, and the share of each resource it uses meanwhile.
//
// Compute: max(work / rate, bytes / HBM) + launch, with whole waves of tiles for GEMMs. Transfers: latency + bytes over
// the wire, intra-node and inter-node parts side by side. Constants and their sources: cost_constants.h.
#pragma once

#include <array>
#include <optional>

#include "core/cluster.h"
#include "core/group.h"
#include "core/program.h"
#include "simulator/engine.h"

namespace msmoe::simulator {

struct OperatorCost {
  Duration alone;
  std::array<float, kNumResources> share{};
  Duration compute, transfer;  // each half alone; fused, the operator takes a little more than the longer one
};

class CostModel {
 public:
  // Both must outlive the model; groups as in Program::groups.
  CostModel(const Cluster& cluster, const Plan& plan);
  OperatorCost cost(const Operator& op) const;
  const Group& group(GroupKind kind) const { return groups_[static_cast<std::size_t>(kind)]; }
  const Cluster& cluster() const { return cluster_; }

 private:
  struct ComputeSeconds {
    double total = 0, memory = 0;  // memory: what HBM alone would need
  };
  struct TransferSeconds {
    double total = 0, nvlink = 0, nic = 0;  // nvlink, nic: what each wire alone would need
  };
  double gemm_seconds(const Compute& work) const;
  ComputeSeconds compute_seconds(const Compute& work) const;
  TransferSeconds transfer_seconds(const Transfer& transfer) const;
  std::optional<double> measured_seconds(const Transfer& transfer, const Group& group) const;

  const Cluster& cluster_;
  const Plan& plan_;
  std::array<Group, kNumGroupKinds> groups_;
};

// The block of one pass of a module, ready for the engine.
Block make_block(const std::vector<Operator>& operators, const CostModel& costs);

}  // namespace msmoe::simulator
