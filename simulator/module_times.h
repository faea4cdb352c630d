// How long modules take, and from that the times of a pipeline's slots: what the fast path (compose.h) needs.
//
// A planner times a module once and uses it in every plan that leaves its operators as they are; only the sums over
// chunks are made anew.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <vector>

#include "core/model.h"
#include "core/program.h"
#include "simulator/compose.h"
#include "simulator/cost_model.h"
#include "simulator/slot_parts.h"

namespace msmoe::simulator {

// One kind of operator that runs beside modules: what it uses of each resource, and how long it runs in a step.
struct DataShare {
  std::array<float, kNumResources> share{};
  bool holder = false;  // as Task::holder
  Interference interference;
  double time_ps = 0;
};
using Shares = std::vector<DataShare>;

// What the data-parallel operators for these parameters use, of those that run beside slots. Operators that differ
// little are one kind. The parameters of a chunk, or the mean of all: their mix of kinds counts.
Shares data_shares(const Plan& plan, const ModuleParameters& parameters, const CostModel& costs);
// What a message to the neighbouring stage uses. None where it is on the compute stream, and so beside nothing.
Shares send_shares(const Plan& plan, const Model& model, const CostModel& costs);

// One module, or all modules of a chunk. Times in picoseconds.
struct ModuleTimes {
  std::int64_t forward = 0, backward = 0;
  Beside forward_beside_data, backward_beside_data;  // with data-parallel operators beside it all along
  Beside forward_beside_send, backward_beside_send;  // with messages
  ModuleParameters parameters;

  ModuleTimes& operator+=(const ModuleTimes& other);
};

// By the event engine, the module alone on a device; then with each kind of operator beside it without end. Over kinds
// that take turns, a whole pass of the module and what is done beside it are those of the mean: time over passes.
ModuleTimes time_module(const Module& module, const CostModel& costs, const Shares& data, const Shares& send);

struct ModelTimes {
  std::vector<ModuleTimes> layers;  // as Model::kinds
  ModuleTimes embedding, head;
  ModuleTimes predict;  // one extra prediction layer
};

// The modules of each virtual stage together: the plan's layout, the embedding on the first, prediction layers and the
// head on the last.
std::vector<ModuleTimes> chunk_times(const Model& model, const Plan& plan, const ModelTimes& times);
// Those of a lowered plan. REQUIRES times as Program::modules.
std::vector<ModuleTimes> chunk_times(const Program& program, const std::vector<ModuleTimes>& times);

// Times of the parts of slots (slot_parts.h), each by the event engine when it is first asked for, as time_module's.
class PartTimes {
 public:
  // All but the shares must outlive it.
  PartTimes(const std::vector<Module>& modules, const Plan& plan, const CostModel& costs, Shares data, Shares send)
      : modules_(modules), plan_(plan), costs_(costs), data_(std::move(data)), send_(std::move(send)) {}

  const SlotTimes& of(const SlotPart& part);
  SlotTimes of(const Stage& stage, const Slot& slot);

 private:
  const std::vector<Module>& modules_;
  const Plan& plan_;
  const CostModel& costs_;
  const Shares data_, send_;
  std::map<SlotPartKey, SlotTimes> known_;
};

// Parted and merged slots of schedules that have them. stages: of the plan, of modules as `parts` has them.
void add_other_slots(PipelineTimes& times, const std::vector<Stage>& stages, PartTimes& parts);

// All that compose() needs, for plain schedules, from the chunks and the plan's data-parallel operators, which run one
// after the other.
PipelineTimes make_pipeline_times(const Model& model, const Plan& plan, const std::vector<ModuleTimes>& chunks,
                                  const CostModel& costs);
// The same with every module timed here.
PipelineTimes make_pipeline_times(const Program& program, const Model& model, const CostModel& costs);

}  // namespace msmoe::simulator
