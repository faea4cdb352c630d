// CUDA's calls wrapped once: a failure says which call, how, and where.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

namespace msmoe::kernels {

[[noreturn]] void fail(const char* call, const char* reason, const char* file, int line);

inline void check(cudaError_t status, const char* call, const char* file, int line) {
  if (status != cudaSuccess) fail(call, cudaGetErrorString(status), file, line);
}
inline void check(cublasStatus_t status, const char* call, const char* file, int line) {
  if (status != CUBLAS_STATUS_SUCCESS) fail(call, cublasLtGetStatusString(status), file, line);
}

}  // namespace msmoe::kernels

// Throws DeviceError unless the call succeeds.
#define MSMOE_CHECK(call) ::msmoe::kernels::check((call), #call, __FILE__, __LINE__)
