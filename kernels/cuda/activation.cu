// What happens to single elements of a row: SwiGLU, sums, rotations.
#include "kernels/cuda/check.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/operators.h"
#include "kernels/cuda/requirements.h"
#include "kernels/cuda/rotation.cuh"

namespace msmoe::kernels {
namespace {

using Bf16 = __nv_bfloat16;
constexpr int kThreads = 256, kVector = 8, kBlocksPerSm = 8;
constexpr int kRotatedEach = 2, kRopeBlocksPerSm = 5;
constexpr int kMostRotated = 4096;  // its table fits in shared memory

__device__ inline float sigmoid(float x) { return 1.0F / (1.0F + __expf(-x)); }

// One block of threads walks over vectors of 8; f is a multiple of 8, so none crosses a row.
__global__ void __launch_bounds__(kThreads)
    swiglu(const Bf16* gate_up, const float* gate_weights, Bf16* out, std::int64_t rows, int f) {
  const std::int64_t vectors_per_row = f / kVector;
  for (std::int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const float weight = gate_weights == nullptr ? 1.0F : gate_weights[row];
    const Bf16* gate = gate_up + row * 2 * f;
#pragma unroll 2
    for (std::int64_t vector = threadIdx.x; vector < vectors_per_row; vector += kThreads) {
      const Vector8 g = Vector8::load(gate + vector * kVector), u = Vector8::load(gate + f + vector * kVector);
      Vector8 result;
#pragma unroll
      for (int element = 0; element < kVector; ++element)
        result.value[element] = weight * g.value[element] * sigmoid(g.value[element]) * u.value[element];
      result.store(out + row * f + vector * kVector);
    }
  }
}

// With s = sigmoid(gate): d silu / d gate = s (1 + gate (1 - s)).
__global__ void __launch_bounds__(kThreads)
    swiglu_backward(const Bf16* gate_up, const float* gate_weights, const Bf16* out_gradient, Bf16* gate_up_gradient,
                    float* gate_weight_gradient, Bf16* out, std::int64_t rows, int f) {
  const std::int64_t vectors_per_row = f / kVector;
  for (std::int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const float weight = gate_weights == nullptr ? 1.0F : gate_weights[row];
    const std::int64_t start = row * 2 * f;
    float dot = 0;
    for (std::int64_t vector = threadIdx.x; vector < vectors_per_row; vector += kThreads) {
      const std::int64_t column = vector * kVector;
      const Vector8 g = Vector8::load(gate_up + start + column), u = Vector8::load(gate_up + start + f + column),
                    d = Vector8::load(out_gradient + row * f + column);
      Vector8 gate_gradient, up_gradient, again;
#pragma unroll
      for (int element = 0; element < kVector; ++element) {
        const float gate = g.value[element], up = u.value[element], s = sigmoid(gate), silu = gate * s;
        const float gradient = d.value[element] * weight;
        gate_gradient.value[element] = gradient * up * s * (1 + gate * (1 - s));
        up_gradient.value[element] = gradient * silu;
        again.value[element] = weight * silu * up;
        dot += d.value[element] * silu * up;
      }
      gate_gradient.store(gate_up_gradient + start + column);
      up_gradient.store(gate_up_gradient + start + f + column);
      if (out != nullptr) again.store(out + row * f + column);
    }
    if (gate_weight_gradient == nullptr) continue;
    dot = block_sum(dot);
    if (threadIdx.x == 0) gate_weight_gradient[row] = dot;
  }
}

__global__ void __launch_bounds__(kThreads) add(const Bf16* a, const Bf16* b, Bf16* out, std::int64_t vectors) {
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t vector = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; vector < vectors; vector += stride) {
    // out may be a or b.
    const Vector8 x = Vector8::load_written(a + vector * kVector), y = Vector8::load_written(b + vector * kVector);
    Vector8 sum;
#pragma unroll
    for (int element = 0; element < kVector; ++element) sum.value[element] = x.value[element] + y.value[element];
    sum.store(out + vector * kVector);
  }
}

// Of every head: which columns turn, and by how much at each position.
struct Rotation {
  int heads, width, half;
  double octaves_each;
  float direction;
};

// A block takes as many tokens at a time as give each thread kRotatedEach pairs of vectors, those of columns that turn
// together. What they turn by, cosine and sine, is the same for all heads of a token: table [tokens at a time, 8,
// half / 8], so that neighbours read neighbours. out: null for in place.
template <bool kInPlace>
__global__ void __launch_bounds__(kThreads, kRopeBlocksPerSm)
    rope(Bf16* vectors, const int* positions, Bf16* out, std::int64_t tokens, int tokens_at_a_time, const Rotation by) {
  extern __shared__ double turns_each[];  // at position 1; in the table's order
  auto* table = reinterpret_cast<float2*>(turns_each + by.half);
  const int vectors_per_head = by.half / kVector, vectors_per_token = by.heads * vectors_per_head;
  for (int slot = static_cast<int>(threadIdx.x); slot < by.half; slot += kThreads) {
    const int pair = slot % vectors_per_head * kVector + slot / vectors_per_head;
    turns_each[slot] = turns_of_pair(by.octaves_each, pair);
  }
  __syncthreads();
  const std::int64_t stride = std::int64_t{gridDim.x} * tokens_at_a_time;
  for (std::int64_t first = std::int64_t{blockIdx.x} * tokens_at_a_time; first < tokens; first += stride) {
    const int here = static_cast<int>(min(std::int64_t{tokens_at_a_time}, tokens - first));
    for (int entry = static_cast<int>(threadIdx.x); entry < here * by.half; entry += kThreads) {
      const double turns = positions[first + entry / by.half] * turns_each[entry % by.half];
      table[entry] = cosine_and_sine(turns, by.direction);
    }
    if constexpr (!kInPlace) {
      const int still = (by.width - 2 * by.half) / kVector;  // vectors of a head
      for (int index = static_cast<int>(threadIdx.x); index < here * by.heads * still; index += kThreads) {
        const std::int64_t offset = (first * by.heads + index / still) * by.width + index % still * kVector;
        *reinterpret_cast<uint4*>(out + offset) = __ldg(reinterpret_cast<const uint4*>(vectors + offset));
      }
    }
    __syncthreads();
    const int pairs = here * vectors_per_token;
    for (int start = static_cast<int>(threadIdx.x); start < pairs; start += kRotatedEach * kThreads) {
      Bf16* at[kRotatedEach];
      const float2* turns[kRotatedEach];
      uint4 a[kRotatedEach], b[kRotatedEach];
#pragma unroll
      for (int i = 0; i < kRotatedEach; ++i) {
        const int index = start + i * kThreads;
        if (index >= pairs) break;
        const int token = index / vectors_per_token, of_token = index % vectors_per_token;
        const int head = of_token / vectors_per_head, vector = of_token % vectors_per_head;
        at[i] = vectors + ((first + token) * by.heads + head + 1) * by.width - 2 * by.half + vector * kVector;
        turns[i] = table + token * by.half + vector;
        a[i] = *reinterpret_cast<const uint4*>(at[i]);
        b[i] = *reinterpret_cast<const uint4*>(at[i] + by.half);
      }
#pragma unroll
      for (int i = 0; i < kRotatedEach; ++i) {
        if (start + i * kThreads >= pairs) break;
        Vector8 x = Vector8::of(a[i]), y = Vector8::of(b[i]);
#pragma unroll
        for (int element = 0; element < kVector; ++element) {
          turn(x.value[element], y.value[element], turns[i][element * vectors_per_head]);
        }
        Bf16* const to = kInPlace ? at[i] : out + (at[i] - vectors);
        x.store(to);
        y.store(to + by.half);
      }
    }
    __syncthreads();
  }
}

void require_weights(const View& view, std::int64_t rows, const char* operation) {
  require(!view || (view.element == Element::kFp32 && view.size() == rows), operation,
          "the gates' weights and their gradients are fp32, one for each row");
}

}  // namespace

