// Formats on the way: casts, sums of bf16 chunks, E4M3 with a scale for each block.
#include <cuda_fp8.h>

#include "kernels/cuda/check.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/operators.h"
#include "kernels/cuda/requirements.h"

namespace msmoe::kernels {
namespace {

using Bf16 = __nv_bfloat16;
constexpr int kThreads = 256, kVector = 8, kBlocksPerSm = 8;
constexpr int kBlock = 128;  // of one scale
constexpr float kLargestE4m3 = 448, kSmallestNormal = 1.17549435e-38F;

template <class In, class Out>
__global__ void __launch_bounds__(kThreads) cast(const In* in, Out* out, std::int64_t size) {
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads, vectors = size / kVector;
  const std::int64_t first = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  for (std::int64_t vector = first; vector < vectors; vector += stride)
    Vector8::load(in + vector * kVector).store(out + vector * kVector);
  const std::int64_t rest = vectors * kVector + first;
  if (rest < size) out[rest] = static_cast<Out>(static_cast<float>(in[rest]));
}

template <class Out>
__global__ void __launch_bounds__(kThreads)
    sum_chunks(const Bf16* chunks, Out* out, std::int64_t vectors, std::int64_t parts, bool accumulate) {
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t vector = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; vector < vectors; vector += stride) {
    Vector8 sum = {};
#pragma unroll 4
    for (std::int64_t part = 0; part < parts; ++part) {
      const Vector8 chunk = Vector8::load(chunks + (part * vectors + vector) * kVector);
#pragma unroll
      for (int element = 0; element < kVector; ++element) sum.value[element] += chunk.value[element];
    }
    if (accumulate) {
      const Vector8 before = Vector8::load_written(out + vector * kVector);
#pragma unroll
      for (int element = 0; element < kVector; ++element) sum.value[element] += before.value[element];
    }
    sum.store(out + vector * kVector);
  }
}

__device__ inline float scale_of(float largest) {
  const float scale = largest / kLargestE4m3;
  return scale < kSmallestNormal ? 1.0F : scale;
}
__device__ inline std::uint8_t quantized(float value, float scale) {
  return __nv_cvt_float_to_fp8(value / scale, __NV_SATFINITE, __NV_E4M3);
}
__device__ inline float dequantized(std::uint8_t code, float scale) {
  return __half2float(__half(__nv_cvt_fp8_to_halfraw(code, __NV_E4M3))) * scale;
}

// A half-warp for each block of 128 columns of one row: 8 elements a lane.
__global__ void __launch_bounds__(kThreads)
    quantize_tokens(const Bf16* in, std::uint8_t* out, float* scales, std::int64_t rows, int columns, int blocks) {
  constexpr int kLanes = kBlock / kVector;
  const std::int64_t stride = std::int64_t{gridDim.x} * (kThreads / kLanes);
  const std::int64_t items = rows * blocks;
  // All lanes of a warp take part in its shuffles, so the loop ends for all at once.
  for (std::int64_t item = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) / kLanes;
       item - threadIdx.x / kLanes < items; item += stride) {
    const std::int64_t row = item / blocks;
    const int block = static_cast<int>(item % blocks);
    const int column = block * kBlock + static_cast<int>(threadIdx.x) % kLanes * kVector;
    const bool is_inside = item < items && column < columns;
    Vector8 values = {};
    if (is_inside) values = Vector8::load(in + row * columns + column);
    float largest = 0;
#pragma unroll
    for (const float value : values.value) largest = fmaxf(largest, fabsf(value));
#pragma unroll
    for (int offset = kLanes / 2; offset > 0; offset /= 2)
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffU, largest, offset));
    if (!is_inside) continue;
    const float scale = scale_of(largest);
    if (column == block * kBlock) scales[row * blocks + block] = scale;
    std::uint8_t codes[kVector];
#pragma unroll
    for (int element = 0; element < kVector; ++element) codes[element] = quantized(values.value[element], scale);
    *reinterpret_cast<uint2*>(out + row * columns + column) = *reinterpret_cast<const uint2*>(codes);
  }
}

