#include "profiler/grids.h"

#include <array>
#include <cassert>

namespace msmoe::profiler {
namespace {

using Sizes = std::vector<std::int64_t>;

constexpr std::array<const char*, 3> kPasses = {"forward", "input_gradient", "weight_gradient"};

struct Linear {
  std::int64_t out, in;
};
// Attention's projections, dense feed-forward parts, routers and heads of Mixtral, Qwen3, DeepSeek-V3, Llama and
// gpt-oss, whole and as slices of tensor parallelism.
constexpr Linear kLinears[] = {{6144, 4096}, {4096, 4096},  {768, 4096},   {5120, 2048},  {2048, 4096},
                               {2112, 7168}, {24576, 1536}, {32768, 512},  {7168, 16384}, {10240, 8192},
                               {1280, 8192}, {8192, 1024},  {28672, 4096}, {4096, 14336}, {2880, 4096},
                               {256, 7168},  {128, 2048},   {32000, 4096}, {9496, 2048},  {16160, 7168}};
struct Experts {
  std::int64_t experts, out, in;
};
// Both products of the experts of Mixtral, Qwen3 and DeepSeek-V3, at several degrees of expert parallelism.
constexpr Experts kExperts[] = {{8, 28672, 4096}, {8, 4096, 14336},  {2, 28672, 4096}, {2, 4096, 14336},
                                {1, 28672, 4096}, {128, 1536, 2048}, {128, 2048, 768}, {16, 1536, 2048},
                                {16, 2048, 768},  {32, 4096, 7168},  {32, 7168, 2048}, {8, 4096, 7168},
                                {8, 7168, 2048},  {4, 14336, 4096}};
struct Heads {
  std::int64_t heads, kv_heads, width, value_width;
};
constexpr Heads kHeads[] = {{32, 8, 128, 128}, {32, 4, 128, 128},  {8, 2, 128, 128},  {4, 1, 128, 128},
                            {64, 8, 64, 64},   {16, 16, 192, 128}, {64, 64, 192, 128}};

void add_gemms(std::vector<Case>& cases, bool quick) {
  const auto add = [&](const Linear& layer, const Sizes& tokens, const char* pass) {
    for (const std::int64_t t : tokens)
      cases.push_back({std::string("gemm_") + pass, {{"tokens", t}, {"out", layer.out}, {"in", layer.in}}});
  };
  for (const Linear& layer : kLinears) {
    add(layer, quick ? Sizes{2048, 8192} : Sizes{1024, 2048, 4096, 8192, 16384}, "forward");
    add(layer, quick ? Sizes{4096} : Sizes{2048, 4096, 8192, 16384}, "input_gradient");
    add(layer, quick ? Sizes{4096} : Sizes{2048, 4096, 8192, 16384}, "weight_gradient");
  }
}

void add_grouped_gemms(std::vector<Case>& cases, bool quick) {
  const auto add = [&](const Experts& of, const Sizes& rows_each, const char* pass) {
    for (const std::int64_t each : rows_each) {
      constexpr std::int64_t kMostRows = 131072;
      if (each * of.experts > kMostRows) continue;
      cases.push_back({std::string("grouped_gemm_") + pass,
                       {{"experts", of.experts}, {"rows", each * of.experts}, {"out", of.out}, {"in", of.in}}});
    }
  };
  for (const Experts& of : kExperts) {
    add(of, quick ? Sizes{256, 1024} : Sizes{128, 256, 512, 1024, 2048, 4096}, "forward");
    add(of, quick ? Sizes{512} : Sizes{256, 512, 1024, 2048}, "input_gradient");
    add(of, quick ? Sizes{512} : Sizes{256, 512, 1024, 2048}, "weight_gradient");
  }
}

void add_attention(std::vector<Case>& cases, bool quick) {
  for (const Heads& of : kHeads) {
    for (const std::int64_t length : quick ? Sizes{4096, 8192} : Sizes{2048, 4096, 8192, 16384}) {
      for (const std::int64_t sequences : quick ? Sizes{1} : Sizes{1, 2, 4}) {
        constexpr std::int64_t kMostTokens = 16384;
        if (sequences * length > kMostTokens) continue;
        for (const char* what : {"attention_forward", "attention_backward"}) {
          cases.push_back({what,
                           {{"sequences", sequences},
                            {"length", length},
                            {"heads", of.heads},
                            {"kv_heads", of.kv_heads},
                            {"width", of.width},
                            {"value_width", of.value_width}}});
        }
      }
    }
  }
}

void add_rows(std::vector<Case>& cases, bool quick) {
  const Sizes rows = quick ? Sizes{4096, 16384} : Sizes{2048, 4096, 8192, 32768};
  const Sizes widths = quick ? Sizes{4096} : Sizes{2048, 4096, 7168};
  cases.push_back({"launch", {}});
  for (const std::int64_t r : rows) {
    for (const std::int64_t width : widths) {
      for (const char* what : {"rms_norm", "rms_norm_backward", "swi_glu", "swi_glu_backward", "add", "cast",
                               "quantize", "dequantize", "embedding", "embedding_backward", "squared_norm", "adam_w"})
        cases.push_back({what, {{"rows", r}, {"width", width}}});
      cases.push_back({"rope", {{"rows", r}, {"width", width}, {"heads", width / 128}}});
      cases.push_back({"sum_chunks", {{"rows", r / 8}, {"width", width}, {"parts", 8}}});
      for (const std::int64_t choices : {2, 8})
        for (const char* what : {"gather_rows", "combine_rows", "combine_weight_gradient"})
          cases.push_back({what, {{"rows", r / choices}, {"width", width}, {"choices", choices}}});
    }
    for (const std::int64_t vocabulary : {32000, 151936})
      for (const char* what : {"cross_entropy", "cross_entropy_backward"})
        cases.push_back({what, {{"rows", r / 4}, {"width", vocabulary}}});
    for (const auto& [experts, choices] : {std::pair{8, 2}, {128, 8}, {256, 8}})
      for (const char* what : {"router", "router_backward", "sort_by_expert"})
        cases.push_back({what, {{"rows", r}, {"experts", experts}, {"choices", choices}}});
  }
}

constexpr const char* kCollectives[] = {"all_gather", "reduce_scatter", "all_reduce", "all_to_all"};

// Near enough for a straight line between two of them; NCCL changes its algorithm on the way.
Sizes message_sizes(bool quick) {
  constexpr std::int64_t kSmallest = 16 << 10, kLargest = 1 << 30;
  Sizes sizes;
  for (std::int64_t bytes = kSmallest; bytes <= kLargest; bytes *= quick ? 4 : 2) {
    sizes.push_back(bytes);
    if (!quick && bytes < kLargest) sizes.push_back(bytes + bytes / 2);
  }
  return sizes;
}

void add_links(std::vector<Case>& cases, int num_gpus, bool quick) {
  for (int ranks = 2; ranks <= num_gpus; ranks *= 2) {
    for (const std::int64_t bytes : message_sizes(quick)) {
      for (const char* what : kCollectives) cases.push_back({what, {{"bytes", bytes}, {"ranks", ranks}}});
      cases.push_back({"copy_engine", {{"bytes", bytes}, {"ranks", ranks}}});
    }
    for (const std::int64_t bytes : quick ? Sizes{64 << 20} : Sizes{1 << 20, 16 << 20, 256 << 20}) {
      for (const std::int64_t ctas : {4, 8, 16})
        for (const char* what : kCollectives)
          cases.push_back({what, {{"bytes", bytes}, {"ranks", ranks}, {"ctas", ctas}}});
      for (const std::int64_t ctas : {4, 8, 16, 32, 132})
        cases.push_back({"push", {{"bytes", bytes}, {"ranks", ranks}, {"ctas", ctas}}});
    }
  }
}

Case beside(const Case& compute, const Case& link) {
  Case pair{compute.what + " beside " + link.what, compute.shape};
  pair.shape.insert(link.shape.begin(), link.shape.end());
  return pair;
}

void add_pairs(std::vector<Case>& cases, int num_gpus, bool quick) {
  if (num_gpus < 2) return;
  constexpr std::int64_t kMessage = 64 << 20;
  constexpr std::int64_t kSms = 132;  // of an SXM module of Hopper
  const std::vector<Case> computes = {
      {"gemm_forward", {{"tokens", 8192}, {"out", 6144}, {"in", 4096}}},
      {"gemm_weight_gradient", {{"tokens", 8192}, {"out", 4096}, {"in", 4096}}},
      {"grouped_gemm_forward", {{"experts", 8}, {"rows", 8192}, {"out", 14336}, {"in", 4096}}},
      {"attention_forward",
       {{"sequences", 1}, {"length", 8192}, {"heads", 32}, {"kv_heads", 8}, {"width", 128}, {"value_width", 128}}},
      {"swi_glu", {{"rows", 16384}, {"width", 4096}}},
      {"combine_rows", {{"rows", 8192}, {"width", 4096}, {"choices", 2}}}};
  std::vector<Case> links = {{"copy_engine", {}}};
  for (const std::int64_t ctas : quick ? Sizes{16} : Sizes{4, 8, 16})
    for (const char* what : {"all_gather", "reduce_scatter", "all_to_all", "push"})
      links.push_back({what, {{"ctas", ctas}}});
  for (Case& link : links) link.shape.insert({{"bytes", kMessage}, {"ranks", 2}});
  for (const Case& compute : computes) {
    for (const Case& link : links) {
      const auto ctas = link.shape.find("ctas");
      const bool is_product = compute.what.find("gemm") != std::string::npos;
      Case told = compute;
      if (is_product && ctas != link.shape.end()) told.shape["sms"] = kSms - ctas->second;
      cases.push_back(beside(told, link));
    }
  }
}

void add_layers(std::vector<Case>& cases, bool quick) {
  for (const std::int64_t tokens : quick ? Sizes{8192} : Sizes{4096, 8192}) {
    cases.push_back({"layer",  // Mixtral-8x7B
                     {{"tokens", tokens},
                      {"length", 4096},
                      {"width", 4096},
                      {"heads", 32},
                      {"kv_heads", 8},
                      {"head_width", 128},
                      {"experts", 8},
                      {"choices", 2},
                      {"expert_width", 14336}}});
    cases.push_back({"layer",  // Qwen3-30B-A3B
                     {{"tokens", tokens},
                      {"length", 4096},
                      {"width", 2048},
                      {"heads", 32},
                      {"kv_heads", 4},
                      {"head_width", 128},
                      {"experts", 128},
                      {"choices", 8},
                      {"expert_width", 768}}});
  }
}

constexpr std::string_view kBeside = " beside ";

}  // namespace

const std::vector<std::string>& case_kinds() {
  static const std::vector<std::string> kinds = {"gemm",  "grouped_gemm", "attention", "rows",
                                                 "links", "pairs",        "layers"};
  return kinds;
}

std::vector<Case> cases_of_kind(std::string_view kind, int num_gpus, bool quick) {
  std::vector<Case> cases;
  if (kind == "gemm") add_gemms(cases, quick);
  if (kind == "grouped_gemm") add_grouped_gemms(cases, quick);
  if (kind == "attention") add_attention(cases, quick);
  if (kind == "rows") add_rows(cases, quick);
  if (kind == "links") add_links(cases, num_gpus, quick);
  if (kind == "pairs") add_pairs(cases, num_gpus, quick);
  if (kind == "layers") add_layers(cases, quick);
  return cases;
}

bool is_pair(const Case& of) { return of.what.find(kBeside) != std::string::npos; }

Pair sides_of(const Case& of) {
  const auto at = of.what.find(kBeside);
  assert(at != std::string::npos);
  Pair sides{{of.what.substr(0, at), {}}, {of.what.substr(at + kBeside.size()), {}}};
  for (const auto& [name, size] : of.shape) {
    const bool of_link = name == "bytes" || name == "ranks" || name == "ctas";
    (of_link ? sides.link : sides.compute).shape[name] = size;
  }
  return sides;
}

Case partner_of(const Case& of) {
  const Pair sides = sides_of(of);
  return {sides.link.what + std::string(kBeside) + sides.compute.what, of.shape};
}

std::vector<Case> operators_of_layer(const Case& of) {
  const auto size = [&](const char* name) { return of.shape.at(name); };
  const std::int64_t tokens = size("tokens"), width = size("width"), experts = size("experts"),
                     choices = size("choices"), expert_width = size("expert_width");
  const std::int64_t rows = tokens * choices, head_width = size("head_width");
  const std::int64_t heads_width = size("heads") * head_width;
  const std::int64_t qkv_width = heads_width + 2 * size("kv_heads") * head_width;
  const auto attention = [&](const char* what) {
    return Case{what,
                {{"sequences", tokens / size("length")},
                 {"length", size("length")},
                 {"heads", size("heads")},
                 {"kv_heads", size("kv_heads")},
                 {"width", head_width},
                 {"value_width", head_width}}};
  };
  const auto linear = [&](const char* pass, std::int64_t out, std::int64_t in) {
    return Case{std::string("gemm_") + pass, {{"tokens", tokens}, {"out", out}, {"in", in}}};
  };
  const auto grouped = [&](const char* pass, std::int64_t out, std::int64_t in) {
    return Case{std::string("grouped_gemm_") + pass, {{"experts", experts}, {"rows", rows}, {"out", out}, {"in", in}}};
  };
  const auto by_row = [](const char* what, std::int64_t of_rows, std::int64_t columns) {
    return Case{what, {{"rows", of_rows}, {"width", columns}}};
  };
  const auto rope = [&](std::int64_t heads) {
    return Case{"rope", {{"rows", tokens}, {"width", heads * head_width}, {"heads", heads}}};
  };
  const auto routed = [&](const char* what) {
    return Case{what, {{"rows", tokens}, {"experts", experts}, {"choices", choices}}};
  };
  const auto permuted = [&](const char* what) {
    return Case{what, {{"rows", tokens}, {"width", width}, {"choices", choices}}};
  };
  std::vector<Case> cases = {by_row("rms_norm", tokens, width),
                             linear("forward", qkv_width, width),
                             rope(size("heads")),
                             rope(size("kv_heads")),
                             attention("attention_forward"),
                             linear("forward", width, heads_width),
                             by_row("rms_norm", tokens, width),
                             linear("forward", experts, width),
                             routed("router"),
                             routed("sort_by_expert"),
                             permuted("gather_rows"),
                             grouped("forward", 2 * expert_width, width),
                             by_row("swi_glu", rows, expert_width),
                             grouped("forward", width, expert_width),
                             permuted("combine_rows")};
  const std::vector<Case> backward = {permuted("combine_weight_gradient"),
                                      permuted("gather_rows"),
                                      grouped("input_gradient", width, expert_width),
                                      grouped("weight_gradient", width, expert_width),
                                      by_row("swi_glu_backward", rows, expert_width),
                                      grouped("input_gradient", 2 * expert_width, width),
                                      grouped("weight_gradient", 2 * expert_width, width),
                                      permuted("combine_rows"),
                                      routed("router_backward"),
                                      linear("input_gradient", experts, width),
                                      linear("weight_gradient", experts, width),
                                      by_row("add", tokens, width),
                                      by_row("rms_norm_backward", tokens, width),
                                      linear("input_gradient", width, heads_width),
                                      linear("weight_gradient", width, heads_width),
                                      attention("attention_backward"),
                                      rope(size("heads")),
                                      rope(size("kv_heads")),
                                      linear("input_gradient", qkv_width, width),
                                      linear("weight_gradient", qkv_width, width),
                                      by_row("rms_norm_backward", tokens, width)};
  cases.insert(cases.end(), backward.begin(), backward.end());
  return cases;
}

}  // namespace msmoe::profiler
