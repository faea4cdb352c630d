#include "kernels/cuda/attention_tables.h"
#include "kernels/cuda/check.h"

namespace msmoe::kernels {

namespace {

constexpr int kThreads = 256;

template <class Offset>
__global__ void fill_tables(const std::int32_t* starts, int sequences, SequenceTables tables) {
  for (int s = threadIdx.x; s <= sequences; s += blockDim.x) {
    const std::int64_t start = starts[s];
#pragma unroll
    for (int t = 0; t < SequenceTables::kTensors; ++t) {
      static_cast<Offset*>(tables.offsets.data()[t])[s] = static_cast<Offset>(start * tables.token_size.data()[t]);
    }
    if (s < sequences) tables.lengths[s] = starts[s + 1] - starts[s];
  }
}

template <bool to_cudnn>
__global__ void transpose(const float* from, float* to, std::int64_t heads, std::int64_t tokens, std::int64_t length) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= heads * tokens) return;
  const std::int64_t head = i / tokens, token = i % tokens;
  const std::int64_t theirs = (token / length * heads + head) * length + token % length;
  if constexpr (to_cudnn) {
    to[theirs] = from[i];
  } else {
    to[i] = from[theirs];
  }
}

template <bool to_cudnn>
void launch_transpose(const float* from, float* to, std::int64_t heads, std::int64_t tokens, std::int64_t length,
                      cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>((heads * tokens + kThreads - 1) / kThreads);
  transpose<to_cudnn><<<blocks, kThreads, 0, stream>>>(from, to, heads, tokens, length);
  MSMOE_CHECK(cudaGetLastError());
}

}  // namespace

void fill_sequence_tables(const std::int32_t* starts, int sequences, bool wide, const SequenceTables& tables,
                          cudaStream_t stream) {
  if (wide) {
    fill_tables<std::int64_t><<<1, kThreads, 0, stream>>>(starts, sequences, tables);
  } else {
    fill_tables<std::int32_t><<<1, kThreads, 0, stream>>>(starts, sequences, tables);
  }
  MSMOE_CHECK(cudaGetLastError());
}

void log_sum_exp_from_cudnn(const float* theirs, float* ours, std::int64_t heads, std::int64_t tokens,
                            std::int64_t length, cudaStream_t stream) {
  launch_transpose<false>(theirs, ours, heads, tokens, length, stream);
}

void log_sum_exp_to_cudnn(const float* ours, float* theirs, std::int64_t heads, std::int64_t tokens,
                          std::int64_t length, cudaStream_t stream) {
  launch_transpose<true>(ours, theirs, heads, tokens, length, stream);
}

}  // namespace msmoe::kernels
