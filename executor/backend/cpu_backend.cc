#include "executor/backend/cpu_backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

namespace msmoe::executor {

CpuBackend::CpuBackend() : kernels_(kernels::cpu_kernels()) {}

void CpuBackend::Free::operator()(std::byte* data) const { std::free(data); }

std::byte* CpuBackend::allocate(std::size_t bytes) {
  constexpr std::size_t kAlignment = 256;
  const std::size_t size = std::max(bytes, std::size_t{1});
  void* data = std::aligned_alloc(kAlignment, (size + kAlignment - 1) / kAlignment * kAlignment);
  if (data == nullptr) throw std::runtime_error(fmt::format("no room in memory for {} bytes", bytes));
  blocks_.emplace_back(static_cast<std::byte*>(data));
  std::memset(data, 0, size);
  return blocks_.back().get();
}

void CpuBackend::run(const kernels::Operation& operation, Stream) { kernels_->run(operation, {}); }

void CpuBackend::copy(void* to, const void* from, std::size_t bytes, Stream) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}
void CpuBackend::to_host(void* to, const void* from, std::size_t bytes) { copy(to, from, bytes, Stream::kCompute); }
void CpuBackend::from_host(void* to, const void* from, std::size_t bytes) { copy(to, from, bytes, Stream::kCompute); }

}  // namespace msmoe::executor
