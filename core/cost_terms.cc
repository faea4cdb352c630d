#include "core/cost_terms.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace msmoe {
namespace {

constexpr double kMicrosecond = 1e-6;
constexpr double kL2Rate = 10e12;       // bytes a second; the unit of a term, not a claim
constexpr double kStepSeconds = 10e-9;  // likewise
constexpr double kStepDepth = 64;
constexpr double kSustainedSeconds = 1e-3;
constexpr double kPipelineDepth = 256;  // 4 stages of 64, as cuBLAS and CUTLASS keep
constexpr double kOperandBytes = 2;
constexpr double kBlock = 128;                   // queries or keys of a block of attention
constexpr double kExponentials = 16 * 1.7e9;     // a second and SM
constexpr double kNarrowest = 128, kWider = 64;  // widths of heads

struct Tile {
  double rows, columns;
};
// The shapes that cuBLAS's kernels for Hopper come in, thinned out. 128 x 256 in either direction is the quickest of
// them; small ones fill the SMs where there are few rows.
constexpr Tile kTiles[] = {{256, 128}, {128, 256}, {192, 128}, {128, 192}, {128, 128}, {64, 128}, {128, 64}, {64, 64}};
constexpr Tile kGroupedTile = {128, 256}, kGroupedShortTile = {128, 128};  // kernels/cuda/grouped_gemm.cuh

TileTerms tile_terms(const Tile& tile, const ProductShape& shape, const Gpu& gpu, FlopsPerSecond peak) {
  const auto sms = static_cast<double>(gpu.sms);
  const double tiles =
      shape.groups * std::ceil(shape.rows / shape.groups / tile.rows) * std::ceil(shape.columns / tile.columns);
  const double waves = std::ceil(tiles / sms);
  const double depth = std::ceil(shape.depth / kStepDepth) * kStepDepth;
  const double step_seconds = 2 * tile.rows * tile.columns / (peak.count / sms);  // of one unit of depth on one SM
  const double flops = tiles / sms * depth * step_seconds;
  TileTerms result;
  result.tiles_per_sm = tiles / sms;
  result.terms = {kMicrosecond,
                  flops,
                  waves * depth * step_seconds,
                  waves * kPipelineDepth * step_seconds,
                  waves * (tile.rows + tile.columns) * depth * kOperandBytes * sms / kL2Rate,
                  waves * depth / kStepDepth * kStepSeconds,
                  std::max(0.0, flops - kSustainedSeconds),
                  std::max(0.0, shape.hbm.count / gpu.hbm.count - flops)};
  return result;
}

}  // namespace

const char* cost_form_name(CostForm form) {
  static constexpr const char* kNames[kNumCostForms] = {"gemm", "grouped_gemm", "grouped_gemm_short", "attention",
                                                        "memory"};
  return kNames[static_cast<std::size_t>(form)];
}

std::span<const char* const> term_names(CostForm form) {
  static constexpr const char* kProduct[] = {"start", "flops", "waves", "fill", "loads", "steps", "sustained", "hbm"};
  static constexpr const char* kAttention[] = {"start", "flops", "wide", "softmax", "diagonal", "longest", "hbm"};
  static constexpr const char* kMemory[] = {"start", "hbm"};
  switch (form) {
    case CostForm::kGemm:
    case CostForm::kGroupedGemm:
    case CostForm::kGroupedGemmShort: return kProduct;
    case CostForm::kAttention: return kAttention;
    case CostForm::kMemory: return kMemory;
  }
  return {};
}

// Measured on H100 and H200, all experts alike: with 256 rows each the kernel with large tiles is 4 to 9 % faster, with
// 512 it is 2 to 10 % slower, with 1,024 10 to 20 %. Only the average is known where kernels are launched. 128 experts
// took 1.4 times as long with small tiles on H100, and not on H200; which part of H100 that is, is not known.
bool has_short_weight_gradients(double rows, double experts) {
  return experts <= kMostShortExperts && rows >= kFewestShortRows * experts && rows < kShortRowsEnd * experts;
}

TermChoices product_terms(CostForm form, const ProductShape& shape, const Gpu& gpu, FlopsPerSecond peak) {
  TermChoices choices;
  switch (form) {
    case CostForm::kGroupedGemm: choices.add(tile_terms(kGroupedTile, shape, gpu, peak)); break;
    case CostForm::kGroupedGemmShort: choices.add(tile_terms(kGroupedShortTile, shape, gpu, peak)); break;
    default:
      for (const Tile& tile : kTiles) choices.add(tile_terms(tile, shape, gpu, peak));
  }
  return choices;
}

TermChoices untiled_product_terms(const ProductShape& shape, const Gpu& gpu, FlopsPerSecond peak) {
  const double flops = 2 * shape.rows * shape.columns * shape.depth / peak.count;
  TermChoices choices;
  choices.add({.terms = {kMicrosecond, flops, 0, 0, 0, 0, 0, std::max(0.0, shape.hbm.count / gpu.hbm.count - flops)}});
  return choices;
}

TermChoices attention_terms(const AttentionShape& shape, const Gpu& gpu, FlopsPerSecond peak) {
  const double flops = shape.flops.count / peak.count;
  const auto sms = static_cast<double>(gpu.sms);
  const double scores = shape.queries * shape.heads * shape.span;
  const double blocks = std::max(1.0, shape.queries / kBlock * shape.heads);
  TileTerms one;
  one.terms = {kMicrosecond,
               flops,
               flops * std::max(0.0, shape.width - kNarrowest) / kWider,
               scores / (kExponentials * sms),
               flops * kBlock / std::max(1.0, shape.span),
               2 * flops / blocks * sms,
               shape.hbm.count / gpu.hbm.count};
  TermChoices choices;
  choices.add(one);
  return choices;
}

TermChoices memory_terms(Bytes moved, const Gpu& gpu) {
  TermChoices choices;
  choices.add({.terms = {kMicrosecond, moved.count / gpu.hbm.count}});
  return choices;
}

ChosenTile quickest(const Terms& coefficients, const TermChoices& choices) {
  ChosenTile best{.seconds = std::numeric_limits<double>::infinity()};
  int index = 0;
  for (const TileTerms& choice : choices.all()) {
    double seconds = 0;
    for (std::size_t i = 0; i < coefficients.size(); ++i) seconds += coefficients[i] * choice.terms[i];
    if (seconds < best.seconds) best = {seconds, choice.tiles_per_sm, index};
    ++index;
  }
  return best;
}

}  // namespace msmoe
