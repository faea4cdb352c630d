// AdamW and the gradient norm over many tensors: a launch takes a table of them as its parameter, and each block one
// chunk of one tensor, so that thousands of small tensors cost few launches.
#include <cmath>

#include "kernels/cuda/check.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/operators.h"
#include "kernels/cuda/requirements.h"
#include "kernels/cuda/workspace.h"

namespace msmoe::kernels {
namespace {

using Bf16 = __nv_bfloat16;
constexpr int kThreads = 512;
constexpr std::int64_t kChunk = 64 * 1024;  // elements of one block
constexpr int kTensors = 48;                // of one launch: its parameters are at most 4 KiB
constexpr int kNormBlocksPerSm = 2;

struct AdamTable {
  struct Tensor {
    void* parameter;
    const float* gradient;
    float *master, *first_moment, *second_moment;
    std::int64_t size;
    std::int64_t first_block;
    float decay;
    bool is_bf16;
  };
  Tensor tensors[kTensors];
  int count;
};
static_assert(sizeof(AdamTable) + 64 <= 4096, "kernel parameters are at most 4 KiB");

struct AdamFactors {
  float rate, beta1, beta2, epsilon, correction1, correction2;  // corrections: 1 / (1 - beta^step)
};

__global__ void __launch_bounds__(kThreads) adam(const AdamTable table, const AdamFactors factors, const float* scale) {
  int index = 0;
  while (index + 1 < table.count && table.tensors[index + 1].first_block <= blockIdx.x) ++index;
  const AdamTable::Tensor& tensor = table.tensors[index];
  const std::int64_t start = (blockIdx.x - tensor.first_block) * kChunk, end = min(start + kChunk, tensor.size);
  const float gradient_scale = scale == nullptr ? 1.0F : *scale;
  const auto update = [&](float gradient, float& master, float& m, float& v) {
    const float g = gradient * gradient_scale;
    m = factors.beta1 * m + (1 - factors.beta1) * g;
    v = factors.beta2 * v + (1 - factors.beta2) * g * g;
    const float direction = m * factors.correction1 / (sqrtf(v * factors.correction2) + factors.epsilon);
    master -= factors.rate * (direction + tensor.decay * master);
  };
  const auto store = [&](std::int64_t at, float master) {
    if (tensor.is_bf16) {
      static_cast<Bf16*>(tensor.parameter)[at] = __float2bfloat16_rn(master);
    } else {
      static_cast<float*>(tensor.parameter)[at] = master;
    }
  };
  const std::int64_t end_of_fours = start + (end - start) / 4 * 4;
  for (std::int64_t at = start + threadIdx.x * 4; at < end_of_fours; at += kThreads * 4) {
    const float4 g = __ldg(reinterpret_cast<const float4*>(tensor.gradient + at));
    float4 master = *reinterpret_cast<float4*>(tensor.master + at),
           m = *reinterpret_cast<float4*>(tensor.first_moment + at),
           v = *reinterpret_cast<float4*>(tensor.second_moment + at);
    update(g.x, master.x, m.x, v.x);
    update(g.y, master.y, m.y, v.y);
    update(g.z, master.z, m.z, v.z);
    update(g.w, master.w, m.w, v.w);
    *reinterpret_cast<float4*>(tensor.master + at) = master;
    *reinterpret_cast<float4*>(tensor.first_moment + at) = m;
    *reinterpret_cast<float4*>(tensor.second_moment + at) = v;
    if (tensor.is_bf16) {
      __nv_bfloat162 pairs[2] = {__floats2bfloat162_rn(master.x, master.y), __floats2bfloat162_rn(master.z, master.w)};
      *reinterpret_cast<uint2*>(static_cast<Bf16*>(tensor.parameter) + at) = *reinterpret_cast<uint2*>(pairs);
    } else {
      *reinterpret_cast<float4*>(static_cast<float*>(tensor.parameter) + at) = master;
    }
  }
  const std::int64_t rest = end_of_fours + threadIdx.x;
  if (rest < end) {
    update(tensor.gradient[rest], tensor.master[rest], tensor.first_moment[rest], tensor.second_moment[rest]);
    store(rest, tensor.master[rest]);
  }
}

// partial [blocks] += each block's part of one tensor; the first tensor overwrites.
__global__ void __launch_bounds__(kThreads)
    squares(const float* values, std::int64_t size, float* partial, bool overwrite) {
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads, fours = size / 4;
  const std::int64_t first = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  float sum = 0;
#pragma unroll 4
  for (std::int64_t four = first; four < fours; four += stride) {
    const float4 v = __ldg(reinterpret_cast<const float4*>(values) + four);
    sum += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
  }
  if (fours * 4 + first < size) sum += values[fours * 4 + first] * values[fours * 4 + first];
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = overwrite ? sum : partial[blockIdx.x] + sum;
}
__global__ void __launch_bounds__(kThreads) add_up(const float* partial, int count, float* sum) {
  float value = 0;
  for (int index = static_cast<int>(threadIdx.x); index < count; index += kThreads) value += partial[index];
  value = block_sum(value);
  if (threadIdx.x == 0) *sum = value;
}
__global__ void clip_scale(const float* squared_norm, float* scale, float limit) {
  *scale = fminf(1.0F, limit / (sqrtf(*squared_norm) + 1e-6F));
}

bool is_fp32(const View& view, std::int64_t size) {
  return view.element == Element::kFp32 && view.size() == size && reinterpret_cast<std::uintptr_t>(view.data) % 16 == 0;
}

}  // namespace

std::size_t norm_blocks(int sms) { return static_cast<std::size_t>(sms) * kNormBlocksPerSm; }

void launch(const AdamW& op, const DeviceLaunch& on) {
  for (const AdamTensor& tensor : op.tensors) {
    const std::int64_t size = tensor.parameter.size();
    require(is_fp32(tensor.gradient, size) && is_fp32(tensor.master, size) && is_fp32(tensor.first_moment, size) &&
                is_fp32(tensor.second_moment, size),
            "adamw", "gradient, master and moments are fp32, as large as the parameter, at multiples of 16 bytes");
    require((tensor.parameter.element == Element::kBf16 || tensor.parameter.element == Element::kFp32) &&
                reinterpret_cast<std::uintptr_t>(tensor.parameter.data) % 16 == 0,
            "adamw", "parameters are bf16 or fp32, at multiples of 16 bytes");
  }
  const auto step = static_cast<double>(op.step);
  const AdamFactors factors{static_cast<float>(op.rate),
                            static_cast<float>(op.beta1),
                            static_cast<float>(op.beta2),
                            static_cast<float>(op.epsilon),
                            static_cast<float>(1 / (1 - std::pow(op.beta1, step))),
                            static_cast<float>(1 / (1 - std::pow(op.beta2, step)))};
  const float* scale = optional_data<float>(op.gradient_scale);
  AdamTable table{};
  std::int64_t blocks = 0;
  const auto flush = [&] {
    if (blocks == 0) return;
    adam<<<static_cast<unsigned>(blocks), kThreads, 0, on.stream>>>(table, factors, scale);
    MSMOE_CHECK(cudaGetLastError());
    table.count = 0;
    blocks = 0;
  };
  for (const AdamTensor& tensor : op.tensors) {
    const std::int64_t size = tensor.parameter.size();
    if (size == 0) continue;
    table.tensors[table.count++] = {tensor.parameter.data,
                                    tensor.gradient.as<float>(),
                                    tensor.master.as<float>(),
                                    tensor.first_moment.as<float>(),
                                    tensor.second_moment.as<float>(),
                                    size,
                                    blocks,
                                    static_cast<float>(tensor.decay),
                                    tensor.parameter.element == Element::kBf16};
    blocks += (size + kChunk - 1) / kChunk;
    if (table.count == kTensors) flush();
  }
  flush();
}

void launch(const SquaredNorm& op, const DeviceLaunch& on) {
  for (const View& tensor : op.tensors)
    require(is_fp32(tensor, tensor.size()), "squared_norm", "tensors are fp32 at multiples of 16 bytes");
  const auto blocks = static_cast<unsigned>(norm_blocks(on.sms));
  auto* partial = static_cast<float*>(on.workspace);
  bool is_first = true;
  for (const View& tensor : op.tensors) {
    if (tensor.size() == 0) continue;
    squares<<<blocks, kThreads, 0, on.stream>>>(tensor.as<float>(), tensor.size(), partial, is_first);
    MSMOE_CHECK(cudaGetLastError());
    is_first = false;
  }
  add_up<<<1, kThreads, 0, on.stream>>>(partial, is_first ? 0 : static_cast<int>(blocks), op.sum.as<float>());
  MSMOE_CHECK(cudaGetLastError());
}

void launch(const ClipScale& op, const DeviceLaunch& on) {
  clip_scale<<<1, 1, 0, on.stream>>>(op.squared_norm.as<float>(), op.scale.as<float>(), static_cast<float>(op.limit));
  MSMOE_CHECK(cudaGetLastError());
}

}  // namespace msmoe::kernels
