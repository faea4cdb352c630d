// Matrix products by OpenBLAS, which chooses its kernels by the processor that it finds: sums are fp32, and equal
// operands give equal bits on one machine. On the calling thread alone, since a rank has one core; any thread may call.
#pragma once

#include <cstdint>

namespace msmoe::kernels::cpu {

// op(a) of a product: rows of memory, `stride` elements from one to the next.
struct Factor {
  const float* data;
  std::int64_t stride;
  bool transposed = false;
};
struct Extents {
  std::int64_t m, n, k;  // op(a): [m, k], op(b): [k, n], c: [m, n]
};
struct Sum {
  float* data;
  std::int64_t stride;
  bool accumulate = false;
};

// c = scale op(a) op(b), or c += with accumulate. Without accumulate c may hold anything, NaNs too.
void multiply(const Extents& extents, const Factor& a, const Factor& b, const Sum& c, float scale = 1);

}  // namespace msmoe::kernels::cpu
