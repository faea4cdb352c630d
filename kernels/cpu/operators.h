// One function for each operation: its definition, written to be read and compared with, in fp32 and on one thread.
// Each checks everything before it writes anything: shapes and types, and that indices stay inside what they index,
// which GPUs have no time for.
#pragma once

#include "kernels/cpu/check.h"
#include "kernels/kernels.h"

namespace msmoe::kernels::cpu {

void run(const Gemm& operation, const Check& check);
void run(const GroupedGemm& operation, const Check& check);
void run(const Attention& operation, const Check& check);
void run(const AttentionBackward& operation, const Check& check);
void run(const RmsNorm& operation, const Check& check);
void run(const RmsNormBackward& operation, const Check& check);
void run(const Rope& operation, const Check& check);
void run(const LatentHeads& operation, const Check& check);
void run(const LatentHeadsBackward& operation, const Check& check);
void run(const SwiGlu& operation, const Check& check);
void run(const SwiGluBackward& operation, const Check& check);
void run(const Add& operation, const Check& check);
void run(const Embedding& operation, const Check& check);
void run(const EmbeddingBackward& operation, const Check& check);
void run(const CrossEntropy& operation, const Check& check);
void run(const CrossEntropyBackward& operation, const Check& check);
void run(const Router& operation, const Check& check);
void run(const RouterBackward& operation, const Check& check);
void run(const SortByExpert& operation, const Check& check);
void run(const SortArrivals& operation, const Check& check);
void run(const GatherRows& operation, const Check& check);
void run(const CombineRows& operation, const Check& check);
void run(const CombineWeightGradient& operation, const Check& check);
void run(const GatherScalars& operation, const Check& check);
void run(const AdamW& operation, const Check& check);
void run(const SquaredNorm& operation, const Check& check);
void run(const ClipScale& operation, const Check& check);
void run(const Cast& operation, const Check& check);
void run(const Quantize& operation, const Check& check);
void run(const Dequantize& operation, const Check& check);
void run(const SumChunks& operation, const Check& check);
void run(const Zero& operation, const Check& check);

inline float* row(const View& view, std::int64_t index) { return view.as<float>() + index * view.columns; }

}  // namespace msmoe::kernels::cpu
