// ModuleBuilder: collects the operators of one module and derives what follows from data flow.
//
//   waits      an operator waits for the writers of what it reads;
//   kept       a tensor that forward writes and backward reads lives between the two, unless the plan's recompute set
//              names it: then backward runs the operators that made it again (need());
//   fusion     operators emitted inside a FusedScope become one tile-level operator where that is wanted;
//   order      weight gradients wait until a communication operator is under way, and run beside it.
//
// Backward calls need(tensor) before it reads a tensor of the forward pass, and prefetch(tensor) where the
// communication that rebuilds one should start early.
#pragma once

#include <cstdint>
#include <vector>

#include "core/program.h"

namespace msmoe {

using TensorId = std::int16_t;

class ModuleBuilder {
 public:
  ModuleBuilder(const Plan& plan, ModuleKind kind, int layer_kind);

  // rebuilt_by: the recompute classes under which this tensor is discarded after forward.
  TensorId tensor(const char* name, Bytes size, Recompute rebuilt_by = Recompute::kNothing);
  // Tensors hold elements of the plan's precision (bf16 with fp8, which only multiplies) unless said.
  Bytes elements(double count) const { return {count * element_bytes(plan_.precision)}; }
  Bytes size_of(TensorId id) const { return module_.tensors[static_cast<std::size_t>(id)].size; }

  // Adds an operator to the pass under way and returns what it writes first.
  TensorId compute(const char* name, const Compute& work, std::vector<TensorId> reads, std::vector<TensorId> writes);
  TensorId transfer(const char* name, const Transfer& wires, std::vector<TensorId> reads, std::vector<TensorId> writes);
  // Compute and transfer proceed together by nature (ring attention), whatever the plan's overlap.
  TensorId compute_and_transfer(const char* name, const Compute& work, const Transfer& wires,
                                std::vector<TensorId> reads, std::vector<TensorId> writes);
  // Data-parallel traffic that runs beside the module and that nothing in it waits for.
  void background_transfer(const char* name, Collective collective, GroupKind group, Bytes payload);
  void weight_gradient(const char* name, const Compute& work, std::vector<TensorId> reads);

  void begin_backward() { backward_ = true; }
  bool in_backward() const { return backward_; }
  void need(TensorId id);
  void prefetch(TensorId id);
  // The whole forward pass again, exchanges and all, as trainers do that checkpoint a layer; but for what backward has
  // already (a prediction layer's head comes before).
  void replay_forward();

  // While one lives, what is emitted is one fused operator, if wanted.
  class FusedScope {
   public:
    FusedScope(ModuleBuilder& builder, const char* name, bool wanted);
    ~FusedScope();
    FusedScope(const FusedScope&) = delete;
    FusedScope& operator=(const FusedScope&) = delete;

   private:
    ModuleBuilder& builder_;
    const char* name_;
    bool active_;
    std::size_t begin_;
  };

  void add_parameters(double dense, double expert);
  // Of the dense ones, some that tensor parallelism does not split.
  void share_parameters(double count) { module_.parameters.shared += count; }
  // Incoming tensors and what the pass makes of them. Both gradients only where there are any.
  void passes_forward(TensorId input, TensorId output);
  void passes_backward(TensorId output_gradient, TensorId input_gradient);
  const ModuleParameters& parameters() const { return module_.parameters; }
  // Emits weight gradients still delayed, then lifetimes and waits. The builder is spent.
  Module finish();

 private:
  std::vector<Operator>& operators() { return backward_ ? module_.backward : module_.forward; }
  TensorId emit(Operator op);
  void flush_weight_gradients();
  bool discarded(TensorId id) const;
  void derive_waits(std::vector<Operator>& pass) const;
  void derive_lifetimes();

  const Plan& plan_;
  Module module_;
  bool backward_ = false;
  bool fusing_ = false;
  std::vector<Recompute> rebuilt_by_;      // per tensor
  std::vector<Operator> producers_;        // unfused forward operators, for recomputation
  std::vector<std::int16_t> producer_of_;  // per tensor, index into producers_ or -1
  std::vector<bool> rebuilt_;              // per tensor: backward has it already
  std::vector<Operator> delayed_;          // weight gradients not yet issued
};

// ---- shapes to work.
Compute gemm(double m, double n, double k, Precision precision);
Compute grouped_gemm(double groups, double rows, double n, double k, Precision precision);
// dW[k, n] += X[rows, k]^T dY[rows, n], accumulated in main gradients of grad_bytes each; groups of rows / groups.
Compute weight_gradient_gemm(double groups, double rows, double n, double k, double grad_bytes, Precision precision);
Compute elementwise(Bytes moved, int kernels = 1);
Compute permute(Bytes moved, int kernels = 1);
Compute routing(Bytes moved, int kernels);

}  // namespace msmoe
