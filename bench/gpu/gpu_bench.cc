// Prints what the kernels reach on this GPU, as one JSON object: for each line a name, a shape, seconds, and the rate
// in TFLOP/s or, where memory is the limit, in GB/s with its share of what a copy reaches.
#include <cuda_runtime_api.h>
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>

#include "kernels/cuda/check.h"
#include "profiler/case_terms.h"
#include "profiler/cuda/graph_timer.h"
#include "profiler/cuda/operations.h"
#include "profiler/cuda/workload.h"
#include "profiler/point.h"

namespace {

using namespace msmoe::kernels;
using msmoe::profiler::Arena;
using msmoe::profiler::Case;
using msmoe::profiler::make_operation;
using msmoe::profiler::replay;
using msmoe::profiler::time_launches;
using msmoe::profiler::traffic_of;
using msmoe::profiler::Workload;
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

  // Launched, not replayed from a graph: captured, the same copy reached 2.7 instead of 4.2 TB/s on H200.
  void copy_rate() {
    constexpr std::int64_t kBytes = std::int64_t{1} << 30;
    Arena arena;
    void *from = arena.bytes(kBytes), *to = arena.bytes(kBytes);
    constexpr int kWarmLaunches = 600, kLaunches = 100;  // a third of a second, in which the clocks rise
    const double seconds = median_of(time_launches(kWarmLaunches, kLaunches, [&](cudaStream_t stream) {
      MSMOE_CHECK(cudaMemcpyAsync(to, from, kBytes, cudaMemcpyDeviceToDevice, stream));
    }));
    copy_rate_ = 2 * kBytes / seconds;
    add("copy", "1 GiB", seconds, 2.0 * kBytes / 1e9, "GB/s");
  }
  void compute(const std::string& name, const std::string& shape, double flops, const Case& of) {
    measure(name, shape, flops / 1e12, "TFLOP/s", maker_of(of));
  }
  void memory(const std::string& name, const std::string& shape, const Case& of) {
    memory(name, shape, traffic_of(of).count, maker_of(of));
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
  static constexpr int kReplays = 30;
  static double median_of(const std::vector<std::int64_t>& picoseconds) {
    return msmoe::to_seconds(msmoe::profiler::summarize({}, picoseconds).time);
  }
  static Make maker_of(const Case& of) {
    return [of](Arena& arena) { return make_operation(of, arena); };
  }
  void add(const std::string& name, const std::string& shape, double seconds, double work, const char* unit) {
    json_["lines"].push_back(
        {{"name", name}, {"shape", shape}, {"seconds", seconds}, {"rate", work / seconds}, {"unit", unit}});
  }
  void measure(const std::string& name, const std::string& shape, double work, const char* unit, const Make& make) {
    std::cerr << name << " " << shape << std::endl;
    try {
      Workload workload(*kernels_, make);
      int launches = 0;
      const auto picoseconds = replay(kReplays, [&](cudaStream_t stream) { launches = workload.launch_all(stream); });
      add(name, shape, median_of(picoseconds) / launches, work, unit);
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
    const std::string text = fmt::format("E={} rows={} out={} in={}", experts, each, out, in);
    const double flops = 2.0 * rows * out * in;
    Case of{"grouped_gemm_forward", {{"experts", experts}, {"rows", rows}, {"out", out}, {"in", in}}};
    report.compute("grouped_gemm forward", text, flops, of);
    of.what = "grouped_gemm_input_gradient";
    report.compute("grouped_gemm input gradient", text, flops, of);
    of.what = "grouped_gemm_weight_gradient";
    report.compute("grouped_gemm weight gradient", text, flops, of);
    of.shape["accumulate"] = 0;
    report.compute("grouped_gemm weight gradient overwritten", text, flops, of);
  }
}

void dense_product(Report& report) {
  constexpr std::int64_t kSide = 8192;
  report.compute("gemm", "8192^3", 2.0 * kSide * kSide * kSide,
                 {"gemm_forward", {{"tokens", kSide}, {"out", kSide}, {"in", kSide}}});
}

void attention(Report& report) {
  struct Shape {
    std::int64_t heads, width, value_width, length;
  };
  for (const auto& [heads, width, value_width, length] :
       {Shape{32, 128, 128, 8192}, {32, 64, 64, 8192}, {16, 192, 128, 4096}}) {
    Case of{"attention_forward",
            {{"sequences", 1},
             {"length", length},
             {"heads", heads},
             {"kv_heads", heads},
             {"width", width},
             {"value_width", value_width}}};
    const std::string text = fmt::format("heads={} width={}/{} s={}", heads, width, value_width, length);
    // Causal: half of the square.
    const double pairs = static_cast<double>(heads) * length * length / 2;
    report.compute("attention forward", text, 2 * pairs * (width + value_width), of);
    of.what = "attention_backward";
    report.compute("attention backward", text, 2 * pairs * (3 * width + 2 * value_width), of);
  }
}

constexpr std::int64_t kTokens = 16384, kWidth = 4096;
constexpr double kFp32Bytes = 4;

std::string matrix_shape() { return fmt::format("tokens={} width={}", kTokens, kWidth); }
Case by_row(const char* what) { return {what, {{"rows", kTokens}, {"width", kWidth}}}; }

void rows(Report& report) {
  for (const char* what : {"rms_norm", "rms_norm_backward", "swi_glu", "swi_glu_backward", "add"})
    report.memory(what, matrix_shape(), by_row(what));
  Case rope = by_row("rope");
  rope.shape["heads"] = 32;
  report.memory("rope", matrix_shape() + " heads=32", rope);
}

void optimizer(Report& report) {
  for (const char* what : {"adam_w", "squared_norm"}) report.memory(what, matrix_shape(), by_row(what));
}

View take(Arena& arena) { return arena.take(kTokens, kWidth); }
View take_e4m3(Arena& arena) { return arena.take(kTokens, kWidth, Element::kE4m3); }

void formats(Report& report) {
  const std::string shape = matrix_shape();
  report.memory("cast to bf16", shape, by_row("cast"));
  report.memory("cast to fp32", shape, traffic_of(by_row("cast")).count, [](Arena& arena) -> Operation {
    return Cast{.in = take(arena), .out = arena.take(kTokens, kWidth, Element::kFp32)};
  });
  report.memory("quantize by token", shape, by_row("quantize"));
  report.memory("dequantize by token", shape, by_row("dequantize"));
  constexpr std::int64_t kBlock = 128;  // of one scale
  const double bytes = traffic_of(by_row("quantize")).count;
  const auto scales = [](Arena& arena) { return arena.take(kTokens / kBlock, kWidth, Element::kFp32); };
  report.memory("quantize by channel", shape, bytes, [=](Arena& arena) -> Operation {
    return Quantize{
        .in = take(arena), .out = take_e4m3(arena), .scales = scales(arena), .blocks = ScaleBlocks::kChannel};
  });
  report.memory("dequantize by channel", shape, bytes, [=](Arena& arena) -> Operation {
    return Dequantize{
        .in = take_e4m3(arena), .scales = scales(arena), .out = take(arena), .blocks = ScaleBlocks::kChannel};
  });
  constexpr std::int64_t kParts = 8;
  report.memory("sum_chunks", fmt::format("{} parts={}", shape, kParts),
                {"sum_chunks", {{"rows", kTokens / kParts}, {"width", kWidth}, {"parts", kParts}}});
}

void vocabulary(Report& report) {
  constexpr std::int64_t kEntries = 32768;
  for (const char* what : {"embedding", "embedding_backward"}) {
    Case of = by_row(what);
    of.shape["entries"] = kEntries;
    report.memory(what, matrix_shape(), of);
  }
  for (const char* what : {"cross_entropy", "cross_entropy_backward"})
    report.memory(what, fmt::format("tokens={} vocabulary={}", kTokens, kEntries),
                  {what, {{"rows", kTokens}, {"width", kEntries}}});
}

void sort_arrivals(Report& report, const std::string& shape, std::int64_t experts, std::int64_t assignments) {
  constexpr std::int64_t kRanks = 8;
  report.memory("sort_arrivals", fmt::format("{} ranks={}", shape, kRanks), 2 * kFp32Bytes * assignments,
                [=](Arena& arena) -> Operation {
                  const std::vector<std::int32_t> counts(experts, static_cast<int>(assignments / experts));
                  return SortArrivals{.counts = arena.take(counts, kRanks),
                                      .offsets = arena.take(1, experts / kRanks + 1, Element::kInt32),
                                      .source_of = arena.take(1, assignments, Element::kInt32),
                                      .arrives_at = arena.take(1, assignments, Element::kInt32)};
                });
}

void routing(Report& report) {
  struct Shape {
    std::int64_t experts, choices;
  };
  for (const auto& [experts, choices] : {Shape{8, 2}, {256, 8}}) {
    const std::string shape = fmt::format("tokens={} width={} E={} k={}", kTokens, kWidth, experts, choices);
    const auto routed = [e = experts, k = choices](const char* what) {
      return Case{what, {{"rows", kTokens}, {"experts", e}, {"choices", k}}};
    };
    const auto permuted = [&](const char* what) {
      Case of = routed(what);
      of.shape["width"] = kWidth;
      return of;
    };
    for (const char* what : {"router", "router_backward", "sort_by_expert"}) report.memory(what, shape, routed(what));
    sort_arrivals(report, shape, experts, kTokens * choices);
    report.memory("gather_rows", shape, permuted("gather_rows"));
    Case combine = permuted("combine_rows");
    combine.shape["weighted"] = 1;
    report.memory("combine_rows", shape, combine);
    report.memory("combine_weight_gradient", shape, permuted("combine_weight_gradient"));
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
