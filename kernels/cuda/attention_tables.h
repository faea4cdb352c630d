// Small kernels around cuDNN's attention.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>

namespace msmoe::kernels {

// cuDNN wants, for each tensor, where every sequence starts in elements. Offsets are 4 or 8 bytes wide.
struct SequenceTables {
  static constexpr int kTensors = 5;
  std::array<void*, kTensors> offsets{};            // [sequences + 1] each
  std::array<std::int64_t, kTensors> token_size{};  // elements of a token in that tensor
  std::int32_t* lengths = nullptr;                  // [sequences]
};
void fill_sequence_tables(const std::int32_t* starts, int sequences, bool wide, const SequenceTables& tables,
                          cudaStream_t stream);

// Ours is [heads, tokens], cuDNN's [tokens / length, heads, length].
void log_sum_exp_from_cudnn(const float* theirs, float* ours, std::int64_t heads, std::int64_t tokens,
                            std::int64_t length, cudaStream_t stream);
void log_sum_exp_to_cudnn(const float* ours, float* theirs, std::int64_t heads, std::int64_t tokens,
                          std::int64_t length, cudaStream_t stream);

}  // namespace msmoe::kernels
