// Kernels for probe.py: one that holds SMs, one that copies with few CTAs.
#include <cuda_runtime.h>

namespace {

constexpr int kHeldSharedBytes = 200 * 1024;  // leaves no room for a GEMM's CTA on the SM

__global__ void hold_kernel(long long cycles, const volatile int* stop) {
  extern __shared__ char memory[];
  if (threadIdx.x != 0) return;
  memory[0] = 1;
  const long long begin = clock64();
  while (clock64() - begin < cycles && *stop == 0) {
  }
}

__global__ void copy_kernel(const float4* source, float4* target, long long count) {
  const long long stride = static_cast<long long>(gridDim.x) * blockDim.x;
  for (long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride)
    target[i] = source[i];
}

}  // namespace

extern "C" int hold_sms(int ctas, long long cycles, const int* stop, cudaStream_t stream) {
  cudaFuncSetAttribute(hold_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kHeldSharedBytes);
  hold_kernel<<<ctas, 128, kHeldSharedBytes, stream>>>(cycles, stop);
  return static_cast<int>(cudaGetLastError());
}

extern "C" int copy(int ctas, const void* source, void* target, long long bytes, cudaStream_t stream) {
  copy_kernel<<<ctas, 512, 0, stream>>>(static_cast<const float4*>(source), static_cast<float4*>(target), bytes / 16);
  return static_cast<int>(cudaGetLastError());
}
