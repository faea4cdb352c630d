// ParameterStore: the weights, gradients and optimizer states that a rank holds under a plan, and one optimizer step.
//
//   for each module's pass:      begin_use(m); [begin_gradients(m);] operators on weight(m, ...), gradient(m, ...),
//   ...;
//                                [end_gradients(m);] end_use(m);
//   after the last micro-batch:  reduce_gradients(); sum_shared_gradients(); squared_norm(); update(...);
//                                zero_gradients();
//
// Gradients are sums: over micro-batches here, over ranks in reduce_gradients(). Whoever computes the loss divides it
// by the tokens of the whole batch.
//
// What reads weights and adds to gradients runs on Stream::kCompute, as all work of the store does. Calls that are
// collective (those marked, and the hooks at ZeRO-2 and 3) are made by all ranks of a group in the same order; the host
// waits for them.
//
// Wires: plan.grad_wire. On CPUs, where every plan has to reproduce one rank's run, ask for kFp32.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "executor/backend/backend.h"
#include "executor/communication/communicator.h"
#include "executor/operator_time.h"
#include "executor/parameters/buffer_pool.h"
#include "executor/parameters/local_parameters.h"
#include "executor/parameters/parameter_bucket.h"

namespace msmoe::executor {

enum class FeedForwardPart : std::uint8_t { kDense, kShared, kExperts };

// One step of AdamW (arXiv 1711.05101). Weight decay is for matrices.
struct UpdateSettings {
  std::int64_t step = 1;  // from 1 on
  double rate = 0;
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double decay = 0.1;
  double clip = 1;  // the largest norm that gradients keep; 0: any
};

enum class StateKind : std::uint8_t { kMaster, kFirstMoment, kSecondMoment };
inline constexpr std::array kStateKinds = {StateKind::kMaster, StateKind::kFirstMoment, StateKind::kSecondMoment};

// Elements [begin, end), in row-major order, of a slice that this rank holds masters and moments of.
struct StatePiece {
  const LocalParameter* parameter = nullptr;
  std::int64_t begin = 0, end = 0;
  std::array<float*, 3> data{};  // by StateKind

  // In the backend's memory; null: no such state, as router biases have no moments.
  float* state(StateKind kind) const { return data[static_cast<std::size_t>(kind)]; }
};

class ParameterStore {
 public:
  using Communicators = std::function<Communicator&(GroupKind)>;

  // modules: those of this rank's stage, all chunks. Memory is allocated and zero. Throws as local_parameters does, and
  // a UserError for DualPipe with ZeRO above 1: the two copies of a stage run their modules in another order each.
  ParameterStore(const Model& model, const Plan& plan, const MeshPlace& place, std::vector<ModuleId> modules,
                 Backend& backend, const Communicators& communicators);

  const std::vector<ModuleId>& modules() const { return modules_; }

  // Told of each synchronization, bucket by bucket, and of the optimizer's operators, when they are done.
  void observe_times(TimeObserver observer) { time_observer_ = std::move(observer); }

  // ---- Slices held here: [rows, columns], vectors [1, n]; gradients fp32. Part::kHead of a tied head is the
  // embedding.
  bool has(std::size_t module_idx, Part part) const;  // outside of routed experts
  kernels::View weight(std::size_t module_idx, Part part) const;
  kernels::View gradient(std::size_t module_idx, Part part) const;
  std::int64_t first_row(std::size_t module_idx, Part part) const;  // of the slice, in the whole matrix
  // f as sliced: [2 f, h] and [h, f]; of this rank's experts one below the other: [experts 2 f, h] and [experts h, f].
  kernels::View gate_up(std::size_t module_idx, FeedForwardPart part) const;
  kernels::View gate_up_gradient(std::size_t module_idx, FeedForwardPart part) const;
  kernels::View down(std::size_t module_idx, FeedForwardPart part) const;
  kernels::View down_gradient(std::size_t module_idx, FeedForwardPart part) const;
  kernels::View router_bias(std::size_t module_idx) const;  // fp32 [1, experts]; null: none

  // ---- Around each pass of a module: forward or backward; backward that is parted may do so in each part. They nest.
  void begin_use(std::size_t module_idx);
  void end_use(std::size_t module_idx);
  void begin_gradients(std::size_t module_idx);
  void end_gradients(std::size_t module_idx);  // what is there is reduced

  // ---- After the last micro-batch, in this order
  void reduce_gradients();      // collective over data groups at ZeRO-0 and 1
  void sum_shared_gradients();  // collective over kAttention under tensor parallelism
  // Of all gradients of the job, every parameter counted once. Collective over kWorld.
  double squared_norm();
  // Masters, moments and weights; collective over data groups at ZeRO-1 and 2. REQUIRES squared_norm() where it clips.
  void update(const UpdateSettings& settings);
  void zero_gradients();

  // Balance without a loss (DeepSeek-V3, arXiv 2412.19437, section 2.1.2; arXiv 2408.15664):
  //   bias += rate sign(mean(counts) - counts)
  // counts: tokens of the whole global batch that chose each expert, so that all ranks do the same.
  void update_router_bias(std::size_t module_idx, std::span<const std::int64_t> counts, double rate);

  // ---- For initialization and checkpoints
  std::vector<StatePiece> held_pieces() const;   // everything that has masters and moments here
  std::vector<StatePiece> saved_pieces() const;  // of all ranks together: every element of the model once
  void publish_masters();  // weights become what masters are. Collective over data groups at ZeRO-1 and 2
  Backend& backend() const { return backend_; }

 private:
  struct Module {
    std::optional<ParameterBucket> dense, expert;
    std::optional<LocalParameter> router_bias;
    kernels::View bias;
  };
  struct Matrices {
    const ParameterBucket* bucket = nullptr;
    std::int64_t offset = 0, rows = 0, columns = 0;
    kernels::View in_weights() const;
    kernels::View in_gradients() const;
  };
  const Module& holder_of(std::size_t module_idx, Part* part) const;  // sets part to what the holder calls it
  static const LocalParameter* find(const Module& module, Part part);
  Matrices matrices(std::size_t module_idx, FeedForwardPart kind, Part part) const;
  template <class Do>
  static void for_each_bucket(Module& module, Do action);
  template <class Do>
  void for_each_bucket(Do action);
  template <class Do>
  void for_each_used_bucket(std::size_t module_idx, Do action);
  // An operator of the program, of one layer or of none (-1).
  template <class Do>
  void timed(OperatorTime time, Do action) const;
  // A bucket of a module is synchronized, where it communicates at all; of experts "expert_" stands before the name.
  template <class Do>
  void synchronize(const char* name, const char* pass, std::size_t module_idx, ParameterBucket& bucket,
                   Do action) const;
  template <class RangeOf, class Takes>
  std::vector<StatePiece> pieces(RangeOf range_of, Takes takes) const;

  Backend& backend_;
  Communicators communicators_;
  std::vector<ModuleId> modules_;
  int zero_;
  bool splits_weights_;                        // by tensor parallelism
  std::optional<std::size_t> tied_embedding_;  // the module whose matrix the head uses
  BufferPool pool_;
  std::deque<Module> held_;            // as modules_
  std::vector<std::size_t> in_order_;  // modules in the order of runs_before
  kernels::View squared_norm_, clip_scale_;
  bool norm_is_known_ = false;
  TimeObserver time_observer_;
};

}  // namespace msmoe::executor