// A block of threads for 128 rows x 64 columns: 8 neighbouring columns a thread, 32 threads down, 4 rows each.
__global__ void __launch_bounds__(kThreads)
    quantize_channels(const Bf16* in, std::uint8_t* out, float* scales, std::int64_t rows, int columns) {
  constexpr int kAcross = 8, kDown = kThreads / kAcross, kRowsEach = kBlock / kDown;
  __shared__ float largest_of[kDown][kAcross * kVector + 1];
  const int across = static_cast<int>(threadIdx.x) % kAcross, down = static_cast<int>(threadIdx.x) / kAcross;
  const int column = (static_cast<int>(blockIdx.x) * kAcross + across) * kVector;
  const std::int64_t first_row = std::int64_t{blockIdx.y} * kBlock;
  Vector8 values[kRowsEach] = {};
  float largest[kVector] = {};
#pragma unroll
  for (int index = 0; index < kRowsEach; ++index) {
    const std::int64_t row = first_row + index * kDown + down;
    if (row < rows && column < columns) values[index] = Vector8::load(in + row * columns + column);
#pragma unroll
    for (int element = 0; element < kVector; ++element)
      largest[element] = fmaxf(largest[element], fabsf(values[index].value[element]));
  }
#pragma unroll
  for (int element = 0; element < kVector; ++element) largest_of[down][across * kVector + element] = largest[element];
  __syncthreads();
  for (int half = kDown / 2; half > 0; half /= 2) {
    if (down < half)
      for (int element = across * kVector; element < (across + 1) * kVector; ++element)
        largest_of[down][element] = fmaxf(largest_of[down][element], largest_of[down + half][element]);
    __syncthreads();
  }
  if (column >= columns) return;
  float scale[kVector];
#pragma unroll
  for (int element = 0; element < kVector; ++element) {
    scale[element] = scale_of(largest_of[0][across * kVector + element]);
    if (down == 0) scales[std::int64_t{blockIdx.y} * columns + column + element] = scale[element];
  }
#pragma unroll
  for (int index = 0; index < kRowsEach; ++index) {
    const std::int64_t row = first_row + index * kDown + down;
    if (row >= rows) continue;
    std::uint8_t codes[kVector];
#pragma unroll
    for (int element = 0; element < kVector; ++element)
      codes[element] = quantized(values[index].value[element], scale[element]);
    *reinterpret_cast<uint2*>(out + row * columns + column) = *reinterpret_cast<const uint2*>(codes);
  }
}

__global__ void __launch_bounds__(kThreads)
    dequantize(const std::uint8_t* in, const float* scales, Bf16* out, std::int64_t rows, int columns, bool by_token) {
  const int vectors_per_row = columns / kVector, blocks = (columns + kBlock - 1) / kBlock;
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads, vectors = rows * vectors_per_row;
  for (std::int64_t vector = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; vector < vectors; vector += stride) {
    const std::int64_t row = vector / vectors_per_row;
    const int column = static_cast<int>(vector % vectors_per_row) * kVector;
    const uint2 raw = *reinterpret_cast<const uint2*>(in + row * columns + column);
    const auto* codes = reinterpret_cast<const std::uint8_t*>(&raw);
    Vector8 values;
#pragma unroll
    for (int element = 0; element < kVector; ++element)
      values.value[element] = dequantized(codes[element], by_token ? scales[row * blocks + column / kBlock]
                                                                   : scales[row / kBlock * columns + column + element]);
    values.store(out + row * columns + column);
  }
}

std::int64_t blocks_of(std::int64_t size) { return (size + kBlock - 1) / kBlock; }

void require_scales(const View& scales, ScaleBlocks blocks, std::int64_t rows, std::int64_t columns,
                    const char* operation) {
  const bool by_token = blocks == ScaleBlocks::kToken;
  require(scales.element == Element::kFp32 && scales.rows == (by_token ? rows : blocks_of(rows)) &&
              scales.columns == (by_token ? blocks_of(columns) : columns),
          operation, "scales are fp32, one for each 128 elements of a row or column");
}
void require_codes(const View& view, std::int64_t rows, std::int64_t columns, const char* operation) {
  require(view.element == Element::kE4m3 && view.rows == rows && view.columns == columns, operation,
          "the quantized matrix is E4M3, as large as the other");
}

}  // namespace

