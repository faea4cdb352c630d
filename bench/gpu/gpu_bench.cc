// Prints what the kernels reach on this GPU, as one JSON object: for each line a name, a shape, seconds, and the rate
// in TFLOP/s or, where memory is the limit, in GB/s with its share of what a copy reaches.
#include <cuda_runtime_api.h>
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>
#include <set>

#include "bench/gpu/gpu_timer.h"
#include "kernels/cuda/check.h"

namespace {

using namespace msmoe::kernels;
using msmoe::bench::median_seconds;
using msmoe::profiler::Arena;
using Make = std::function<Operation(Arena&)>;

class Report {
 public:
  Report() {
    cudaDeviceProp properties;
    int device = 0;
    MSMOE_CHECK(cudaGetDevice(&device));
    MSMOE_CHECK(cudaGetDeviceProperties(&properties, device));
    json_["device"] = properties.name;
    json_["date"] = fmt::format("{:%Y-%m-%d}", fmt::gmtime(std::chrono::system_clock::now()));
    json_["lines"] = nlohmann::json::array();
  }

  void copy_rate() {
    constexpr std::int64_t kBytes = std::int64_t{1} << 30;
    Arena arena;
    void *from = arena.bytes(kBytes), *to = arena.bytes(kBytes);
    const double seconds = median_seconds(1, [&](int, cudaStream_t stream) {
      MSMOE_CHECK(cudaMemcpyAsync(to, from, kBytes, cudaMemcpyDeviceToDevice, stream));
    });
    copy_rate_ = 2 * kBytes / seconds;
    add("copy", "1 GiB", seconds, 2.0 * kBytes / 1e9, "GB/s");
  }
  void compute(const std::string& name, const std::string& shape, double flops, const Make& make) {
    measure(name, shape, flops / 1e12, "TFLOP/s", make);
  }
  void memory(const std::string& name, const std::string& shape, double bytes, const Make& make) {
    measure(name, shape, bytes / 1e9, "GB/s", make);
    auto& line = json_["lines"].back();
    if (!line.contains("seconds")) return;
    line["bytes"] = bytes;
    line["share_of_copy"] = bytes / line["seconds"].get<double>() / copy_rate_;
  }
  std::string text() const { return json_.dump(2); }

 private:
  void add(const std::string& name, const std::string& shape, double seconds, double work, const char* unit) {
    json_["lines"].push_back(
        {{"name", name}, {"shape", shape}, {"seconds", seconds}, {"rate", work / seconds}, {"unit", unit}});
  }
  void measure(const std::string& name, const std::string& shape, double work, const char* unit, const Make& make) {
    std::cerr << name << " " << shape << std::endl;
    try {
      add(name, shape, median_seconds(*kernels_, make), work, unit);
    } catch (const Unsupported& error) {
      json_["lines"].push_back({{"name", name}, {"shape", shape}, {"error", error.what()}});
    }
  }

