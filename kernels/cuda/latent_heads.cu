// The heads of multi-head latent attention: copies, and the rotations on the way. A block takes a token at a time; what
// its pairs turn by is the same for all heads.
#include "kernels/cuda/check.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/operators.h"
#include "kernels/cuda/requirements.h"
#include "kernels/cuda/rotation.cuh"

namespace msmoe::kernels {
namespace {

using Bf16 = __nv_bfloat16;
constexpr int kThreads = 256, kVector = 8, kBlocksPerSm = 8;
constexpr int kMostTurned = kThreads * kVector;  // a vector of the rotary key for each thread

// Of a head; widths are multiples of 8 columns. half is that of the turned part.
struct Widths {
  int heads, plain, half, value;
  double octaves_each;

  __host__ __device__ int turned() const { return 2 * half; }
  __host__ __device__ int together() const { return plain + turned(); }
  __host__ __device__ int expanded() const { return plain + value; }
};

__device__ inline void copy_vector(const Bf16* from, Bf16* to) {
  *reinterpret_cast<uint4*>(to) = __ldg(reinterpret_cast<const uint4*>(from));
}

// `width` columns of each head, which lie from_stride and to_stride apart.
__device__ inline void copy_heads(const Bf16* from, int from_stride, Bf16* to, int to_stride, int heads, int width) {
  const int vectors = width / kVector;
#pragma unroll 4
  for (int index = static_cast<int>(threadIdx.x); index < heads * vectors; index += kThreads) {
    const int head = index / vectors, column = index % vectors * kVector;
    copy_vector(from + std::int64_t{head} * from_stride + column, to + std::int64_t{head} * to_stride + column);
  }
}

// What one token's pairs turn by, in shared memory [half].
class Turns {
 public:
  __device__ Turns(double* of_pairs, const Widths& by, float direction)
      : of_pairs_(of_pairs),
        table_(reinterpret_cast<float2*>(of_pairs + by.half)),
        half_(by.half),
        direction_(direction) {
    for (int pair = static_cast<int>(threadIdx.x); pair < half_; pair += kThreads)
      of_pairs_[pair] = turns_of_pair(by.octaves_each, pair);  // read by this thread only
  }
  __device__ void set_position(int position) {
    for (int pair = static_cast<int>(threadIdx.x); pair < half_; pair += kThreads)
      table_[pair] = cosine_and_sine(position * of_pairs_[pair], direction_);
  }
  __device__ const float2& operator[](int pair) const { return table_[pair]; }

  // Eight pairs of neighbours.
  __device__ void turn_vectors(Vector8& x, Vector8& y, int first_pair) const {
#pragma unroll
    for (int element = 0; element < kVector; ++element)
      turn(x.value[element], y.value[element], table_[first_pair + element]);
  }
  // The turned part of each head; from may be to.
  __device__ void turn_heads(const Bf16* from, Bf16* to, const Widths& by) const {
    const int vectors = half_ / kVector;
#pragma unroll 2
    for (int index = static_cast<int>(threadIdx.x); index < by.heads * vectors; index += kThreads) {
      const int pair = index % vectors * kVector;
      const std::int64_t at = std::int64_t{index / vectors} * by.together() + by.plain + pair;
      Vector8 x = Vector8::load_written(from + at), y = Vector8::load_written(from + at + half_);
      turn_vectors(x, y, pair);
      x.store(to + at);
      y.store(to + at + half_);
    }
  }

  static std::size_t shared_bytes(int half) { return half * (sizeof(double) + sizeof(float2)); }

