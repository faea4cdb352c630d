#include "kernels/kernels.h"

namespace msmoe::kernels {
namespace {

struct Name {
  const char* operator()(const Gemm&) const { return "gemm"; }
  const char* operator()(const GroupedGemm&) const { return "grouped_gemm"; }
  const char* operator()(const Attention&) const { return "attention"; }
  const char* operator()(const AttentionBackward&) const { return "attention_backward"; }
  const char* operator()(const RmsNorm&) const { return "rms_norm"; }
  const char* operator()(const RmsNormBackward&) const { return "rms_norm_backward"; }
  const char* operator()(const Rope&) const { return "rope"; }
  const char* operator()(const LatentHeads&) const { return "latent_heads"; }
  const char* operator()(const LatentHeadsBackward&) const { return "latent_heads_backward"; }
  const char* operator()(const SwiGlu&) const { return "swiglu"; }
  const char* operator()(const SwiGluBackward&) const { return "swiglu_backward"; }
  const char* operator()(const Add&) const { return "add"; }
  const char* operator()(const Embedding&) const { return "embedding"; }
  const char* operator()(const EmbeddingBackward&) const { return "embedding_backward"; }
  const char* operator()(const CrossEntropy&) const { return "cross_entropy"; }
  const char* operator()(const CrossEntropyBackward&) const { return "cross_entropy_backward"; }
  const char* operator()(const Router&) const { return "router"; }
  const char* operator()(const RouterBackward&) const { return "router_backward"; }
  const char* operator()(const SortByExpert&) const { return "sort_by_expert"; }
  const char* operator()(const SortArrivals&) const { return "sort_arrivals"; }
  const char* operator()(const GatherRows&) const { return "gather_rows"; }
  const char* operator()(const CombineRows&) const { return "combine_rows"; }
  const char* operator()(const CombineWeightGradient&) const { return "combine_weight_gradient"; }
  const char* operator()(const GatherScalars&) const { return "gather_scalars"; }
  const char* operator()(const AdamW&) const { return "adamw"; }
  const char* operator()(const SquaredNorm&) const { return "squared_norm"; }
  const char* operator()(const ClipScale&) const { return "clip_scale"; }
  const char* operator()(const Cast&) const { return "cast"; }
  const char* operator()(const Quantize&) const { return "quantize"; }
  const char* operator()(const Dequantize&) const { return "dequantize"; }
  const char* operator()(const SumChunks&) const { return "sum_chunks"; }
  const char* operator()(const Zero&) const { return "zero"; }
};

}  // namespace

const char* name_of(const Operation& operation) { return std::visit(Name{}, operation); }

}  // namespace msmoe::kernels