  std::unique_ptr<Kernels> kernels_ = cuda_kernels();
  nlohmann::json json_;
  double copy_rate_ = 1;
};

void grouped_products(Report& report) {
  struct Shape {
    std::int64_t experts, rows, out, in;
  };
  for (const auto& [experts, each, out, in] :
       {Shape{8, 4096, 14336, 4096}, {8, 1024, 14336, 4096}, {32, 512, 2048, 7168}, {32, 4096, 2048, 7168}}) {
    const std::int64_t rows = experts * each;
    std::vector<std::int32_t> starts(experts + 1);
    for (std::int64_t e = 0; e <= experts; ++e) starts[e] = static_cast<std::int32_t>(e * each);
    const std::string shape = fmt::format("E={} rows={} out={} in={}", experts, each, out, in);
    const double flops = 2.0 * rows * out * in;
    const auto pass = [&, o = out, i = in, e = experts](GroupedPass which, bool accumulate = false) {
      return [=](Arena& arena) -> Operation {
        const bool forward = which == GroupedPass::kForward, gradient = which == GroupedPass::kWeightGradient;
        return GroupedGemm{.pass = which,
                           .rows = arena.take(rows, forward ? i : o),
                           .weights = arena.take(gradient ? rows : e * o, i),
                           .out = gradient ? arena.take(e * o, i, Element::kFp32) : arena.take(rows, forward ? o : i),
                           .offsets = arena.take(starts),
                           .accumulate = accumulate};
      };
    };
    report.compute("grouped_gemm forward", shape, flops, pass(GroupedPass::kForward));
    report.compute("grouped_gemm input gradient", shape, flops, pass(GroupedPass::kInputGradient));
    report.compute("grouped_gemm weight gradient", shape, flops, pass(GroupedPass::kWeightGradient));
    report.compute("grouped_gemm weight gradient accumulated", shape, flops, pass(GroupedPass::kWeightGradient, true));
  }
}

void dense_product(Report& report) {
  constexpr std::int64_t kSide = 8192;
  report.compute("gemm", "8192^3", 2.0 * kSide * kSide * kSide, [](Arena& arena) -> Operation {
    return Gemm{.a = arena.take(kSide, kSide),
                .b = arena.take(kSide, kSide),
                .c = arena.take(kSide, kSide),
                .transpose_b = true};
  });
}

void attention(Report& report) {
  struct Shape {
    std::int64_t heads, width, value_width, length;
  };
  for (const auto& [heads, width, value_width, length] :
       {Shape{32, 128, 128, 8192}, {32, 64, 64, 8192}, {16, 192, 128, 4096}}) {
    const AttentionShape shape{.heads = heads,
                               .kv_heads = heads,
                               .width = width,
                               .value_width = value_width,
                               .sequence_length = length,
                               .scale = 1 / std::sqrt(static_cast<double>(width))};
    const auto forward = [shape](Arena& arena) {
      const auto take = [&](std::int64_t columns) { return arena.take(shape.sequence_length, columns); };
      return Attention{.shape = shape,
                       .query = take(shape.heads * shape.width),
                       .key = take(shape.heads * shape.width),
                       .value = take(shape.heads * shape.value_width),
                       .out = take(shape.heads * shape.value_width),
                       .log_sum_exp = arena.take(shape.heads, shape.sequence_length, Element::kFp32)};
    };
    const std::string text = fmt::format("heads={} width={}/{} s={}", heads, width, value_width, length);
    // Causal: half of the square.
    const double pairs = static_cast<double>(heads) * length * length / 2;
    report.compute("attention forward", text, 2 * pairs * (width + value_width),
                   [&](Arena& arena) -> Operation { return forward(arena); });
    report.compute("attention backward", text, 2 * pairs * (3 * width + 2 * value_width),
                   [&](Arena& arena) -> Operation {
                     const Attention f = forward(arena);
                     const auto like = [&](const View& view) { return arena.take(view.rows, view.columns); };
                     return AttentionBackward{.shape = f.shape,
                                              .query = f.query,
                                              .key = f.key,
                                              .value = f.value,
                                              .out = f.out,
                                              .log_sum_exp = f.log_sum_exp,
                                              .out_gradient = like(f.out),
                                              .query_gradient = like(f.query),
                                              .key_gradient = like(f.key),
                                              .value_gradient = like(f.value)};
                   });
  }
}

constexpr std::int64_t kTokens = 16384, kWidth = 4096;
constexpr double kE4m3Bytes = 1, kBf16Bytes = 2, kFp32Bytes = 4;
constexpr double kElements = static_cast<double>(kTokens * kWidth), kMatrix = kBf16Bytes * kElements;

View take(Arena& arena) { return arena.take(kTokens, kWidth); }
View take_fp32(Arena& arena) { return arena.take(kTokens, kWidth, Element::kFp32); }
View take_e4m3(Arena& arena) { return {arena.bytes(kTokens * kWidth), kTokens, kWidth, Element::kE4m3}; }

void rows(Report& report) {
  const std::string shape = fmt::format("tokens={} width={}", kTokens, kWidth);
  report.memory("rms_norm", shape, 4 * kMatrix, [](Arena& arena) -> Operation {
    return RmsNorm{.input = take(arena),
                   .residual = take(arena),
                   .weight = arena.take(1, kWidth),
                   .out = take(arena),
                   .sum = take(arena),
                   .inverse_rms = arena.take(1, kTokens, Element::kFp32)};
  });
  report.memory("rms_norm_backward", shape, 4 * kMatrix, [](Arena& arena) -> Operation {
    return RmsNormBackward{.input = take(arena),
                           .weight = arena.take(1, kWidth),
                           .inverse_rms = arena.take(1, kTokens, Element::kFp32),
                           .out_gradient = take(arena),
                           .residual_gradient = take(arena),
                           .input_gradient = take(arena),
                           .weight_gradient = arena.take(1, kWidth, Element::kFp32)};
  });
  report.memory("swi_glu", shape, 3 * kMatrix, [](Arena& arena) -> Operation {
    return SwiGlu{.gate_up = arena.take(kTokens, 2 * kWidth),
                  .gate_weights = arena.take(1, kTokens, Element::kFp32),
                  .out = take(arena)};
  });
  report.memory("swi_glu_backward", shape, 6 * kMatrix, [](Arena& arena) -> Operation {
    return SwiGluBackward{.gate_up = arena.take(kTokens, 2 * kWidth),
                          .gate_weights = arena.take(1, kTokens, Element::kFp32),
                          .out_gradient = take(arena),
                          .gate_up_gradient = arena.take(kTokens, 2 * kWidth),
                          .gate_weight_gradient = arena.take(1, kTokens, Element::kFp32),
                          .out = take(arena)};
  });
  report.memory("add", shape, 3 * kMatrix,
                [](Arena& arena) -> Operation { return Add{.a = take(arena), .b = take(arena), .out = take(arena)}; });
  std::vector<std::int32_t> positions(kTokens);
  std::iota(positions.begin(), positions.end(), 0);
  report.memory("rope", shape + " heads=32", 2 * kMatrix, [=](Arena& arena) -> Operation {
    constexpr std::int64_t kHeadWidth = 128;
    return Rope{.vectors = take(arena), .positions = arena.take(positions), .width = kHeadWidth, .rotated = kHeadWidth};
  });
}

void optimizer(Report& report) {
  const std::string shape = fmt::format("tokens={} width={}", kTokens, kWidth);
  constexpr double kAdamBytes = 7 * kFp32Bytes + kBf16Bytes;  // reads four, writes three and the parameter
  report.memory("adam_w", shape, kAdamBytes * kElements, [](Arena& arena) -> Operation {
    View second_moment = take_fp32(arena);
    MSMOE_CHECK(cudaMemset(second_moment.data, 0, second_moment.bytes()));
    return AdamW{.tensors = {{.parameter = take(arena),
                              .gradient = take_fp32(arena),
                              .master = take_fp32(arena),
                              .first_moment = take_fp32(arena),
                              .second_moment = second_moment}},
                 .rate = 1e-4};
  });
  report.memory("squared_norm", shape, kFp32Bytes * kElements, [](Arena& arena) -> Operation {
    return SquaredNorm{.tensors = {take_fp32(arena)}, .sum = arena.take(1, 1, Element::kFp32)};
  });
}

void formats(Report& report) {
  const std::string shape = fmt::format("tokens={} width={}", kTokens, kWidth);
  report.memory("cast to bf16", shape, (kFp32Bytes + kBf16Bytes) * kElements,
                [](Arena& arena) -> Operation { return Cast{.in = take_fp32(arena), .out = take(arena)}; });
  report.memory("cast to fp32", shape, (kFp32Bytes + kBf16Bytes) * kElements,
                [](Arena& arena) -> Operation { return Cast{.in = take(arena), .out = take_fp32(arena)}; });
  constexpr std::int64_t kBlock = 128;  // of one scale
  constexpr double kBytes = (kBf16Bytes + kE4m3Bytes + kFp32Bytes / kBlock) * kElements;
  for (const ScaleBlocks blocks : {ScaleBlocks::kToken, ScaleBlocks::kChannel}) {
    const bool by_token = blocks == ScaleBlocks::kToken;
    const char* suffix = by_token ? " by token" : " by channel";
    const auto take_scales = [=](Arena& arena) {
      return by_token ? arena.take(kTokens, kWidth / kBlock, Element::kFp32)
                      : arena.take(kTokens / kBlock, kWidth, Element::kFp32);
    };
    report.memory(std::string("quantize") + suffix, shape, kBytes, [=](Arena& arena) -> Operation {
      return Quantize{.in = take(arena), .out = take_e4m3(arena), .scales = take_scales(arena), .blocks = blocks};
    });
    report.memory(std::string("dequantize") + suffix, shape, kBytes, [=](Arena& arena) -> Operation {
      return Dequantize{.in = take_e4m3(arena), .scales = take_scales(arena), .out = take(arena), .blocks = blocks};
    });
  }
  constexpr std::int64_t kParts = 8;
  report.memory("sum_chunks", fmt::format("{} parts={}", shape, kParts), kMatrix + kFp32Bytes * kElements / kParts,
                [](Arena& arena) -> Operation {
                  return SumChunks{.chunks = take(arena), .out = arena.take(kTokens / kParts, kWidth, Element::kFp32)};
                });
}

void vocabulary(Report& report) {
  constexpr std::int64_t kEntries = 32768;
  const std::string shape = fmt::format("tokens={} width={}", kTokens, kWidth);
  std::mt19937 random(13);
  std::vector<std::int32_t> ids(kTokens);
  for (std::int32_t& id : ids) id = static_cast<std::int32_t>(random() % kEntries);
  report.memory("embedding", shape, 2 * kMatrix, [=](Arena& arena) -> Operation {
    return Embedding{.table = arena.take(kEntries, kWidth), .ids = arena.take(ids), .out = take(arena)};
  });
  report.memory("embedding_backward", shape, kMatrix + 2 * kFp32Bytes * kElements, [=](Arena& arena) -> Operation {
    return EmbeddingBackward{.out_gradient = take(arena),
                             .ids = arena.take(ids),
                             .table_gradient = arena.take(kEntries, kWidth, Element::kFp32)};
  });
  const std::string loss_shape = fmt::format("tokens={} vocabulary={}", kTokens, kEntries);
  constexpr double kLogits = kBf16Bytes * kTokens * kEntries;
  const auto of_tokens = [](Arena& arena) { return arena.take(1, kTokens, Element::kFp32); };
  report.memory("cross_entropy", loss_shape, kLogits, [=](Arena& arena) -> Operation {
    return CrossEntropy{.logits = arena.take(kTokens, kEntries),
                        .targets = arena.take(ids),
                        .maximum = of_tokens(arena),
                        .exp_sum = of_tokens(arena),
                        .target_logit = of_tokens(arena)};
  });
  report.memory("cross_entropy_backward", loss_shape, 2 * kLogits, [=](Arena& arena) -> Operation {
    return CrossEntropyBackward{.targets = arena.take(ids),
                                .maximum = of_tokens(arena),
                                .exp_sum = of_tokens(arena),
                                .logits = arena.take(kTokens, kEntries)};
  });
}

// A random choice of experts, and where it sends every assignment.
struct Permutation {
  std::int64_t experts;
  int choices;
  std::vector<std::int32_t> experts_of, source_of, row_of;

