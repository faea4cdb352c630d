// One function for each operation that is a kernel of ours, launched on the stream given. None allocates or waits.
// Operations that keep state from call to call (library handles, chosen algorithms) are classes in libraries.h.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/kernels.h"

namespace msmoe::kernels {

struct DeviceLaunch {
  cudaStream_t stream;
  void* workspace;
  std::size_t workspace_bytes;
  int sms;  // of the device
};

void launch(const RmsNorm& operation, const DeviceLaunch& launch);
void launch(const RmsNormBackward& operation, const DeviceLaunch& launch);
void launch(const Rope& operation, const DeviceLaunch& launch);
void launch(const LatentHeads& operation, const DeviceLaunch& launch);
void launch(const LatentHeadsBackward& operation, const DeviceLaunch& launch);
void launch(const SwiGlu& operation, const DeviceLaunch& launch);
void launch(const SwiGluBackward& operation, const DeviceLaunch& launch);
void launch(const Add& operation, const DeviceLaunch& launch);
void launch(const Embedding& operation, const DeviceLaunch& launch);
void launch(const EmbeddingBackward& operation, const DeviceLaunch& launch);
void launch(const CrossEntropy& operation, const DeviceLaunch& launch);
void launch(const CrossEntropyBackward& operation, const DeviceLaunch& launch);
void launch(const Router& operation, const DeviceLaunch& launch);
void launch(const RouterBackward& operation, const DeviceLaunch& launch);
void launch(const SortByExpert& operation, const DeviceLaunch& launch);
void launch(const SortArrivals& operation, const DeviceLaunch& launch);
void launch(const GatherRows& operation, const DeviceLaunch& launch);
void launch(const CombineRows& operation, const DeviceLaunch& launch);
void launch(const CombineWeightGradient& operation, const DeviceLaunch& launch);
void launch(const GatherScalars& operation, const DeviceLaunch& launch);
void launch(const AdamW& operation, const DeviceLaunch& launch);
void launch(const SquaredNorm& operation, const DeviceLaunch& launch);
void launch(const ClipScale& operation, const DeviceLaunch& launch);
void launch(const Cast& operation, const DeviceLaunch& launch);
void launch(const Quantize& operation, const DeviceLaunch& launch);
void launch(const Dequantize& operation, const DeviceLaunch& launch);
void launch(const SumChunks& operation, const DeviceLaunch& launch);
void launch(const Zero& operation, const DeviceLaunch& launch);

// What launch() needs of the workspace; 0 for most.
std::size_t own_workspace_bytes(const Operation& operation, int sms);

}  // namespace msmoe::kernels