void launch(const SwiGlu& op, const DeviceLaunch& on) {
  const std::int64_t rows = op.out.rows, f = op.out.columns;
  require_matrix(op.out, rows, f, Element::kBf16, "swiglu", "out");
  require_matrix(op.gate_up, rows, 2 * f, Element::kBf16, "swiglu", "gate_up");
  require_weights(op.gate_weights, rows, "swiglu");
  if (op.out.size() == 0) return;
  swiglu<<<num_blocks(rows, 1, on.sms, 8 * kBlocksPerSm), kThreads, 0, on.stream>>>(
      op.gate_up.as<Bf16>(), optional_data<float>(op.gate_weights), op.out.as<Bf16>(), rows, static_cast<int>(f));
  MSMOE_CHECK(cudaGetLastError());
}

void launch(const SwiGluBackward& op, const DeviceLaunch& on) {
  const std::int64_t rows = op.out_gradient.rows, f = op.out_gradient.columns;
  require_matrix(op.out_gradient, rows, f, Element::kBf16, "swiglu_backward", "out_gradient");
  require_matrix(op.gate_up, rows, 2 * f, Element::kBf16, "swiglu_backward", "gate_up");
  require_matrix(op.gate_up_gradient, rows, 2 * f, Element::kBf16, "swiglu_backward", "gate_up_gradient");
  if (op.out) require_matrix(op.out, rows, f, Element::kBf16, "swiglu_backward", "out");
  require_weights(op.gate_weights, rows, "swiglu_backward");
  require_weights(op.gate_weight_gradient, rows, "swiglu_backward");
  if (op.out_gradient.size() == 0) return;
  swiglu_backward<<<num_blocks(rows, 1, on.sms, 8 * kBlocksPerSm), kThreads, 0, on.stream>>>(
      op.gate_up.as<Bf16>(), optional_data<float>(op.gate_weights), op.out_gradient.as<Bf16>(),
      op.gate_up_gradient.as<Bf16>(), optional_data<float>(op.gate_weight_gradient), optional_data<Bf16>(op.out), rows,
      static_cast<int>(f));
  MSMOE_CHECK(cudaGetLastError());
}

