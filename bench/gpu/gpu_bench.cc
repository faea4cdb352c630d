// Prints what the kernels reach on this GPU, as one JSON object: for each line a name, a shape, seconds, and the rate
// in TFLOP/s or, where memory is the limit, in GB/s with its share of what a copy reaches.
#include <cuda_runtime_api.h>
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <iostream>
#include <nlohmann/json.hpp>
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
    const auto pass = [&, o = out, i = in, e = experts](GroupedPass which) {
      return [=](Arena& arena) -> Operation {
        const bool forward = which == GroupedPass::kForward, gradient = which == GroupedPass::kWeightGradient;
        return GroupedGemm{.pass = which,
                           .rows = arena.take(rows, forward ? i : o),
                           .weights = arena.take(gradient ? rows : e * o, i),
                           .out = gradient ? arena.take(e * o, i, Element::kFp32) : arena.take(rows, forward ? o : i),
                           .offsets = arena.take(starts),
                           .accumulate = gradient};
      };
    };
    report.compute("grouped_gemm forward", shape, flops, pass(GroupedPass::kForward));
    report.compute("grouped_gemm input gradient", shape, flops, pass(GroupedPass::kInputGradient));
    report.compute("grouped_gemm weight gradient", shape, flops, pass(GroupedPass::kWeightGradient));
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
constexpr double kBf16Bytes = 2, kFp32Bytes = 4;

void rows(Report& report) {
  const std::string shape = fmt::format("tokens={} width={}", kTokens, kWidth);
  constexpr double kMatrix = kBf16Bytes * kTokens * kWidth;
  const auto take = [](Arena& arena) { return arena.take(kTokens, kWidth); };
  report.memory("rms_norm", shape, 4 * kMatrix, [=](Arena& arena) -> Operation {
    return RmsNorm{.input = take(arena),
                   .residual = take(arena),
                   .weight = arena.take(1, kWidth),
                   .out = take(arena),
                   .sum = take(arena),
                   .inverse_rms = arena.take(1, kTokens, Element::kFp32)};
  });
  report.memory("swi_glu", shape, 3 * kMatrix, [=](Arena& arena) -> Operation {
    return SwiGlu{.gate_up = arena.take(kTokens, 2 * kWidth),
                  .gate_weights = arena.take(1, kTokens, Element::kFp32),
                  .out = take(arena)};
  });
  constexpr double kAdamBytes = 7 * kFp32Bytes + kBf16Bytes;  // reads four, writes three and the parameter
  report.memory("adam_w", shape, kAdamBytes * kTokens * kWidth, [=](Arena& arena) -> Operation {
    const auto fp32 = [&] { return arena.take(kTokens, kWidth, Element::kFp32); };
    View second_moment = fp32();
    MSMOE_CHECK(cudaMemset(second_moment.data, 0, second_moment.bytes()));
    return AdamW{.tensors = {{.parameter = take(arena),
                              .gradient = fp32(),
                              .master = fp32(),
                              .first_moment = fp32(),
                              .second_moment = second_moment}},
                 .rate = 1e-4};
  });
}

void routing(Report& report) {
  struct Shape {
    std::int64_t experts;
    int k;
  };
  for (const auto& [experts, k] : {Shape{8, 2}, {256, 8}}) {
    const std::string shape = fmt::format("tokens={} width={} E={} k={}", kTokens, kWidth, experts, k);
    const RouterShape router{.top_k = k};
    const std::int64_t n = experts, choices = k, assignments = kTokens * k;
    report.memory("router", shape, kFp32Bytes * kTokens * (2 * n + 2 * choices), [=](Arena& arena) -> Operation {
      return Router{.shape = router,
                    .logits = arena.take(kTokens, n, Element::kFp32),
                    .scores = arena.take(kTokens, n, Element::kFp32),
                    .experts = arena.take(kTokens, choices, Element::kInt32),
                    .gates = arena.take(kTokens, choices, Element::kFp32),
                    .counts = arena.take(1, n, Element::kInt32),
                    .losses = arena.take(1, 2, Element::kFp32)};
    });

    // Where a random choice of experts sends every assignment.
    std::mt19937 random(11);
    std::vector<std::vector<std::int32_t>> of_expert(n);
    std::vector<std::int32_t> experts_of(assignments), source_of, row_of(assignments);
    for (std::int64_t token = 0; token < kTokens; ++token) {
      std::set<std::int32_t> chosen;
      while (chosen.size() < static_cast<std::size_t>(choices)) chosen.insert(static_cast<int>(random() % n));
      std::int64_t at = token * choices;
      for (const std::int32_t expert : chosen) {
        experts_of[at] = expert;
        of_expert[expert].push_back(static_cast<std::int32_t>(at++));
      }
    }
    for (const auto& sources : of_expert) source_of.insert(source_of.end(), sources.begin(), sources.end());
    for (std::int64_t row = 0; row < assignments; ++row) row_of[source_of[row]] = static_cast<std::int32_t>(row);

    report.memory("sort_by_expert", shape, 3 * kFp32Bytes * assignments, [=](Arena& arena) -> Operation {
      return SortByExpert{.experts = arena.take(experts_of, kTokens),
                          .offsets = arena.take(1, n + 1, Element::kInt32),
                          .row_of = arena.take(kTokens, choices, Element::kInt32),
                          .assignment_of = arena.take(1, assignments, Element::kInt32)};
    });
    const double moved = kBf16Bytes * kWidth * (kTokens + assignments);
    report.memory("gather_rows", shape, moved, [=](Arena& arena) -> Operation {
      return GatherRows{.in = arena.take(kTokens, kWidth),
                        .source_of = arena.take(source_of),
                        .out = arena.take(assignments, kWidth),
                        .fan_out = static_cast<int>(choices)};
    });
    report.memory("combine_rows", shape, moved, [=](Arena& arena) -> Operation {
      return CombineRows{.in = arena.take(assignments, kWidth),
                         .row_of = arena.take(row_of, kTokens),
                         .weights = arena.take(kTokens, choices, Element::kFp32),
                         .out = arena.take(kTokens, kWidth)};
    });
  }
}

}  // namespace

int main() {
  try {
    Report report;
    report.copy_rate();
    rows(report);
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
