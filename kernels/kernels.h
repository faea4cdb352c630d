// Kernels: every operator that a program can name, behind one call, on CPUs in fp32 and on Hopper GPUs in bf16.
//
// The GPU side neither allocates nor waits for the host in run(): whatever an operation needs beside its views is the
// workspace, and all of it can be captured in a CUDA graph. Where run() is called the first time for a shape a library
// may choose its kernel, so warm up before capturing.
#pragma once

#include <cstddef>
#include <memory>
#include <stdexcept>
#include <variant>

#include "kernels/matmul.h"
#include "kernels/routing.h"
#include "kernels/tokens.h"
#include "kernels/training.h"

namespace msmoe::kernels {

using Operation =
    std::variant<Gemm, GroupedGemm, Attention, AttentionBackward, RmsNorm, RmsNormBackward, Rope, LatentHeads,
                 LatentHeadsBackward, SwiGlu, SwiGluBackward, Add, Embedding, EmbeddingBackward, CrossEntropy,
                 CrossEntropyBackward, Router, RouterBackward, SortByExpert, SortArrivals, GatherRows, CombineRows,
                 CombineWeightGradient, GatherScalars, AdamW, SquaredNorm, ClipScale, Cast, Quantize, Dequantize,
                 SumChunks, Zero>;

// "gemm", "rms_norm_backward", ...
const char* name_of(const Operation& operation);

// A shape or an element type that this machine's kernels do not do. Ours to avoid: planners refuse such plans.
class Unsupported : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};
// A call of CUDA or of one of its libraries failed: which, how, where.
class DeviceError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Launch {
  void* stream = nullptr;  // a cudaStream_t; CPUs have none
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;  // at least what workspace_bytes() asks for
};

class Kernels {
 public:
  virtual ~Kernels() = default;
  virtual std::size_t workspace_bytes(const Operation& operation) = 0;
  // Throws Unsupported before anything is written, DeviceError when a launch fails.
  virtual void run(const Operation& operation, const Launch& launch) = 0;
};

std::unique_ptr<Kernels> cpu_kernels();
// For the current device of the calling thread. Only in builds with CUDA.
std::unique_ptr<Kernels> cuda_kernels();

}  // namespace msmoe::kernels