void launch(const Cast& op, const DeviceLaunch& on) {
  require(op.in.rows == op.out.rows && op.in.columns == op.out.columns, "cast", "in and out are equally large");
  const std::int64_t size = op.in.size();
  if (size == 0) return;
  // At least 8 threads are there for the elements that fill no vector.
  const unsigned blocks = std::max(1U, num_blocks(size / kVector, kThreads, on.sms, kBlocksPerSm));
  if (op.in.element == Element::kBf16 && op.out.element == Element::kFp32) {
    cast<<<blocks, kThreads, 0, on.stream>>>(op.in.as<Bf16>(), op.out.as<float>(), size);
  } else if (op.in.element == Element::kFp32 && op.out.element == Element::kBf16) {
    cast<<<blocks, kThreads, 0, on.stream>>>(op.in.as<float>(), op.out.as<Bf16>(), size);
  } else {
    require(op.in.element == op.out.element && op.in.element != Element::kE4m3, "cast", "between fp32 and bf16");
    MSMOE_CHECK(cudaMemcpyAsync(op.out.data, op.in.data, op.in.bytes(), cudaMemcpyDeviceToDevice, on.stream));
  }
  MSMOE_CHECK(cudaGetLastError());
}

void launch(const SumChunks& op, const DeviceLaunch& on) {
  require(op.chunks.element == Element::kBf16, "sum_chunks", "chunks are bf16");
  require(op.out.size() > 0 ? op.chunks.size() % op.out.size() == 0 : op.chunks.size() == 0, "sum_chunks",
          "chunks are a whole number of times as large as out");
  require(op.out.size() % kVector == 0, "sum_chunks", "out has a multiple of 8 elements");
  if (op.out.size() == 0) return;
  const std::int64_t vectors = op.out.size() / kVector, parts = op.chunks.size() / op.out.size();
  const unsigned blocks = num_blocks(vectors, kThreads, on.sms, kBlocksPerSm);
  if (op.out.element == Element::kFp32) {
    sum_chunks<<<blocks, kThreads, 0, on.stream>>>(op.chunks.as<Bf16>(), op.out.as<float>(), vectors, parts,
                                                   op.accumulate);
  } else {
    require(op.out.element == Element::kBf16, "sum_chunks", "out is fp32 or bf16");
    sum_chunks<<<blocks, kThreads, 0, on.stream>>>(op.chunks.as<Bf16>(), op.out.as<Bf16>(), vectors, parts,
                                                   op.accumulate);
  }
  MSMOE_CHECK(cudaGetLastError());
}

void launch(const Quantize& op, const DeviceLaunch& on) {
  const std::int64_t rows = op.in.rows, columns = op.in.columns;
  require_matrix(op.in, rows, columns, Element::kBf16, "quantize", "in");
  require_codes(op.out, rows, columns, "quantize");
  require_scales(op.scales, op.blocks, rows, columns, "quantize");
  if (op.in.size() == 0) return;
  if (op.blocks == ScaleBlocks::kToken) {
    const std::int64_t items = rows * blocks_of(columns);
    quantize_tokens<<<num_blocks(items, kThreads / (kBlock / kVector), on.sms, kBlocksPerSm), kThreads, 0, on.stream>>>(
        op.in.as<Bf16>(), op.out.as<std::uint8_t>(), op.scales.as<float>(), rows, static_cast<int>(columns),
        static_cast<int>(blocks_of(columns)));
  } else {
    const dim3 grid(static_cast<unsigned>((columns + 63) / 64), static_cast<unsigned>(blocks_of(rows)));
    quantize_channels<<<grid, kThreads, 0, on.stream>>>(op.in.as<Bf16>(), op.out.as<std::uint8_t>(),
                                                        op.scales.as<float>(), rows, static_cast<int>(columns));
  }
  MSMOE_CHECK(cudaGetLastError());
}

void launch(const Dequantize& op, const DeviceLaunch& on) {
  const std::int64_t rows = op.out.rows, columns = op.out.columns;
  require_matrix(op.out, rows, columns, Element::kBf16, "dequantize", "out");
  require_codes(op.in, rows, columns, "dequantize");
  require_scales(op.scales, op.blocks, rows, columns, "dequantize");
  if (op.out.size() == 0) return;
  dequantize<<<num_blocks(op.out.size() / kVector, kThreads, on.sms, kBlocksPerSm), kThreads, 0, on.stream>>>(
      op.in.as<std::uint8_t>(), op.scales.as<float>(), op.out.as<Bf16>(), rows, static_cast<int>(columns),
      op.blocks == ScaleBlocks::kToken);
  MSMOE_CHECK(cudaGetLastError());
}

void launch(const Zero& op, const DeviceLaunch& on) {
  if (op.out.size() > 0) MSMOE_CHECK(cudaMemsetAsync(op.out.data, 0, op.out.bytes(), on.stream));
}

}  // namespace msmoe::kernels
