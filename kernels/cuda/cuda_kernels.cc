#include <fmt/format.h>

#include "kernels/cuda/check.h"
#include "kernels/cuda/libraries.h"

namespace msmoe::kernels {

namespace {

template <class... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};

class CudaKernels : public Kernels {
 public:
  CudaKernels() {
    int device = 0;
    MSMOE_CHECK(cudaGetDevice(&device));
    MSMOE_CHECK(cudaDeviceGetAttribute(&sms_, cudaDevAttrMultiProcessorCount, device));
    int major = 0;
    MSMOE_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    if (major != kHopper) {
      throw Unsupported(fmt::format("cuda_kernels: device {} has compute capability {}.x and should have {}.0", device,
                                    major, kHopper));
    }
  }

  std::size_t workspace_bytes(const Operation& operation) override {
    return std::visit(
        Overloaded{[&](const Gemm& gemm) { return dense_gemm_.workspace_bytes(gemm); },
                   [&](const GroupedGemm& gemm) { return grouped_gemm_workspace_bytes(gemm, sms_); },
                   [&](const Attention& attention) { return attention_.workspace_bytes(attention); },
                   [&](const AttentionBackward& attention) { return attention_.workspace_bytes(attention); },
                   [&](const auto&) { return own_workspace_bytes(operation, sms_); }},
        operation);
  }

  void run(const Operation& operation, const Launch& launch) override {
    const std::size_t needed = workspace_bytes(operation);
    if (launch.workspace_bytes < needed) {
      throw std::invalid_argument(fmt::format("{} needs {} bytes of workspace and was given {}", name_of(operation),
                                              needed, launch.workspace_bytes));
    }
    if (needed > 0 && reinterpret_cast<std::uintptr_t>(launch.workspace) % kWorkspaceAlignment != 0) {
      throw std::invalid_argument(fmt::format("{}: the workspace does not start at a multiple of {} bytes",
                                              name_of(operation), kWorkspaceAlignment));
    }
    const DeviceLaunch device{.stream = static_cast<cudaStream_t>(launch.stream),
                              .workspace = launch.workspace,
                              .workspace_bytes = launch.workspace_bytes,
                              .sms = sms_};
    std::visit(Overloaded{[&](const Gemm& gemm) { dense_gemm_.run(gemm, device); },
                          [&](const GroupedGemm& gemm) { grouped_gemm(gemm, device); },
                          [&](const Attention& attention) { attention_.run(attention, device); },
                          [&](const AttentionBackward& attention) { attention_.run(attention, device); },
                          [&](const auto& own) { kernels::launch(own, device); }},
               operation);
  }

 private:
  static constexpr int kHopper = 9;
  int sms_ = 0;
  DenseGemm dense_gemm_;
  FusedAttention attention_;
};

}  // namespace

std::unique_ptr<Kernels> cuda_kernels() { return std::make_unique<CudaKernels>(); }

}  // namespace msmoe::kernels
