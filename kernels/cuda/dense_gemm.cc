// Products of two matrices with cuBLASLt. It thinks in columns: our row-major [m, n] is its column-major [n, m], so
// c = a b is asked for as c^T = b^T a^T, and what we call b comes first.
#include <map>
#include <tuple>

#include "kernels/cuda/check.h"
#include "kernels/cuda/libraries.h"
#include "kernels/cuda/requirements.h"

namespace msmoe::kernels {

namespace {

// What NVIDIA recommends for Hopper.
constexpr std::size_t kBlasWorkspace = std::size_t{32} << 20;

template <class Handle, cublasStatus_t (*destroy)(Handle)>
struct Destroy {
  void operator()(Handle handle) const { destroy(handle); }
};
template <class Handle, cublasStatus_t (*destroy)(Handle)>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Destroy<Handle, destroy>>;
using Description = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

Layout layout_of(const View& view) {
  cublasLtMatrixLayout_t layout = nullptr;
  MSMOE_CHECK(cublasLtMatrixLayoutCreate(&layout, view.element == Element::kBf16 ? CUDA_R_16BF : CUDA_R_32F,
                                         view.columns, view.rows, view.columns));
  return Layout(layout);
}

template <class T>
void set(const Description& description, cublasLtMatmulDescAttributes_t attribute, T value) {
  MSMOE_CHECK(cublasLtMatmulDescSetAttribute(description.get(), attribute, &value, sizeof value));
}

// m, n, k, transposed a, b, accumulate, element of c, SMs
using Key = std::tuple<std::int64_t, std::int64_t, std::int64_t, bool, bool, bool, Element, int>;

struct Plan {
  Description description;
  Layout a, b, c;
  cublasLtMatmulAlgo_t algorithm;
};

Plan choose(cublasLtHandle_t handle, const Gemm& gemm, int sms) {
  Plan plan;
  cublasLtMatmulDesc_t description = nullptr;
  MSMOE_CHECK(cublasLtMatmulDescCreate(&description, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  plan.description.reset(description);
  set(plan.description, CUBLASLT_MATMUL_DESC_TRANSA, gemm.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(plan.description, CUBLASLT_MATMUL_DESC_TRANSB, gemm.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
  if (sms > 0) set(plan.description, CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET, std::int32_t{sms});
  plan.a = layout_of(gemm.a);
  plan.b = layout_of(gemm.b);
  plan.c = layout_of(gemm.c);

  // cuBLASLt takes operands for aligned to 256 bytes unless told; ours promise 16 only.
  cublasLtMatmulPreference_t created = nullptr;
  MSMOE_CHECK(cublasLtMatmulPreferenceCreate(&created));
  const Preference preference(created);
  MSMOE_CHECK(cublasLtMatmulPreferenceSetAttribute(created, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kBlasWorkspace,
                                                   sizeof kBlasWorkspace));
  constexpr std::uint32_t kAlignment = 16;
  for (const auto attribute :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    MSMOE_CHECK(cublasLtMatmulPreferenceSetAttribute(created, attribute, &kAlignment, sizeof kAlignment));
  }
  cublasLtMatmulHeuristicResult_t result;
  int found = 0;
  MSMOE_CHECK(cublasLtMatmulAlgoGetHeuristic(handle, description, plan.b.get(), plan.a.get(), plan.c.get(),
                                             plan.c.get(), created, 1, &result, &found));
  require(found == 1, "gemm", "cuBLASLt has no kernel for this shape");
  plan.algorithm = result.algo;
  return plan;
}

struct Shape {
  std::int64_t m, n, k;
};

Shape check_operands(const Gemm& gemm) {
  const Shape shape{.m = gemm.c.rows, .n = gemm.c.columns, .k = gemm.transpose_a ? gemm.a.rows : gemm.a.columns};
  const auto [m, n, k] = shape;
  require_matrix(gemm.a, gemm.transpose_a ? k : m, gemm.transpose_a ? m : k, Element::kBf16, "gemm", "a");
  require_matrix(gemm.b, gemm.transpose_b ? n : k, gemm.transpose_b ? k : n, Element::kBf16, "gemm", "b");
  require(gemm.c.element == Element::kBf16 || gemm.c.element == Element::kFp32, "gemm", "c is neither bf16 nor fp32");
  require_matrix(gemm.c, m, n, gemm.c.element, "gemm", "c");
  return shape;
}

}  // namespace

struct DenseGemm::State {
  cublasLtHandle_t handle = nullptr;
  std::map<Key, Plan> plans;

  State() { MSMOE_CHECK(cublasLtCreate(&handle)); }
  ~State() {
    plans.clear();
    cublasLtDestroy(handle);
  }
};

DenseGemm::DenseGemm() : state_(std::make_unique<State>()) {}
DenseGemm::~DenseGemm() = default;

std::size_t DenseGemm::workspace_bytes(const Gemm&) const { return kBlasWorkspace; }

void DenseGemm::run(const Gemm& gemm, const DeviceLaunch& launch) {
  const auto [m, n, k] = check_operands(gemm);
  if (m == 0 || n == 0) return;
  if (k == 0) {
    if (!gemm.accumulate) MSMOE_CHECK(cudaMemsetAsync(gemm.c.data, 0, gemm.c.bytes(), launch.stream));
    return;
  }
  const int sms = gemm.sms < launch.sms ? gemm.sms : 0;
  const Key key{m, n, k, gemm.transpose_a, gemm.transpose_b, gemm.accumulate, gemm.c.element, sms};
  auto plan = state_->plans.find(key);
  if (plan == state_->plans.end()) plan = state_->plans.emplace(key, choose(state_->handle, gemm, sms)).first;

  const auto& [description, a, b, c, algorithm] = plan->second;
  const float alpha = 1, beta = gemm.accumulate ? 1 : 0;
  MSMOE_CHECK(cublasLtMatmul(state_->handle, description.get(), &alpha, gemm.b.data, b.get(), gemm.a.data, a.get(),
                             &beta, gemm.c.data, c.get(), gemm.c.data, c.get(), &algorithm, launch.workspace,
                             kBlasWorkspace, launch.stream));
}

}  // namespace msmoe::kernels
