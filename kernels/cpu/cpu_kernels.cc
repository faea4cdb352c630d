#include "kernels/cpu/operators.h"

namespace msmoe::kernels {
namespace {

class CpuKernels : public Kernels {
 public:
  std::size_t workspace_bytes(const Operation&) override { return 0; }
  void run(const Operation& operation, const Launch&) override {
    const cpu::Check check(name_of(operation));
    std::visit([&check](const auto& chosen) { cpu::run(chosen, check); }, operation);
  }
};

}  // namespace

std::unique_ptr<Kernels> cpu_kernels() { return std::make_unique<CpuKernels>(); }

}  // namespace msmoe::kernels
