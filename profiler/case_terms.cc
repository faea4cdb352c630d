#include "profiler/case_terms.h"

#include <cassert>
#include <functional>
#include <map>
#include <utility>

namespace msmoe::profiler {
namespace {

constexpr double kE4m3 = 1, kBf16 = 2, kFp32 = 4;  // bytes
constexpr double kScaleBlock = 128;                // elements that share a scale

// Sizes of a case by name; 1 where it has none.
class Sizes {
 public:
  explicit Sizes(const Case& of) : of_(of) {}
  double operator()(const char* name) const {
    const auto at = of_.shape.find(name);
    return at == of_.shape.end() ? 1 : static_cast<double>(at->second);
  }
  double elements() const { return (*this)("rows") * (*this)("width"); }
  double logits() const { return (*this)("rows") * (*this)("experts"); }
  double assignments() const { return (*this)("rows") * (*this)("choices"); }

 private:
  const Case& of_;
};

double matrices(const Sizes& of, double count) { return count * kBf16 * of.elements(); }
double scaled(const Sizes& of) { return (kBf16 + kE4m3 + kFp32 / kScaleBlock) * of.elements(); }
double permuted(const Sizes& of) { return kBf16 * of("width") * (of("rows") + of.assignments()); }

using Traffic = std::function<double(const Sizes&)>;
const std::map<std::string, Traffic, std::less<>>& traffic() {
  static const std::map<std::string, Traffic, std::less<>> bytes = {
      {"rms_norm", [](const Sizes& of) { return matrices(of, 4); }},  // the residual is added and written, too
      {"rms_norm_backward", [](const Sizes& of) { return matrices(of, 4); }},
      {"swi_glu", [](const Sizes& of) { return matrices(of, 3); }},
      {"swi_glu_backward", [](const Sizes& of) { return matrices(of, 6); }},  // the result is written again, too
      {"add", [](const Sizes& of) { return matrices(of, 3); }},
      {"rope", [](const Sizes& of) { return matrices(of, 2); }},
      {"cast", [](const Sizes& of) { return (kFp32 + kBf16) * of.elements(); }},
      {"quantize", scaled},
      {"dequantize", scaled},
      {"sum_chunks", [](const Sizes& of) { return (kBf16 * of("parts") + kFp32) * of.elements(); }},
      {"embedding", [](const Sizes& of) { return matrices(of, 2); }},
      {"embedding_backward", [](const Sizes& of) { return (kBf16 + 2 * kFp32) * of.elements(); }},
      {"cross_entropy", [](const Sizes& of) { return matrices(of, 1); }},
      {"cross_entropy_backward", [](const Sizes& of) { return matrices(of, 2); }},
      {"squared_norm", [](const Sizes& of) { return kFp32 * of.elements(); }},
      {"adam_w", [](const Sizes& of) { return (7 * kFp32 + kBf16) * of.elements(); }},
      {"router", [](const Sizes& of) { return 2 * kFp32 * (of.logits() + of.assignments()); }},
      {"router_backward", [](const Sizes& of) { return kFp32 * (3 * of.logits() + 2 * of.assignments()); }},
      {"sort_by_expert", [](const Sizes& of) { return 3 * kFp32 * of.assignments(); }},
      {"gather_rows", permuted},
      {"combine_rows", permuted},
      {"combine_weight_gradient", permuted},
  };
  return bytes;
}

constexpr std::string_view kGemm = "gemm_", kGroupedGemm = "grouped_gemm_", kAttention = "attention_";

// As kernels/cuda/grouped_gemm.cu chooses.
bool is_short(const Case& of) {
  const Sizes size(of);
  return of.what.ends_with("weight_gradient") && has_short_weight_gradients(size("rows"), size("experts"));
}

// As core/lowering does: operands once, a weight gradient read and written in fp32.
TermChoices product(const Case& of, const Gpu& gpu) {
  const Sizes size(of);
  const CostForm form = form_of(of);
  const bool is_grouped = form != CostForm::kGemm;
  const double rows = is_grouped ? size("rows") : size("tokens"), groups = is_grouped ? size("experts") : 1;
  const double out = size("out"), in = size("in");
  const double activations = kBf16 * rows * (out + in), weights = groups * out * in;
  ProductShape shape{.rows = rows, .columns = out, .depth = in, .groups = groups};
  shape.hbm = {activations + kBf16 * weights};
  if (of.what.ends_with("input_gradient")) std::swap(shape.columns, shape.depth);
  if (of.what.ends_with("weight_gradient")) {
    shape = {.rows = groups * in, .columns = out, .depth = rows / groups, .groups = groups};
    shape.hbm = {activations + 2 * kFp32 * weights};
  }
  return product_terms(form, shape, gpu, gpu.bf16_peak);
}

TermChoices attention(const Case& of, const Gpu& gpu) {
  const Sizes size(of);
  const double widths = size("width") + size("value_width");
  const bool is_backward = of.what == "attention_backward";
  AttentionShape shape;
  shape.queries = size("sequences") * size("length");
  shape.span = size("length") / 2;
  shape.heads = size("heads");
  shape.width = widths / 2;
  shape.flops = {2 * shape.queries * shape.span * shape.heads * widths * (is_backward ? 2.5 : 1)};
  shape.hbm = {kBf16 * shape.queries * (size("heads") + size("kv_heads")) * widths * (is_backward ? 2 : 1)};
  return attention_terms(shape, gpu, gpu.bf16_peak);
}

}  // namespace

bool has_terms(std::string_view what) {
  if (what.find(' ') != std::string_view::npos) return false;  // pairs
  return what.starts_with(kGemm) || what.starts_with(kGroupedGemm) || what.starts_with(kAttention) ||
         traffic().contains(what);
}

CostForm form_of(const Case& of) {
  assert(has_terms(of.what));
  if (of.what.starts_with(kGemm)) return CostForm::kGemm;
  if (of.what.starts_with(kGroupedGemm)) return is_short(of) ? CostForm::kGroupedGemmShort : CostForm::kGroupedGemm;
  if (of.what.starts_with(kAttention)) return CostForm::kAttention;
  return CostForm::kMemory;
}

std::string fitted_as(const Case& of) {
  return form_of(of) == CostForm::kGroupedGemmShort ? of.what + "_short" : of.what;
}

TermChoices terms_of(const Case& of, const Gpu& gpu) {
  switch (form_of(of)) {
    case CostForm::kGemm:
    case CostForm::kGroupedGemm:
    case CostForm::kGroupedGemmShort: return product(of, gpu);
    case CostForm::kAttention: return attention(of, gpu);
    case CostForm::kMemory: break;
  }
  return memory_terms(traffic_of(of), gpu);
}

Bytes traffic_of(const Case& of) {
  const auto at = traffic().find(of.what);
  assert(at != traffic().end());
  return {at->second(Sizes(of))};
}

}  // namespace msmoe::profiler
