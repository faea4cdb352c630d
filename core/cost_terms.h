// The physical terms of an operator's time. A term is what one part of the operator would take at the peaks of the GPU;
// a fit (core/profile.h) says how many times as long that part takes in truth:
//
//     t = min over tiles of sum_i coefficient_i * term_i
//
// Matrix products may choose among tiles, as cuBLAS does; all others have one row of terms. The profiler fits the
// coefficients to what it measured, the simulator evaluates them: both by what is declared here.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "core/gpu.h"

namespace msmoe {

// Which terms there are.
enum class CostForm : std::uint8_t { kGemm, kGroupedGemm, kGroupedGemmShort, kAttention, kMemory };
inline constexpr int kNumCostForms = 5;
const char* cost_form_name(CostForm form);  // "gemm", "grouped_gemm", "grouped_gemm_short", "attention", "memory"

// Whether the weight gradients of so many experts come from the kernel with small tiles, two of which overlap on an SM
// (kGroupedGemmShort): kernels/cuda/grouped_gemm.cu chooses by this, costs follow. rows: of all experts.
bool has_short_weight_gradients(double rows, double experts);
inline constexpr double kFewestShortRows = 384, kShortRowsEnd = 2048;  // an expert, on average
inline constexpr double kMostShortExperts = 64;

inline constexpr int kMostTerms = 8;
using Terms = std::array<double, kMostTerms>;  // seconds; 0 beyond those of the form

// Names of the terms, in order:
//   all        start      1 us
//   products   flops      of all tiles, spread evenly over the SMs
//              waves      of whole waves of tiles: ceil(tiles / SMs) of them
//              fill       of a wave, the depth of the pipeline: FLOPs of so many more steps of the inner loop
//              loads      of operands into the SMs, by whole waves, at 10 TB/s from L2
//              steps      10 ns for each 64 of depth, by waves: nothing goes faster however small the tile
//              sustained  of `flops`, what exceeds a millisecond: the power limit lowers the clocks then
//              hbm        operands once and the result, as far as this takes longer than `flops`
//   attention  flops      of the causal half
//              wide       the same for each 64 of head width beyond 128
//              softmax    an exponential for each score, 16 a cycle and SM at 1.7 GHz
//              diagonal   FLOPs of the blocks of 128 keys on the diagonal, half of which are for nothing
//              longest    FLOPs of the one block of 128 queries that meets all keys, on its SM alone
//              hbm        queries, keys, values and the result
//   memory     hbm        all that is read and written
std::span<const char* const> term_names(CostForm form);

struct ProductShape {
  double rows = 0, columns = 0, depth = 0;  // rows of all groups
  double groups = 1;
  Bytes hbm;  // read and written
};
struct AttentionShape {
  double queries = 0, span = 0;  // tokens, and how many keys one meets on average
  double heads = 0, width = 0;   // the mean of query's and value's
  Flops flops;
  Bytes hbm;
};

struct TileTerms {
  Terms terms{};
  double tiles_per_sm = 0;  // 0 where there are no tiles
};
// One for each choice.
class TermChoices {
 public:
  void add(const TileTerms& choice) { of_[static_cast<std::size_t>(size_++)] = choice; }
  std::span<const TileTerms> all() const { return {of_.data(), static_cast<std::size_t>(size_)}; }

 private:
  static constexpr int kMostChoices = 8;
  std::array<TileTerms, kMostChoices> of_;
  int size_ = 0;
};

// peak: of the precision that the product is computed in. form: kGemm, or one of the grouped ones, whose kernels have
// one tile each.
TermChoices product_terms(CostForm form, const ProductShape& shape, const Gpu& gpu, FlopsPerSecond peak);
// The same without tensor cores, whose tiles come in sizes: `flops` and `hbm` alone, beside the start.
TermChoices untiled_product_terms(const ProductShape& shape, const Gpu& gpu, FlopsPerSecond peak);
TermChoices attention_terms(const AttentionShape& shape, const Gpu& gpu, FlopsPerSecond peak);
TermChoices memory_terms(Bytes moved, const Gpu& gpu);
inline constexpr std::size_t kMemoryHbmTerm = 1;  // of Terms

struct ChosenTile {
  double seconds = 0, tiles_per_sm = 0;
  int index = 0;
};
// The quickest choice. REQUIRES: one at least.
ChosenTile quickest(const Terms& coefficients, const TermChoices& choices);

}  // namespace msmoe
