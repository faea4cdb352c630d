#include "profiler/cuda/operations.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <numeric>
#include <random>

#include "kernels/cuda/check.h"

namespace msmoe::profiler {
namespace {

using namespace kernels;  // NOLINT(google-build-using-namespace): every operation is named here

constexpr Element kFp32 = Element::kFp32, kInt32 = Element::kInt32, kBf16 = Element::kBf16;

// A case with memory to build it on.
struct Maker {
  const Case& of;
  Arena& arena;

  std::int64_t size(const char* name) const { return of.shape.at(name); }
  std::int64_t size_or(const char* name, std::int64_t other) const {
    const auto at = of.shape.find(name);
    return at == of.shape.end() ? other : at->second;
  }
  int sms() const { return static_cast<int>(size_or("sms", 0)); }
  View take(std::int64_t rows, std::int64_t columns, Element element = kBf16) const {
    return arena.take(rows, columns, element);
  }
  // The matrix of a case that goes row by row.
  View matrix(Element element = kBf16) const { return take(size("rows"), size("width"), element); }
  View zeros(View view) const {
    MSMOE_CHECK(cudaMemset(view.data, 0, view.bytes()));
    return view;
  }
  View draws(std::int64_t count, std::int64_t below) const {
    std::mt19937 random(3);
    std::uniform_int_distribution<std::int32_t> draw(0, static_cast<std::int32_t>(below) - 1);
    std::vector<std::int32_t> values(static_cast<std::size_t>(count));
    for (std::int32_t& value : values) value = draw(random);
    return arena.take(values);
  }
};

// `choices` distinct experts for each token: [tokens * choices].
std::vector<std::int32_t> choose_experts(std::int64_t tokens, std::int64_t experts, std::int64_t choices) {
  std::mt19937 random(11);
  std::vector<std::int32_t> all(static_cast<std::size_t>(experts)), chosen;
  std::iota(all.begin(), all.end(), 0);
  chosen.reserve(static_cast<std::size_t>(tokens * choices));
  for (std::int64_t token = 0; token < tokens; ++token) {
    for (std::int64_t c = 0; c < choices; ++c) {
      std::uniform_int_distribution<std::int64_t> rest(c, experts - 1);
      std::swap(all[static_cast<std::size_t>(c)], all[static_cast<std::size_t>(rest(random))]);
      chosen.push_back(all[static_cast<std::size_t>(c)]);
    }
  }
  return chosen;
}

// Where the assignments of a random choice of experts go: rows of assignments, and assignments of rows.
struct Permutation {
  std::vector<std::int32_t> row_of, source_of;
};
Permutation permute(const Maker& make) {
  const std::int64_t choices = make.size("choices");
  const std::vector<std::int32_t> experts =
      choose_experts(make.size("rows"), make.size_or("experts", choices * 8), choices);
  Permutation result;
  result.source_of.resize(experts.size());
  result.row_of.resize(experts.size());
  std::iota(result.source_of.begin(), result.source_of.end(), 0);
  std::ranges::stable_sort(result.source_of, {},
                           [&](std::int32_t at) { return experts[static_cast<std::size_t>(at)]; });
  for (std::size_t row = 0; row < experts.size(); ++row)
    result.row_of[static_cast<std::size_t>(result.source_of[row])] = static_cast<std::int32_t>(row);
  return result;
}

Operation gemm(const Maker& make, std::string_view pass) {
  const std::int64_t tokens = make.size("tokens"), out = make.size("out"), in = make.size("in");
  if (pass == "forward")
    return Gemm{.a = make.take(tokens, in),
                .b = make.take(out, in),
                .c = make.take(tokens, out),
                .transpose_b = true,
                .sms = make.sms()};
  if (pass == "input_gradient")
    return Gemm{.a = make.take(tokens, out), .b = make.take(out, in), .c = make.take(tokens, in), .sms = make.sms()};
  return Gemm{.a = make.take(tokens, out),
              .b = make.take(tokens, in),
              .c = make.take(out, in, kFp32),
              .transpose_a = true,
              .accumulate = true,
              .sms = make.sms()};
}

Operation grouped_gemm(const Maker& make, std::string_view pass) {
  const std::int64_t experts = make.size("experts"), rows = make.size("rows"), out = make.size("out"),
                     in = make.size("in");
  std::vector<std::int32_t> offsets(static_cast<std::size_t>(experts) + 1);
  for (std::size_t e = 0; e < offsets.size(); ++e)
    offsets[e] = static_cast<std::int32_t>(rows * static_cast<std::int64_t>(e) / experts);
  GroupedGemm of{.offsets = make.arena.take(offsets), .sms = make.sms()};
  of.rows = make.take(rows, pass == "forward" ? in : out);
  if (pass == "weight_gradient") {
    of.pass = GroupedPass::kWeightGradient;
    of.weights = make.take(rows, in);
    of.out = make.take(experts * out, in, kFp32);
    of.accumulate = make.size_or("accumulate", 1) != 0;
  } else {
    of.pass = pass == "forward" ? GroupedPass::kForward : GroupedPass::kInputGradient;
    of.weights = make.take(experts * out, in);
    of.out = make.take(rows, pass == "forward" ? out : in);
  }
  return of;
}

Attention attention_forward(const Maker& make) {
  const AttentionShape shape{.heads = make.size("heads"),
                             .kv_heads = make.size("kv_heads"),
                             .width = make.size("width"),
                             .value_width = make.size("value_width"),
                             .sequence_length = make.size("length"),
                             .scale = 1 / std::sqrt(static_cast<double>(make.size("width")))};
  const std::int64_t tokens = make.size("sequences") * shape.sequence_length;
  return {.shape = shape,
          .query = make.take(tokens, shape.heads * shape.width),
          .key = make.take(tokens, shape.kv_heads * shape.width),
          .value = make.take(tokens, shape.kv_heads * shape.value_width),
          .out = make.take(tokens, shape.heads * shape.value_width),
          .log_sum_exp = make.take(shape.heads, tokens, kFp32)};
}

Operation attention_backward(const Maker& make) {
  const Attention of = attention_forward(make);
  const auto like = [&](const View& view) { return make.take(view.rows, view.columns); };
  return AttentionBackward{.shape = of.shape,
                           .query = of.query,
                           .key = of.key,
                           .value = of.value,
                           .out = of.out,
                           .log_sum_exp = of.log_sum_exp,
                           .out_gradient = like(of.out),
                           .query_gradient = like(of.query),
                           .key_gradient = like(of.key),
                           .value_gradient = like(of.value)};
}

Operation rope(const Maker& make) {
  const std::int64_t head_width = make.size("width") / make.size("heads");
  return Rope{.vectors = make.matrix(),
              .positions = make.draws(make.size("rows"), 4096),
              .width = head_width,
              .rotated = head_width};
}

Operation router(const Maker& make) {
  const std::int64_t rows = make.size("rows"), experts = make.size("experts"), choices = make.size("choices");
  return Router{.shape = {.top_k = static_cast<int>(choices)},
                .logits = make.take(rows, experts, kFp32),
                .scores = make.take(rows, experts, kFp32),
                .experts = make.take(rows, choices, kInt32),
                .gates = make.take(rows, choices, kFp32),
                .counts = make.take(1, experts, kInt32),
                .losses = make.take(1, 2, kFp32)};
}
Operation router_backward(const Maker& make) {
  const std::int64_t rows = make.size("rows"), experts = make.size("experts"), choices = make.size("choices");
  return RouterBackward{.shape = {.top_k = static_cast<int>(choices)},
                        .logits = make.take(rows, experts, kFp32),
                        .scores = make.take(rows, experts, kFp32),
                        .experts = make.arena.take(choose_experts(rows, experts, choices), rows),
                        .counts = make.draws(experts, 100),
                        .gate_gradient = make.take(rows, choices, kFp32),
                        .logit_gradient = make.take(rows, experts, kFp32),
                        .aux_scale = 1e-2,
                        .z_scale = 1e-3};
}
Operation sort_by_expert(const Maker& make) {
  const std::int64_t rows = make.size("rows"), experts = make.size("experts"), choices = make.size("choices");
  return SortByExpert{.experts = make.arena.take(choose_experts(rows, experts, choices), rows),
                      .offsets = make.take(1, experts + 1, kInt32),
                      .row_of = make.take(rows, choices, kInt32),
                      .assignment_of = make.take(1, rows * choices, kInt32)};
}

Operation gather_rows(const Maker& make) {
  const std::int64_t rows = make.size("rows"), width = make.size("width"), choices = make.size("choices");
  return GatherRows{.in = make.take(rows, width),
                    .source_of = make.arena.take(permute(make).source_of),
                    .out = make.take(rows * choices, width),
                    .fan_out = static_cast<int>(choices)};
}
Operation combine_rows(const Maker& make) {
  const std::int64_t rows = make.size("rows"), width = make.size("width"), choices = make.size("choices");
  return CombineRows{.in = make.take(rows * choices, width),
                     .row_of = make.arena.take(permute(make).row_of, rows),
                     .weights = make.size_or("weighted", 0) != 0 ? make.take(rows, choices, kFp32) : View{},
                     .out = make.take(rows, width)};
}
Operation combine_weight_gradient(const Maker& make) {
  const std::int64_t rows = make.size("rows"), width = make.size("width"), choices = make.size("choices");
  return CombineWeightGradient{.in = make.take(rows * choices, width),
                               .row_of = make.arena.take(permute(make).row_of, rows),
                               .out_gradient = make.take(rows, width),
                               .weight_gradient = make.take(rows, choices, kFp32)};
}

Operation rms_norm(const Maker& make) {
  return RmsNorm{.input = make.matrix(),
                 .residual = make.matrix(),
                 .weight = make.take(1, make.size("width")),
                 .out = make.matrix(),
                 .sum = make.matrix(),
                 .inverse_rms = make.take(1, make.size("rows"), kFp32)};
}
Operation rms_norm_backward(const Maker& make) {
  return RmsNormBackward{.input = make.matrix(),
                         .weight = make.take(1, make.size("width")),
                         .inverse_rms = make.take(1, make.size("rows"), kFp32),
                         .out_gradient = make.matrix(),
                         .residual_gradient = make.matrix(),
                         .input_gradient = make.matrix(),
                         .weight_gradient = make.take(1, make.size("width"), kFp32)};
}
Operation swi_glu(const Maker& make) {
  return SwiGlu{.gate_up = make.take(make.size("rows"), 2 * make.size("width")),
                .gate_weights = make.take(1, make.size("rows"), kFp32),
                .out = make.matrix()};
}
Operation swi_glu_backward(const Maker& make) {
  return SwiGluBackward{.gate_up = make.take(make.size("rows"), 2 * make.size("width")),
                        .gate_weights = make.take(1, make.size("rows"), kFp32),
                        .out_gradient = make.matrix(),
                        .gate_up_gradient = make.take(make.size("rows"), 2 * make.size("width")),
                        .gate_weight_gradient = make.take(1, make.size("rows"), kFp32),
                        .out = make.matrix()};
}
Operation add(const Maker& make) { return Add{.a = make.matrix(), .b = make.matrix(), .out = make.matrix()}; }
Operation cast(const Maker& make) { return Cast{.in = make.matrix(kFp32), .out = make.matrix()}; }

View token_scales(const Maker& make) {
  constexpr std::int64_t kBlock = 128;
  return make.take(make.size("rows"), (make.size("width") + kBlock - 1) / kBlock, kFp32);
}
Operation quantize(const Maker& make) {
  return Quantize{.in = make.matrix(), .out = make.matrix(Element::kE4m3), .scales = token_scales(make)};
}
Operation dequantize(const Maker& make) {
  return Dequantize{.in = make.matrix(Element::kE4m3), .scales = token_scales(make), .out = make.matrix()};
}

constexpr std::int64_t kVocabulary = 32000;
Operation embedding(const Maker& make) {
  const std::int64_t entries = make.size_or("entries", kVocabulary);
  return Embedding{.table = make.take(entries, make.size("width")),
                   .ids = make.draws(make.size("rows"), entries),
                   .out = make.matrix()};
}
Operation embedding_backward(const Maker& make) {
  const std::int64_t entries = make.size_or("entries", kVocabulary);
  return EmbeddingBackward{.out_gradient = make.matrix(),
                           .ids = make.draws(make.size("rows"), entries),
                           .table_gradient = make.take(entries, make.size("width"), kFp32)};
}
Operation cross_entropy(const Maker& make) {
  const auto numbers = [&] { return make.take(1, make.size("rows"), kFp32); };
  return CrossEntropy{.logits = make.matrix(),
                      .targets = make.draws(make.size("rows"), make.size("width")),
                      .maximum = numbers(),
                      .exp_sum = numbers(),
                      .target_logit = numbers()};
}
Operation cross_entropy_backward(const Maker& make) {
  const auto numbers = [&] { return make.take(1, make.size("rows"), kFp32); };
  return CrossEntropyBackward{.targets = make.draws(make.size("rows"), make.size("width")),
                              .maximum = numbers(),
                              .exp_sum = numbers(),
                              .logits = make.matrix()};
}

Operation adam_w(const Maker& make) {
  return AdamW{.tensors = {{.parameter = make.matrix(),
                            .gradient = make.matrix(kFp32),
                            .master = make.matrix(kFp32),
                            .first_moment = make.matrix(kFp32),
                            .second_moment = make.zeros(make.matrix(kFp32))}},
               .rate = 1e-4};
}
Operation squared_norm(const Maker& make) {
  return SquaredNorm{.tensors = {make.matrix(kFp32)}, .sum = make.take(1, 1, kFp32)};
}
Operation sum_chunks(const Maker& make) {
  return SumChunks{.chunks = make.take(make.size("parts") * make.size("rows"), make.size("width")),
                   .out = make.matrix(kFp32)};
}

using Make = Operation (*)(const Maker&);
const std::map<std::string, Make>& makers() {
  static const std::map<std::string, Make> makers = {
      {"attention_forward", [](const Maker& make) -> Operation { return attention_forward(make); }},
      {"attention_backward", attention_backward},
      {"rope", rope},
      {"router", router},
      {"router_backward", router_backward},
      {"sort_by_expert", sort_by_expert},
      {"gather_rows", gather_rows},
      {"combine_rows", combine_rows},
      {"combine_weight_gradient", combine_weight_gradient},
      {"rms_norm", rms_norm},
      {"rms_norm_backward", rms_norm_backward},
      {"swi_glu", swi_glu},
      {"swi_glu_backward", swi_glu_backward},
      {"add", add},
      {"cast", cast},
      {"quantize", quantize},
      {"dequantize", dequantize},
      {"embedding", embedding},
      {"embedding_backward", embedding_backward},
      {"cross_entropy", cross_entropy},
      {"cross_entropy_backward", cross_entropy_backward},
      {"adam_w", adam_w},
      {"squared_norm", squared_norm},
      {"sum_chunks", sum_chunks}};
  return makers;
}

}  // namespace

Operation make_operation(const Case& of, Arena& arena) {
  const Maker make{of, arena};
  constexpr std::string_view kGemm = "gemm_", kGroupedGemm = "grouped_gemm_";
  if (of.what.starts_with(kGemm)) return gemm(make, of.what.substr(kGemm.size()));
  if (of.what.starts_with(kGroupedGemm)) return grouped_gemm(make, of.what.substr(kGroupedGemm.size()));
  return makers().at(of.what)(make);
}

}  // namespace msmoe::profiler
