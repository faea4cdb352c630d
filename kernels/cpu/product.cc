#include "kernels/cpu/product.h"

#include <cblas.h>

#include <algorithm>
#include <cassert>
#include <limits>

namespace msmoe::kernels::cpu {
namespace {

// Only distributions without a single-threaded build have threads to turn off.
void use_calling_thread_alone() { [[maybe_unused]] static const bool done = (openblas_set_num_threads(1), true); }

blasint size(std::int64_t count) {
  assert(count >= 0 && count <= std::numeric_limits<blasint>::max());
  return static_cast<blasint>(count);
}
// BLAS asks for at least one, of matrices without columns, too.
blasint stride(std::int64_t count) { return size(std::max<std::int64_t>(count, 1)); }
CBLAS_TRANSPOSE transpose(const Factor& factor) { return factor.transposed ? CblasTrans : CblasNoTrans; }

}  // namespace

void multiply(const Extents& extents, const Factor& a, const Factor& b, const Sum& c, float scale) {
  const auto& [m, n, k] = extents;
  if (m == 0 || n == 0) return;
  use_calling_thread_alone();
  cblas_sgemm(CblasRowMajor, transpose(a), transpose(b), size(m), size(n), size(k), scale, a.data, stride(a.stride),
              b.data, stride(b.stride), c.accumulate ? 1.0F : 0.0F, c.data, stride(c.stride));
}

}  // namespace msmoe::kernels::cpu
