// Prediction: what one plan does, as far as the simulator knows: time, where it goes, memory.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/cluster.h"
#include "core/memory_plan.h"
#include "core/model.h"
#include "core/plan.h"
#include "core/program.h"
#include "simulator/compose.h"
#include "simulator/evidence.h"
#include "simulator/rank_report.h"

namespace msmoe::simulator {

// Where the step of the busiest stage goes. Every moment belongs to one part, so the parts add up to the step.
enum class TimePart : std::uint8_t {
  kGemm,
  kExpertGemm,
  kAttention,
  kElementwise,           // norms, RoPE, activations, routing, permutation, loss
  kRecompute,             // of all kinds, in backward
  kExposedCommunication,  // inside layers: nothing computes
  kSlowdown,              // of layers beside data-parallel traffic and sends
  kBubble,                // waits for other stages
  kExposedSend,           // waits for messages on their way
  kParamGather,
  kGradReduce,
  kOptimizer,    // gradient norm included
  kUnevenRanks,  // waits for slower ranks of the same stage; only where every rank is simulated
};
inline constexpr int kNumTimeParts = 13;
const char* time_part_name(TimePart part);
// What an operator's time on the compute stream counts as, but for the part of a fused one that it cannot hide.
TimePart time_part_of(const Operator& op);

// What each part of the step, each row of memory and the training system's speed rest on (simulator/grading.h).
struct PredictionEvidence {
  std::array<Graded, kNumTimeParts> time;
  std::array<Graded, kNumMemoryRows> memory;
  Graded software;
};

struct Prediction {
  Plan plan;
  ParameterCount parameters;
  Flops flops_per_token;
  FlopsPerSecond peak;  // dense, of the compute dtype: what MFU divides by
  Duration step;
  Duration step_low, step_high;  // the step is between them with 80 % chance
  std::array<Duration, kNumTimeParts> parts{};
  std::size_t busiest_stage = 0;
  std::vector<StageTimes> stages;
  MemoryReport memory;
  PredictionEvidence evidence;
  std::int64_t events = 0;          // tasks that the engine ran; 0 on the fast path
  double imbalance = 1;             // as in PredictionOptions
  std::optional<RankReport> ranks;  // where every rank was simulated: step and parts are those of the mean step

  Duration part(TimePart which) const { return parts[static_cast<std::size_t>(which)]; }
  double tokens_per_step() const;
  double tokens_per_second() const;
  double tokens_per_second_per_gpu() const;
  FlopsPerSecond model_flops_per_gpu() const;  // achieved
  double mfu() const;
  // Time in which the busiest stage only waits for data on wires, of any kind.
  Duration exposed_communication() const;
};

struct PredictionOptions {
  bool exact = false;    // every operator of every stage through the event engine
  double imbalance = 1;  // rows of the most loaded expert rank over balanced rows
  std::string trace;     // where to write the timeline (Chrome trace JSON); implies exact

  // Of simulate() (what_if.h), as in RankOptions (rank_simulation.h).
  bool every_rank = false;
  std::uint64_t seed = 1;
  std::int64_t steps = 0;
  int threads = 0;
};

// REQUIRES a valid plan (check_plan) of a model that can be planned. It need not fit.
Prediction predict(const Model& model, const Cluster& cluster, const Plan& plan, const PredictionOptions& options = {});

}  // namespace msmoe::simulator
