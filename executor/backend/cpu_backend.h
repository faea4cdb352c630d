// CpuBackend: fp32, in this process, one operation after another; every result can be repeated to the bit.
#pragma once

#include <memory>
#include <vector>

#include "executor/backend/backend.h"

namespace msmoe::executor {

class CpuBackend : public Backend {
 public:
  CpuBackend();
  kernels::Element element() const override { return kernels::Element::kFp32; }
  std::byte* allocate(std::size_t bytes) override;
  void run(const kernels::Operation& operation, Stream stream) override;
  void copy(void* to, const void* from, std::size_t bytes, Stream stream) override;
  void wait(Stream, Stream) override {}
  void finish(Stream) override {}
  void to_host(void* to, const void* from, std::size_t bytes) override;
  void from_host(void* to, const void* from, std::size_t bytes) override;

 private:
  struct Free {
    void operator()(std::byte* data) const;
  };
  std::unique_ptr<kernels::Kernels> kernels_;
  std::vector<std::unique_ptr<std::byte, Free>> blocks_;
};

}  // namespace msmoe::executor
