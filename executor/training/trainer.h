// Trainer: one rank of a training run, step by step.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/cluster.h"
#include "core/model.h"
#include "core/plan.h"
#include "core/program.h"
#include "executor/interpreter/stage_runner.h"
#include "executor/model_numerics.h"
#include "executor/parameters/parameter_store.h"

namespace msmoe::executor {

struct LossCoefficients {
  double auxiliary = 0;  // of each sequence's balance (executor/interpreter/router_operators.cc)
  double z = 0;          // arXiv 2202.08906
};

// The same on all ranks.
struct StepResult {
  double loss = 0;           // mean cross-entropy of the tokens
  double auxiliary = 0;      // sum over layers, without its coefficient: 1 a layer under balance
  double z = 0;              // likewise
  double gradient_norm = 0;  // before clipping
  std::int64_t dropped = 0;  // copies of tokens that found no room at their expert's rank
  double expert_load = 0;    // tokens of the busiest expert over the mean, in the worst layer; 0: no experts
};

// A UserError for what a backend with these elements does not train: other precisions, prediction layers, optimizer
// states of fewer bytes or in host memory.
void check_trainable(const Model& model, const Plan& plan, kernels::Element element);

// The program that this plan's ranks run: experts have room for whatever the router decides.
Program executable_program(const Model& model, const Cluster& cluster, const Plan& plan);

class Trainer {
 public:
  using Communicators = std::function<Communicator&(GroupKind)>;

  // All references outlive it. position: kept up to date with what the rank is at. Parameters are zero until somebody
  // fills the store. REQUIRES a valid plan of plan.gpus ranks. Throws as check_trainable()
  // does.
  Trainer(const Model& model, const ModelNumerics& numerics, const Cluster& cluster, const Plan& plan, int rank,
          Backend& backend, Communicators communicators, const LossCoefficients& coefficients, Position& position);

  // Forward and backward of a whole batch: gradients are complete and summed over all ranks when it returns.
  // tokens, targets: this data rank's sequences, [global_batch / dp, seq_len]. A target below 0 is padding.
  // Collective over all ranks, as update() is.
  StepResult accumulate(std::span<const std::int32_t> tokens, std::span<const std::int32_t> targets);
  // Mean cross-entropy of a whole batch of sequences that nothing is learned from; shapes as above, and collective.
  double evaluate(std::span<const std::int32_t> tokens, std::span<const std::int32_t> targets);
  // One step of AdamW; gradients are zero again. bias_rate: of the router biases that balance experts; 0: they stay.
  void update(const UpdateSettings& settings, double bias_rate);

  // Operators of the stage, synchronization and optimizer alike. See StageRunner and ParameterStore.
  void observe_times(const TimeObserver& observer);

  const Plan& plan() const { return plan_; }
  ParameterStore& store() { return store_; }
  StageRunner& runner() { return runner_; }
  const MeshPlace& place() const { return place_; }

 private:
  std::vector<MicroBatch> upload(std::span<const std::int32_t> tokens, std::span<const std::int32_t> targets);
  double sum_expert_counts();

  const Model& model_;
  const Plan& plan_;
  MeshPlace place_;
  Backend& backend_;
  Communicators communicators_;
  Geometry geometry_;
  Program program_;
  ParameterStore store_;
  BufferPool pool_;
  Wire wire_;
  RankContext rank_;
  StageRunner runner_;
  std::vector<MicroBatch> batches_;  // memory of one step's tokens
};

}  // namespace msmoe::executor