 private:
  double* of_pairs_;
  float2* table_;
  int half_;
  float direction_;
};

__global__ void __launch_bounds__(kThreads)
    forward(const Bf16* queries, const Bf16* expanded, const Bf16* rotary, const int* positions, Bf16* query_out,
            Bf16* key, Bf16* value, std::int64_t tokens, const Widths by) {
  extern __shared__ double shared[];
  Turns turns(shared, by, 1);
  const int row = by.heads * by.together(), expanded_row = by.heads * by.expanded(), shared_vectors = by.half / kVector;
  for (std::int64_t token = blockIdx.x; token < tokens; token += gridDim.x) {
    turns.set_position(positions[token]);
    const Bf16 *queries_here = queries + token * row, *expanded_here = expanded + token * expanded_row;
    Bf16 *query_here = query_out + token * row, *key_here = key + token * row;
    if (queries != query_out) copy_heads(queries_here, by.together(), query_here, by.together(), by.heads, by.plain);
    copy_heads(expanded_here, by.expanded(), key_here, by.together(), by.heads, by.plain);
    copy_heads(expanded_here + by.plain, by.expanded(), value + token * by.heads * by.value, by.value, by.heads,
               by.value);
    __syncthreads();
    turns.turn_heads(queries_here, query_here, by);
    // Turned again for each head, which costs no memory: the L1 cache has the vectors.
    for (int index = static_cast<int>(threadIdx.x); index < by.heads * shared_vectors; index += kThreads) {
      const int pair = index % shared_vectors * kVector;
      const Bf16* from = rotary + token * by.turned() + pair;
      Vector8 x = Vector8::load(from), y = Vector8::load(from + by.half);
      turns.turn_vectors(x, y, pair);
      Bf16* to = key_here + std::int64_t{index / shared_vectors} * by.together() + by.plain + pair;
      x.store(to);
      y.store(to + by.half);
    }
    __syncthreads();
  }
}

// The sum over heads: each thread adds one vector of some heads, all that are equal modulo `groups`; then each pair the
// groups, in order. sums: [groups, turned], 8 elements a thread.
__global__ void __launch_bounds__(kThreads)
    backward(const Bf16* query_out_gradient, const Bf16* key_gradient, const Bf16* value_gradient, const int* positions,
             Bf16* queries_gradient, Bf16* expanded_gradient, Bf16* rotary_gradient, std::int64_t tokens,
             const Widths by) {
  extern __shared__ double shared[];
  __shared__ __align__(16) float sums[kThreads * kVector];
  Turns turns(shared, by, -1);
  const int row = by.heads * by.together(), expanded_row = by.heads * by.expanded();
  const int vectors = by.turned() / kVector, groups = vectors == 0 ? 0 : kThreads / vectors;
  const int group = groups == 0 ? 0 : static_cast<int>(threadIdx.x) / vectors;
  for (std::int64_t token = blockIdx.x; token < tokens; token += gridDim.x) {
    turns.set_position(positions[token]);
    const Bf16 *query_here = query_out_gradient + token * row, *key_here = key_gradient + token * row;
    Bf16 *queries_here = queries_gradient + token * row, *expanded_here = expanded_gradient + token * expanded_row;
    if (group < groups) {
      const int column = static_cast<int>(threadIdx.x) % vectors * kVector;
      Vector8 sum = {};
#pragma unroll 4
      for (int head = group; head < by.heads; head += groups) {
        const Vector8 more = Vector8::load(key_here + std::int64_t{head} * by.together() + by.plain + column);
#pragma unroll
        for (int element = 0; element < kVector; ++element) sum.value[element] += more.value[element];
      }
      sum.store(sums + group * by.turned() + column);
    }
    if (query_out_gradient != queries_gradient)
      copy_heads(query_here, by.together(), queries_here, by.together(), by.heads, by.plain);
    copy_heads(key_here, by.together(), expanded_here, by.expanded(), by.heads, by.plain);
    copy_heads(value_gradient + token * by.heads * by.value, by.value, expanded_here + by.plain, by.expanded(),
               by.heads, by.value);
    __syncthreads();
    turns.turn_heads(query_here, queries_here, by);
    for (int pair = static_cast<int>(threadIdx.x); pair < by.half; pair += kThreads) {
      float x = 0, y = 0;
      for (int of_group = 0; of_group < groups; ++of_group) {
        x += sums[of_group * by.turned() + pair];
        y += sums[of_group * by.turned() + pair + by.half];
      }
      turn(x, y, turns[pair]);
      Bf16* to = rotary_gradient + token * by.turned() + pair;
      to[0] = __float2bfloat16_rn(x);
      to[by.half] = __float2bfloat16_rn(y);
    }
    __syncthreads();
  }
}

// Of both directions, from views of the same shapes.
Widths check_widths(const View& queries, const View& values, const View& rotary, const View& positions,
                    std::int64_t heads, double base, const char* operation) {
  const std::int64_t turned = rotary.columns;
  require(heads > 0 && queries.columns % heads == 0 && values.columns % heads == 0, operation,
          "columns of queries and values are a multiple of heads");
  const std::int64_t together = queries.columns / heads, value = values.columns / heads;
  require(turned % (2 * kVector) == 0 && turned <= std::min(together, std::int64_t{kMostTurned}), operation,
          "the rotary part is a multiple of 16, at most a query head's width and at most 2048");
  require((together - turned) % kVector == 0 && value % kVector == 0, operation,
          "the part without position and the values are multiples of 8 wide");
  require(positions.element == Element::kInt32 && positions.size() == queries.rows, operation,
          "positions are int32, one for each token");
  return {.heads = static_cast<int>(heads),
          .plain = static_cast<int>(together - turned),
          .half = static_cast<int>(turned / 2),
          .value = static_cast<int>(value),
          .octaves_each = turned == 0 ? 0 : octaves_each(base, turned)};
}

}  // namespace

void launch(const LatentHeads& op, const DeviceLaunch& on) {
  constexpr char kName[] = "latent_heads";
  const std::int64_t tokens = op.queries.rows, columns = op.queries.columns;
  const Widths by = check_widths(op.queries, op.value, op.rotary, op.positions, op.heads, op.base, kName);
  require_matrix(op.queries, tokens, columns, Element::kBf16, kName, "queries");
  require_matrix(op.expanded, tokens, op.heads * by.expanded(), Element::kBf16, kName, "expanded");
  require_matrix(op.rotary, tokens, by.turned(), Element::kBf16, kName, "rotary");
  require_matrix(op.query_out, tokens, columns, Element::kBf16, kName, "query_out");
  require_matrix(op.key, tokens, columns, Element::kBf16, kName, "key");
  require_matrix(op.value, tokens, op.value.columns, Element::kBf16, kName, "value");
  if (tokens == 0) return;
  forward<<<num_blocks(tokens, 1, on.sms, kBlocksPerSm), kThreads, Turns::shared_bytes(by.half), on.stream>>>(
      op.queries.as<Bf16>(), op.expanded.as<Bf16>(), op.rotary.as<Bf16>(), op.positions.as<int>(),
      op.query_out.as<Bf16>(), op.key.as<Bf16>(), op.value.as<Bf16>(), tokens, by);
  MSMOE_CHECK(cudaGetLastError());
}

void launch(const LatentHeadsBackward& op, const DeviceLaunch& on) {
  constexpr char kName[] = "latent_heads_backward";
  const std::int64_t tokens = op.query_out_gradient.rows, columns = op.query_out_gradient.columns;
  const Widths by = check_widths(op.query_out_gradient, op.value_gradient, op.rotary_gradient, op.positions, op.heads,
                                 op.base, kName);
  require_matrix(op.query_out_gradient, tokens, columns, Element::kBf16, kName, "query_out_gradient");
  require_matrix(op.key_gradient, tokens, columns, Element::kBf16, kName, "key_gradient");
  require_matrix(op.value_gradient, tokens, op.value_gradient.columns, Element::kBf16, kName, "value_gradient");
  require_matrix(op.queries_gradient, tokens, columns, Element::kBf16, kName, "queries_gradient");
  require_matrix(op.expanded_gradient, tokens, op.heads * by.expanded(), Element::kBf16, kName, "expanded_gradient");
  require_matrix(op.rotary_gradient, tokens, by.turned(), Element::kBf16, kName, "rotary_gradient");
  if (tokens == 0) return;
  backward<<<num_blocks(tokens, 1, on.sms, kBlocksPerSm), kThreads, Turns::shared_bytes(by.half), on.stream>>>(
      op.query_out_gradient.as<Bf16>(), op.key_gradient.as<Bf16>(), op.value_gradient.as<Bf16>(),
      op.positions.as<int>(), op.queries_gradient.as<Bf16>(), op.expanded_gradient.as<Bf16>(),
      op.rotary_gradient.as<Bf16>(), tokens, by);
  MSMOE_CHECK(cudaGetLastError());
}

}  // namespace msmoe::kernels
