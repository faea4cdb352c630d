// Expands a program into the engine's job: every operator of every slot of every stage, one device a stage.
//
//   Within a slot   the chunk's modules run one after the other: a module's first operators wait for all of the module
//                   before, as trainers do that join their communication streams at the end of each layer. In a merged
//                   slot pairs of modules do (slot_parts.h).
//   Between slots   of a stage likewise. Messages between stages are sent on the pipeline stream, beside the next slot,
//                   or on the compute stream where the plan does not overlap them; those of a merged slot when both
//                   passes have ended, the forward's first, as Megatron-LM and DualPipe do.
//   Data stream     gathers of parameters first; each chunk's reduction after its last backward.
//   Optimizer       a stage's last slot; it waits for the slots and reductions of all stages.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "core/model.h"
#include "core/program.h"
#include "simulator/cost_model.h"
#include "simulator/engine.h"

namespace msmoe::simulator {

enum class SlotRole : std::uint8_t { kGather, kPass, kReduce, kOptimizer };

struct SlotOrigin {
  SlotRole role = SlotRole::kPass;
  Slot slot;  // of the stage; its chunk alone for kGather and kReduce, nothing for kOptimizer
};

struct TaskOrigin {
  const Operator* op = nullptr;  // null: a chunk without modules
  std::int32_t place = -1;       // of its module in Chunk::modules, in merged parts the forward's; -1: no module's
};

// What each task of a job stands for. The program must outlive it.
struct JobIndex {
  std::vector<std::vector<TaskOrigin>> blocks;  // as Job::blocks
  std::vector<std::vector<SlotOrigin>> slots;   // as Job::devices
  std::deque<std::vector<Operator>> operators;  // those that are in no module

  const SlotOrigin& slot(const TaskRun& run) const { return slots[run.device][run.slot]; }
  const TaskOrigin& task(const Job& job, const TaskRun& run) const {
    return blocks[job.devices[run.device][run.slot]][run.task];
  }
};

struct IndexedJob {
  Job job;
  JobIndex index;
};

// model: the one that was lowered.
IndexedJob make_job(const Program& program, const Model& model, const CostModel& costs);

}  // namespace msmoe::simulator
