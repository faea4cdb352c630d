// Cost model: an operator's time alone on its rank, and the share of each resource it uses meanwhile.
//
// Compute: the terms of core/cost_terms.h with the coefficients of the cluster's profile. Transfers: latency + bytes
// over the wire, intra-node and inter-node parts side by side; constants and their sources: cost_constants.h.
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
  float tiles_per_sm = 0;  // as Task's
  Interference interference;
  Duration issue;              // what the host takes to launch it
  Duration compute, transfer;  // each half alone; fused, the operator takes a little more than the longer one
  Duration computing;          // how much of `alone` the compute half accounts for; the rest is exposed communication
};

class CostModel {
 public:
  // Both must outlive the model; groups as in Program::groups.
  CostModel(const Cluster& cluster, const Plan& plan);
  OperatorCost cost(const Operator& op) const;
  // That the compute half rests on. REQUIRES: there is one
  const Fit& fit_of(const Operator& op) const;
  const Group& group(GroupKind kind) const { return groups_[static_cast<std::size_t>(kind)]; }
  const Cluster& cluster() const { return cluster_; }
  const Plan& plan() const { return plan_; }

 private:
  struct ComputeSeconds {
    double total = 0, memory = 0;  // memory: what HBM alone would need
    double tiles_per_sm = 0;
  };
  struct TransferSeconds {
    double total = 0, nvlink = 0, nic = 0;  // nvlink, nic: what each wire alone would need
    bool by_copy_engine = false;
  };
  struct Volumes {
    double nvlink = 0, nic = 0;  // bytes that one rank sends
  };
  static Volumes volumes(const Transfer& transfer, const Group& group);
  const Fit& fit(FittedOperator of) const;
  double memory_seconds(FittedOperator of, Bytes moved) const;  // REQUIRES: a fit of memory's form
  struct ChosenKernel {
    FittedOperator of;
    ChosenTile tile;
  };
  ChosenKernel chosen_kernel(const Compute& work, Pass pass) const;
  ComputeSeconds compute_seconds(const Compute& work, Pass pass) const;
  double latency_seconds(Collective collective, const Group& group) const;
  TransferSeconds transfer_seconds(const Operator& op) const;
  std::optional<double> measured_seconds(const Transfer& transfer, const Group& group, double latency) const;
  Interference interference(const Operator& op, const OperatorCost& cost, bool by_copy_engine) const;
  struct FusedSeconds {
    double total = 0, compute = 0;  // compute: the compute half, stretched
  };
  FusedSeconds fused_seconds(const Operator& op, double compute) const;
  FusedSeconds decomposed_seconds(const Operator& op, double compute) const;

  const Cluster& cluster_;
  const Plan& plan_;
  std::array<Group, kNumGroupKinds> groups_;
};

// The table of the cluster that holds for this transfer, or nullptr. group: the transfer's own.
const CollectiveTable* measured_table(const Transfer& transfer, const Group& group, const Cluster& cluster);

// The block of one pass of a module, ready for the engine. It lasts as long as the host takes to launch it at least.
Block make_block(const std::vector<Operator>& operators, const CostModel& costs);
// The pass alone on one device.
Job make_pass_job(const std::vector<Operator>& operators, const CostModel& costs);
// Of the plan, as far as it has streams.
int launch_queues(const Plan& plan);

}  // namespace msmoe::simulator
