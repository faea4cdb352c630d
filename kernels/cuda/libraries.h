// Operations that libraries do, behind classes that keep what the libraries choose once per shape: cuBLASLt multiplies
// dense matrices, cuDNN attends, CUTLASS multiplies groups of matrices.
//
// None of them allocates or waits for the host in run() once it has seen the shape, so all can be captured after one
// call. They are for one device and one thread at a time.
#pragma once

#include <memory>

#include "kernels/cuda/operators.h"

namespace msmoe::kernels {

class DenseGemm {
 public:
  DenseGemm();
  ~DenseGemm();
  std::size_t workspace_bytes(const Gemm& operation) const;
  void run(const Gemm& operation, const DeviceLaunch& launch);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// cuDNN is loaded, and a graph built, by the first call that needs it; workspace_bytes() is such a call.
class FusedAttention {
 public:
  FusedAttention();
  ~FusedAttention();
  std::size_t workspace_bytes(const Attention& operation);
  std::size_t workspace_bytes(const AttentionBackward& operation);
  void run(const Attention& operation, const DeviceLaunch& launch);
  void run(const AttentionBackward& operation, const DeviceLaunch& launch);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::size_t grouped_gemm_workspace_bytes(const GroupedGemm& operation, int sms);
void grouped_gemm(const GroupedGemm& operation, const DeviceLaunch& launch);

constexpr std::size_t kWorkspaceAlignment = 256;

// Parts of a workspace, one after another, each where a tensor map may lie.
class WorkspaceParts {
 public:
  explicit WorkspaceParts(void* base = nullptr) : base_(static_cast<std::byte*>(base)) {}
  template <class T>
  T* take(std::size_t count) {
    T* part = reinterpret_cast<T*>(base_ + used_);
    used_ += (count * sizeof(T) + kWorkspaceAlignment - 1) / kWorkspaceAlignment * kWorkspaceAlignment;
    return part;
  }
  std::size_t used() const { return used_; }

 private:
  std::byte* base_;
  std::size_t used_ = 0;
};

}  // namespace msmoe::kernels