void launch(const Add& op, const DeviceLaunch& on) {
  for (const View& view : {op.a, op.b, op.out})
    require_matrix(view, op.out.rows, op.out.columns, Element::kBf16, "add", "a, b or out");
  if (op.out.size() == 0) return;
  const std::int64_t vectors = op.out.size() / kVector;
  add<<<num_blocks(vectors, kThreads, on.sms, kBlocksPerSm), kThreads, 0, on.stream>>>(op.a.as<Bf16>(), op.b.as<Bf16>(),
                                                                                       op.out.as<Bf16>(), vectors);
  MSMOE_CHECK(cudaGetLastError());
}

void launch(const Rope& op, const DeviceLaunch& on) {
  const std::int64_t tokens = op.vectors.rows;
  require_matrix(op.vectors, tokens, op.vectors.columns, Element::kBf16, "rope", "vectors");
  require(op.width > 0 && op.vectors.columns % op.width == 0 && op.width % kVector == 0, "rope",
          "columns are a multiple of the heads' width, which is one of 8");
  require(op.rotated >= 0 && op.rotated <= std::min(op.width, std::int64_t{kMostRotated}) &&
              op.rotated % (2 * kVector) == 0,
          "rope", "rotated is a multiple of 16, at most the heads' width and at most 4096");
  require(op.positions.element == Element::kInt32 && op.positions.size() == tokens, "rope",
          "positions are int32, one for each token");
  if (op.out) require_matrix(op.out, tokens, op.vectors.columns, Element::kBf16, "rope", "out");
  const bool in_place = !op.out || op.out.data == op.vectors.data;
  if (op.vectors.size() == 0) return;
  if (op.rotated == 0) {
    if (!in_place)
      MSMOE_CHECK(cudaMemcpyAsync(op.out.data, op.vectors.data, op.out.bytes(), cudaMemcpyDeviceToDevice, on.stream));
    return;
  }
  const Rotation by{.heads = static_cast<int>(op.vectors.columns / op.width),
                    .width = static_cast<int>(op.width),
                    .half = static_cast<int>(op.rotated / 2),
                    .octaves_each = octaves_each(op.base, op.rotated),
                    .direction = op.backward ? -1.0F : 1.0F};
  const int tokens_at_a_time =
      std::max(1, std::min(kRotatedEach * kThreads / (by.heads * by.half / kVector), kMostRotated / 2 / by.half));
  const std::size_t shared = by.half * sizeof(double) + tokens_at_a_time * by.half * sizeof(float2);
  const auto kernel = in_place ? rope<true> : rope<false>;
  kernel<<<num_blocks(tokens, tokens_at_a_time, on.sms, kRopeBlocksPerSm), kThreads, shared, on.stream>>>(
      op.vectors.as<Bf16>(), op.positions.as<int>(), optional_data<Bf16>(op.out), tokens, tokens_at_a_time, by);
  MSMOE_CHECK(cudaGetLastError());
}

}  // namespace msmoe::kernels
