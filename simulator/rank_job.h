// RankJob: what the simulation of every rank (rank_simulation.h) needs to know of a plan, whatever ranks there are.
//
// A component is the ranks that meet before the gradients are reduced: on every stage, the fewest neighbours that are
// whole attention groups and whole expert groups. Its ranks on a stage are numbered from 0 to width - 1.
//
// An operator's length on a rank is what the event engine gives it in its module alone, at that rank's load: contention
// between the module's own streams is in it. Loads are kept in steps of 1/64, and no rank has less than one step.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/model.h"
#include "core/program.h"
#include "simulator/cost_model.h"
#include "simulator/module_times.h"
#include "simulator/prediction.h"
#include "simulator/routing.h"

namespace msmoe::simulator {

// What is the same at every load.
struct RankOperator {
  Stream stream = Stream::kCompute;
  std::vector<std::int16_t> waits;  // for operators of other streams: its own keeps the order
  bool computes = false, transfers = false;
  bool follows = false;  // it computes, right after the operator before on the compute stream
  GroupKind group = GroupKind::kWorld;
  bool meets = false;          // it starts when the last of its group is ready
  bool ends_together = false;  // and all end with the slowest, whose data everyone needs
  RankWait wait = RankWait::kExperts;
  TimePart part = TimePart::kElementwise;
};

// Picoseconds. Alone the operator takes max(compute, beside) + after: its compute half, what a fused transfer takes
// beside it, and what comes after it where one half follows the other.
struct OperatorLength {
  double length = 0;  // in its module
  double issued = 0;  // no sooner than this after its module starts: where a shared launch queue holds it back, else 0
  double compute = 0, beside = 0, after = 0;
};

// One pass of a module at all loads met so far.
struct PassTable {
  std::vector<RankOperator> operators;
  std::map<int, std::vector<OperatorLength>> lengths;  // by load step
};

// Operator lengths of one pass of one module for the ranks of a component: [operator * width + rank].
struct PassLengths {
  const PassTable* table = nullptr;
  std::vector<double> length, issued, compute, beside, after;
  std::vector<bool> is_late;  // by operator: held back, on some rank
};

// A slot of a stage, with all that decides when it can run.
struct RankSlot {
  std::int32_t stage = 0;
  std::int32_t virtual_stage = 0;
  bool backward = false;
  std::int32_t micro_batch = 0;
  bool receives = false, sends = false;  // from and to a neighbouring virtual stage
  bool gathers = false;                  // the first to need the chunk's parameters
  bool reduces = false;                  // the last to add to the chunk's gradients
};

struct RankGroups {
  std::int32_t count = 0;
  std::vector<std::int32_t> of;  // by rank of a component
};

class RankJob {
 public:
  // The plan must be valid; model and costs must outlive the job.
  RankJob(const Model& model, const Cluster& cluster, const Plan& plan, const CostModel& costs);

  std::int64_t width() const { return width_; }
  std::int64_t num_components() const { return stage_ranks_ / width_; }
  std::int64_t stage_ranks() const { return stage_ranks_; }
  const Plan& plan() const { return program_.plan; }
  const PipelineTimes& times() const { return times_; }
  const std::vector<RankSlot>& slots() const { return slots_; }  // each after all that it waits for
  const RankGroups& groups(GroupKind kind) const { return groups_[static_cast<std::size_t>(kind)]; }

  // Lengths for the loads of one step. Not to be called by two threads at once.
  void set_loads(const RankLoads& loads);
  // The passes that a slot runs, in order. Valid until set_loads.
  const std::vector<const PassLengths*>& passes(const RankSlot& slot) const {
    return passes_[static_cast<std::size_t>(2 * slot.virtual_stage + (slot.backward ? 1 : 0))];
  }

 private:
  struct Place {
    std::int16_t module = 0;
    int moe_layer = -1;  // -1: no experts, or none of a list of loads
  };
  void lay_out_places();
  void lay_out_groups();
  void lay_out_slots();
  const std::vector<OperatorLength>& lengths_at(std::int16_t module, bool backward, int load_step);
  PassLengths lengths_of(const Place& place, bool backward, const RankLoads& loads);

  const Model& model_;
  const Cluster& cluster_;
  const CostModel& costs_;
  Program program_;
  PipelineTimes times_;
  std::int64_t stage_ranks_ = 0, width_ = 0;
  std::vector<std::vector<Place>> places_;  // by virtual stage
  std::array<RankGroups, kNumGroupKinds> groups_;
  std::vector<RankSlot> slots_;
  std::array<std::vector<PassTable>, 2> tables_;                             // by pass and module
  std::array<std::map<std::pair<std::int16_t, int>, PassLengths>, 2> step_;  // by pass, module and MoE layer
  std::vector<std::vector<const PassLengths*>> passes_;
};

}  // namespace msmoe::simulator
