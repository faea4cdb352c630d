// Memory plan: what each rank of each pipeline stage holds, row by row, and when it peaks.
//
//   weights, gradients, optimizer   bytes per parameter, divided by the ranks that share them under ZeRO
//   activations                     what one micro-batch keeps in a chunk * (chunk, micro-batch) pairs in flight
//   workspace                       the worst module's transient tensors, forward or backward, or both where merged;
//                                   and the hidden states and gradients that pass from module to module
//
// A module's kept and transient bytes come from the lifetimes of its tensors (core/lowering/module_builder.h), the
// pairs in flight from the schedule (core/schedule.h). All ranks of a stage are alike; expert imbalance enters through
// LoweringOptions, so the rank meant is the most loaded one.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/cluster.h"
#include "core/plan.h"
#include "core/program.h"

namespace msmoe {

enum class MemoryRow : std::uint8_t {
  kWeights,
  kGradients,
  kOptimizer,
  kActivations,
  kWorkspace,
  kLogits,         // of the head, beyond the workspace of the layers
  kGathered,       // ZeRO-3: weights of the module in use and the next one, whole; ZeRO-2 and 3: their gradients
  kCommunication,  // NCCL buffers, one set a communicator
  kReserved,       // CUDA context and library handles
  kSlack,          // allocator rounding and fragmentation
};
inline constexpr int kNumMemoryRows = 10;
const char* memory_row_name(MemoryRow row);

// What memory needs to know of a module; Module in short.
struct ModuleMemory {
  ModuleKind kind = ModuleKind::kLayer;
  ModuleParameters parameters;
  Bytes kept, forward_peak, backward_peak;
  Bytes passed;            // the hidden state at its end
  Bytes held, input_peak;  // core/lowering/merge.h; of modules whose backward is parted or merged
};
// parted: with what schedules other than the plain ones (core/schedule.h) need to know, too.
ModuleMemory summarize(const Module& module, bool parted);

// For each virtual stage, how many of each module it holds: counts[virtual stage * num_modules + module].
struct Contents {
  int num_modules = 0;
  std::vector<int> counts;
  int count(std::int64_t virtual_stage, int module) const {
    return counts[static_cast<std::size_t>(virtual_stage) * static_cast<std::size_t>(num_modules) +
                  static_cast<std::size_t>(module)];
  }
};
// Modules in this order: one a layer kind, the embedding, the head, and the prediction layer where there is one.
Contents contents_of(const Model& model, const Plan& plan);

struct StageMemory {
  std::array<Bytes, kNumMemoryRows> rows{};
  std::int64_t in_flight = 0;  // (chunk, micro-batch) pairs at the peak
  Bytes resume_peak;           // while a checkpoint is loaded: states, and one module's states staged beside them
  Bytes host;                  // per rank, of offloaded optimizer states

  Bytes& operator[](MemoryRow row) { return rows[static_cast<std::size_t>(row)]; }
  Bytes operator[](MemoryRow row) const { return rows[static_cast<std::size_t>(row)]; }
  // The arena is laid out before the first step, moments included: step 1 holds what every later step holds.
  Bytes steady_peak() const;
  Bytes total() const;   // the larger of both peaks
  Bytes states() const;  // weights, gradients and optimizer states
};

// REQUIRES a valid plan. No allocation for plain schedules: planners call it millions of times.
StageMemory stage_memory(const Cluster& cluster, const Plan& plan, const Contents& contents,
                         const std::vector<ModuleMemory>& modules, std::int64_t stage);

struct MemoryReport {
  std::vector<StageMemory> stages;
  std::size_t worst_stage = 0;
  Bytes usable;         // of the GPU
  Bytes host_per_node;  // offloaded states
  const StageMemory& worst() const { return stages[worst_stage]; }
  bool fits() const { return worst().total() <= usable; }
};
MemoryReport plan_memory(const Cluster& cluster, const Plan& plan, const Contents& contents,
                         const std::vector<ModuleMemory>& modules);
MemoryReport plan_memory(const Model& model, const Cluster& cluster, const Program& program);

}  // namespace msmoe
