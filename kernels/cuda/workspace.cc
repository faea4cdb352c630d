#include "kernels/cuda/workspace.h"

#include "kernels/cuda/operators.h"

namespace msmoe::kernels {
namespace {

struct WorkspaceBytes {
  int sms;

  std::size_t operator()(const RmsNormBackward& op) const {
    return norm_backward_blocks(op.input.rows, sms) * static_cast<std::size_t>(op.input.columns) * sizeof(float);
  }
  std::size_t operator()(const SquaredNorm&) const { return norm_blocks(sms) * sizeof(float); }
  std::size_t operator()(const Router& op) const { return router_workspace_bytes(op, sms); }
  std::size_t operator()(const SortByExpert& op) const { return sort_workspace_bytes(op); }
  std::size_t operator()(const SortArrivals& op) const { return sort_workspace_bytes(op); }
  template <class Other>
  std::size_t operator()(const Other&) const {
    return 0;
  }
};

}  // namespace

std::size_t own_workspace_bytes(const Operation& operation, int sms) {
  return std::visit(WorkspaceBytes{sms}, operation);
}

}  // namespace msmoe::kernels
