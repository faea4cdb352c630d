// Formats on the way: casts, sums of bf16 chunks, E4M3 with a scale for each block.
#include <cuda_fp8.h>

#include "kernels/cuda/check.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/operators.h"
#include "kernels/cuda/requirements.h"

namespace msmoe::kernels {
namespace {

using Bf16 = __nv_bfloat16;
constexpr int kThreads = 256, kVector = 8, kCastLoads = 4;
constexpr int kBlock = 128;  // of one scale
constexpr float kLargestE4m3 = 448, kSmallestNormal = 1.17549435e-38F;

// Four neighbouring elements: 16 bytes of fp32, which a warp moves in whole sectors.
struct Vector4 {
  float4 value;

  __device__ explicit Vector4(float4 of) : value(of) {}
  __device__ explicit Vector4(uint2 of) {
    const float2 low = __bfloat1622float2(reinterpret_cast<const __nv_bfloat162&>(of.x)),
                 high = __bfloat1622float2(reinterpret_cast<const __nv_bfloat162&>(of.y));
    value = {low.x, low.y, high.x, high.y};
  }
  __device__ void store(float* to) const { *reinterpret_cast<float4*>(to) = value; }
  __device__ void store(Bf16* to) const {
    uint2 raw;
    reinterpret_cast<__nv_bfloat162&>(raw.x) = __floats2bfloat162_rn(value.x, value.y);
    reinterpret_cast<__nv_bfloat162&>(raw.y) = __floats2bfloat162_rn(value.z, value.w);
    *reinterpret_cast<uint2*>(to) = raw;
  }
};
__device__ inline float4 load4(const float* from) { return __ldg(reinterpret_cast<const float4*>(from)); }
__device__ inline uint2 load4(const Bf16* from) { return __ldg(reinterpret_cast<const uint2*>(from)); }

template <class In, class Out>
__global__ void __launch_bounds__(kThreads) cast(const In* in, Out* out, std::int64_t size) {
  const std::int64_t vectors = size / 4, first = std::int64_t{blockIdx.x} * kThreads * kCastLoads + threadIdx.x;
  decltype(load4(in)) raw[kCastLoads];
#pragma unroll
  for (int i = 0; i < kCastLoads; ++i)
    if (first + i * kThreads < vectors) raw[i] = load4(in + (first + i * kThreads) * 4);
#pragma unroll
  for (int i = 0; i < kCastLoads; ++i)
    if (first + i * kThreads < vectors) Vector4(raw[i]).store(out + (first + i * kThreads) * 4);
  const std::int64_t rest = vectors * 4 + first;
  if (rest < size) out[rest] = static_cast<Out>(static_cast<float>(in[rest]));
}

template <class Out>
__global__ void __launch_bounds__(kThreads)
    sum_chunks(const Bf16* chunks, Out* out, std::int64_t vectors, std::int64_t parts, bool accumulate) {
  const std::int64_t vector = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (vector >= vectors) return;
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

__device__ inline float scale_of(float largest) {
  const float scale = largest / kLargestE4m3;
  return scale < kSmallestNormal ? 1.0F : scale;
}

// 8 elements of bf16, times inverse, as codes.
__device__ inline uint2 quantized(const uint4& raw, const float (&inverse)[kVector]) {
  const Vector8 values = Vector8::of(raw);
  __nv_fp8x2_storage_t codes[kVector / 2];
#pragma unroll
  for (int pair = 0; pair < kVector / 2; ++pair) {
    const int element = 2 * pair;
    codes[pair] = __nv_cvt_float2_to_fp8x2(
        {values.value[element] * inverse[element], values.value[element + 1] * inverse[element + 1]}, __NV_SATFINITE,
        __NV_E4M3);
  }
  return *reinterpret_cast<const uint2*>(codes);
}
__device__ inline Vector8 dequantized(const uint2& raw, const Vector8& scale) {
  const auto* codes = reinterpret_cast<const __nv_fp8x2_storage_t*>(&raw);
  Vector8 result;
#pragma unroll
  for (int pair = 0; pair < kVector / 2; ++pair) {
    const float2 two = __half22float2(__half2(__nv_cvt_fp8x2_to_halfraw2(codes[pair], __NV_E4M3)));
    result.value[2 * pair] = two.x * scale.value[2 * pair];
    result.value[2 * pair + 1] = two.y * scale.value[2 * pair + 1];
  }
  return result;
}

// Each of the 8 elements in `largest` becomes the larger absolute value of the two.
__device__ inline void widen(uint4& largest, const uint4& by) {
  auto* a = reinterpret_cast<__nv_bfloat162*>(&largest);
  const auto* b = reinterpret_cast<const __nv_bfloat162*>(&by);
#pragma unroll
  for (int pair = 0; pair < kVector / 2; ++pair) a[pair] = __hmax2(a[pair], __habs2(b[pair]));
}

// What a block of threads takes of a matrix: 256 columns, 8 a lane, of kRowsEach rows a warp. The rows of one warp lie
// kWarps apart, and all are of one block of 128.
constexpr int kAcross = kWarp * kVector, kWarps = kThreads / kWarp, kRowsEach = 2, kTileRows = kRowsEach * kWarps;
static_assert(kBlock % kTileRows == 0);
struct Tile {
  std::int64_t first_row;
  int column;

  __device__ explicit Tile(int columns) {
    const unsigned across = (columns + kAcross - 1) / kAcross;
    first_row = std::int64_t{blockIdx.x / across} * kTileRows + threadIdx.x / kWarp;
    column = static_cast<int>(blockIdx.x % across * kAcross + threadIdx.x % kWarp * kVector);
  }
  __device__ std::int64_t row(int index) const { return first_row + index * kWarps; }
};
unsigned num_tiles(std::int64_t rows, std::int64_t columns) {
  return static_cast<unsigned>((rows + kTileRows - 1) / kTileRows * ((columns + kAcross - 1) / kAcross));
}

// Half a warp has a block of 128 columns.
__global__ void __launch_bounds__(kThreads)
    quantize_tokens(const Bf16* in, std::uint8_t* out, float* scales, std::int64_t rows, int columns) {
  const Tile tile(columns);
  const int column = tile.column, blocks = (columns + kBlock - 1) / kBlock;
  uint4 raw[kRowsEach] = {};
#pragma unroll
  for (int index = 0; index < kRowsEach; ++index)
    if (tile.row(index) < rows && column < columns)
      raw[index] = __ldg(reinterpret_cast<const uint4*>(in + tile.row(index) * columns + column));
#pragma unroll
  for (int index = 0; index < kRowsEach; ++index) {
    const std::int64_t row = tile.row(index);
    uint4 of_lane = {};
    widen(of_lane, raw[index]);
    const auto* pairs = reinterpret_cast<const __nv_bfloat162*>(&of_lane);
    __nv_bfloat162 largest = __hmax2(__hmax2(pairs[0], pairs[1]), __hmax2(pairs[2], pairs[3]));
#pragma unroll
    for (int offset = kBlock / kVector / 2; offset > 0; offset /= 2)
      largest = __hmax2(largest, __shfl_xor_sync(0xffffffffU, largest, offset));
    if (row >= rows || column >= columns) continue;
    const float scale = scale_of(__bfloat162float(__hmax(largest.x, largest.y))), inverse = 1 / scale;
    if (column % kBlock == 0) scales[row * blocks + column / kBlock] = scale;
    float inverses[kVector];
#pragma unroll
    for (float& of_element : inverses) of_element = inverse;
    *reinterpret_cast<uint2*>(out + row * columns + column) = quantized(raw[index], inverses);
  }
}

// A block of threads for 128 rows x 128 columns: 8 neighbouring columns a thread, 16 threads down, 8 rows each.
__global__ void __launch_bounds__(kThreads)
    quantize_channels(const Bf16* in, std::uint8_t* out, float* scales, std::int64_t rows, int columns) {
  constexpr int kLanes = kBlock / kVector, kDown = kThreads / kLanes, kRows = kBlock / kDown;
  __shared__ uint4 largest_of[kWarps][kLanes];
  __shared__ float inverse_of[kBlock];
  const int thread = static_cast<int>(threadIdx.x), across = thread % kLanes, down = thread / kLanes;
  const int first_column = static_cast<int>(blockIdx.x) * kBlock, column = first_column + across * kVector;
  const std::int64_t first_row = std::int64_t{blockIdx.y} * kBlock + down;
  uint4 raw[kRows] = {}, largest = {};
#pragma unroll
  for (int index = 0; index < kRows; ++index) {
    const std::int64_t row = first_row + index * kDown;
    if (row < rows && column < columns) raw[index] = __ldg(reinterpret_cast<const uint4*>(in + row * columns + column));
  }
#pragma unroll
  for (int index = 0; index < kRows; ++index) widen(largest, raw[index]);
  // The other half of the warp has the same columns.
  widen(largest, {__shfl_xor_sync(0xffffffffU, largest.x, kLanes), __shfl_xor_sync(0xffffffffU, largest.y, kLanes),
                  __shfl_xor_sync(0xffffffffU, largest.z, kLanes), __shfl_xor_sync(0xffffffffU, largest.w, kLanes)});
  if (thread % kWarp < kLanes) largest_of[thread / kWarp][across] = largest;
  __syncthreads();
  if (thread < kBlock) {
    Bf16 of_column = __float2bfloat16(0.0F);
#pragma unroll
    for (const auto& of_warp : largest_of)
      of_column = __hmax(of_column, reinterpret_cast<const Bf16*>(of_warp)[thread]);
    const float scale = scale_of(__bfloat162float(of_column));
    inverse_of[thread] = 1 / scale;
    if (first_column + thread < columns) scales[std::int64_t{blockIdx.y} * columns + first_column + thread] = scale;
  }
  __syncthreads();
  if (column >= columns) return;
  float inverse[kVector];
#pragma unroll
  for (int element = 0; element < kVector; ++element) inverse[element] = inverse_of[across * kVector + element];
#pragma unroll
  for (int index = 0; index < kRows; ++index) {
    const std::int64_t row = first_row + index * kDown;
    if (row < rows) *reinterpret_cast<uint2*>(out + row * columns + column) = quantized(raw[index], inverse);
  }
}

template <ScaleBlocks kBlocks>
__global__ void __launch_bounds__(kThreads)
    dequantize(const std::uint8_t* in, const float* scales, Bf16* out, std::int64_t rows, int columns) {
  const Tile tile(columns);
  const int column = tile.column, blocks = (columns + kBlock - 1) / kBlock;
  if (column >= columns) return;
  constexpr bool kByToken = kBlocks == ScaleBlocks::kToken;
  uint2 raw[kRowsEach];
  float scale_of_row[kRowsEach];
#pragma unroll
  for (int index = 0; index < kRowsEach; ++index) {
    const std::int64_t row = tile.row(index);
    if (row >= rows) break;
    raw[index] = __ldg(reinterpret_cast<const uint2*>(in + row * columns + column));
    if (kByToken) scale_of_row[index] = __ldg(scales + row * blocks + column / kBlock);
  }
  Vector8 scale;
  if (!kByToken && tile.first_row < rows) scale = Vector8::load(scales + tile.first_row / kBlock * columns + column);
#pragma unroll
  for (int index = 0; index < kRowsEach; ++index) {
    const std::int64_t row = tile.row(index);
    if (row >= rows) break;
    if (kByToken)
      for (float& of_column : scale.value) of_column = scale_of_row[index];
    dequantized(raw[index], scale).store(out + row * columns + column);
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
  // At least 3 threads are there for the elements that fill no vector.
  const auto blocks = static_cast<unsigned>((size / 4 + kThreads * kCastLoads) / (kThreads * kCastLoads));
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
  const auto blocks = static_cast<unsigned>((vectors + kThreads - 1) / kThreads);
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
    quantize_tokens<<<num_tiles(rows, columns), kThreads, 0, on.stream>>>(
        op.in.as<Bf16>(), op.out.as<std::uint8_t>(), op.scales.as<float>(), rows, static_cast<int>(columns));
  } else {
    const dim3 grid(static_cast<unsigned>(blocks_of(columns)), static_cast<unsigned>(blocks_of(rows)));
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
  auto* kernel = op.blocks == ScaleBlocks::kToken ? dequantize<ScaleBlocks::kToken> : dequantize<ScaleBlocks::kChannel>;
  kernel<<<num_tiles(rows, columns), kThreads, 0, on.stream>>>(op.in.as<std::uint8_t>(), op.scales.as<float>(),
                                                               op.out.as<Bf16>(), rows, static_cast<int>(columns));
  MSMOE_CHECK(cudaGetLastError());
}

void launch(const Zero& op, const DeviceLaunch& on) {
  if (op.out.size() > 0) MSMOE_CHECK(cudaMemsetAsync(op.out.data, 0, op.out.bytes(), on.stream));
}

}  // namespace msmoe::kernels