  Permutation(std::int64_t num_experts, int k) : experts(num_experts), choices(k), row_of(kTokens * k) {
    std::mt19937 random(11);
    std::vector<std::vector<std::int32_t>> of_expert(num_experts);
    for (std::int64_t token = 0; token < kTokens; ++token) {
      std::set<std::int32_t> chosen;
      while (chosen.size() < static_cast<std::size_t>(k)) chosen.insert(static_cast<int>(random() % num_experts));
      for (const std::int32_t expert : chosen) {
        of_expert[expert].push_back(static_cast<std::int32_t>(experts_of.size()));
        experts_of.push_back(expert);
      }
    }
    for (const auto& sources : of_expert) source_of.insert(source_of.end(), sources.begin(), sources.end());
    for (std::size_t row = 0; row < source_of.size(); ++row) row_of[source_of[row]] = static_cast<std::int32_t>(row);
  }
  std::int64_t assignments() const { return kTokens * choices; }
  std::string shape() const { return fmt::format("tokens={} width={} E={} k={}", kTokens, kWidth, experts, choices); }
};

void router(Report& report, const Permutation& of) {
  const RouterShape shape{.top_k = of.choices};
  const auto logits = [n = of.experts](Arena& arena) { return arena.take(kTokens, n, Element::kFp32); };
  const auto gates = [k = of.choices](Arena& arena) { return arena.take(kTokens, k, Element::kFp32); };
  report.memory("router", of.shape(), kFp32Bytes * (2.0 * kTokens * of.experts + 2.0 * of.assignments()),
                [&](Arena& arena) -> Operation {
                  return Router{.shape = shape,
                                .logits = logits(arena),
                                .scores = logits(arena),
                                .experts = arena.take(kTokens, of.choices, Element::kInt32),
                                .gates = gates(arena),
                                .counts = arena.take(1, of.experts, Element::kInt32),
                                .losses = arena.take(1, 2, Element::kFp32)};
                });
  report.memory("router_backward", of.shape(), kFp32Bytes * (3.0 * kTokens * of.experts + 2.0 * of.assignments()),
                [&](Arena& arena) -> Operation {
                  const std::vector<std::int32_t> counts(of.experts, static_cast<int>(of.assignments() / of.experts));
                  return RouterBackward{.shape = shape,
                                        .logits = logits(arena),
                                        .scores = logits(arena),
                                        .experts = arena.take(of.experts_of, kTokens),
                                        .counts = arena.take(counts),
                                        .gate_gradient = gates(arena),
                                        .logit_gradient = logits(arena),
                                        .aux_scale = 1e-2,
                                        .z_scale = 1e-3};
                });
}

void sorts(Report& report, const Permutation& of) {
  const std::int64_t assignments = of.assignments();
  report.memory("sort_by_expert", of.shape(), 3 * kFp32Bytes * assignments, [&](Arena& arena) -> Operation {
    return SortByExpert{.experts = arena.take(of.experts_of, kTokens),
                        .offsets = arena.take(1, of.experts + 1, Element::kInt32),
                        .row_of = arena.take(kTokens, of.choices, Element::kInt32),
                        .assignment_of = arena.take(1, assignments, Element::kInt32)};
  });
  constexpr std::int64_t kRanks = 8;
  const std::int64_t here = of.experts / kRanks;
  report.memory("sort_arrivals", fmt::format("{} ranks={}", of.shape(), kRanks), 2 * kFp32Bytes * assignments,
                [&](Arena& arena) -> Operation {
                  const std::vector<std::int32_t> counts(of.experts, static_cast<int>(assignments / of.experts));
                  return SortArrivals{.counts = arena.take(counts, kRanks),
                                      .offsets = arena.take(1, here + 1, Element::kInt32),
                                      .source_of = arena.take(1, assignments, Element::kInt32),
                                      .arrives_at = arena.take(1, assignments, Element::kInt32)};
                });
}

void permuted_rows(Report& report, const Permutation& of) {
  const std::int64_t assignments = of.assignments();
  const auto gates = [k = of.choices](Arena& arena) { return arena.take(kTokens, k, Element::kFp32); };
  const double moved = kBf16Bytes * kWidth * (kTokens + assignments);
  report.memory("gather_rows", of.shape(), moved, [&](Arena& arena) -> Operation {
    return GatherRows{.in = take(arena),
                      .source_of = arena.take(of.source_of),
                      .out = arena.take(assignments, kWidth),
                      .fan_out = of.choices};
  });
  report.memory("combine_rows", of.shape(), moved, [&](Arena& arena) -> Operation {
    return CombineRows{.in = arena.take(assignments, kWidth),
                       .row_of = arena.take(of.row_of, kTokens),
                       .weights = gates(arena),
                       .out = take(arena)};
  });
  report.memory("combine_weight_gradient", of.shape(), moved, [&](Arena& arena) -> Operation {
    return CombineWeightGradient{.in = arena.take(assignments, kWidth),
                                 .row_of = arena.take(of.row_of, kTokens),
                                 .out_gradient = take(arena),
                                 .weight_gradient = gates(arena)};
  });
}

void routing(Report& report) {
  for (const Permutation& permutation : {Permutation(8, 2), Permutation(256, 8)}) {
    router(report, permutation);
    sorts(report, permutation);
    permuted_rows(report, permutation);
  }
}

}  // namespace

int main() {
  try {
    Report report;
    report.copy_rate();
    rows(report);
    optimizer(report);
    formats(report);
    vocabulary(report);
    routing(report);
    dense_product(report);
    attention(report);
    grouped_products(report);
    std::cout << report.text() << std::endl;
  } catch (const std::exception& error) {
    std::cerr << "gpu_bench: " << error.what() << std::endl;
    return 1;
  }
}
