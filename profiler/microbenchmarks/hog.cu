#include <cuda_runtime.h>
extern "C" __global__ void hog_kernel(long long cycles, volatile int* stop) {
  extern __shared__ char smem[];
  if (threadIdx.x == 0) { smem[0] = 1; long long t0 = clock64(); while (clock64() - t0 < cycles && !*stop) {} }
}
extern "C" int hog(int ctas, long long cycles, int* stop, cudaStream_t s) {
  cudaFuncSetAttribute(hog_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 200 * 1024);
  hog_kernel<<<ctas, 128, 200 * 1024, s>>>(cycles, stop);
  return (int)cudaGetLastError();
}
// 512 threads per CTA copying at memory speed, no shared memory: may share an SM with a GEMM's CTA
extern "C" __global__ void copy_kernel(const float4* a, float4* b, long long n, int reps) {
  for (int r = 0; r < reps; ++r)
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x) b[i] = a[i];
}
extern "C" int copier(int ctas, const void* a, void* b, long long bytes, int reps, cudaStream_t s) {
  copy_kernel<<<ctas, 512, 0, s>>>((const float4*)a, (float4*)b, bytes / 16, reps);
  return (int)cudaGetLastError();
}
