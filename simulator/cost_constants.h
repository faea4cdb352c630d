// The constants of the cost model, each with where it comes from. None is fitted to a training run; what a training
// system loses beside them is Software::kernel_time_scale (core/plan.h), calibrated apart.
#pragma once

namespace msmoe::simulator {

// ---- GEMM. Time = waves of tiles * time of one tile on one SM. Two H100 SXM, cuBLAS 13.1: 8192^3 in bf16 runs at
// 701-748 TFLOP/s; torch's grouped GEMM (CUTLASS) at 722 (8 x 4096 rows, k 4096, n 14336) and 689 (8 x 1024 rows).
// With 16 waves where 15.5 would do and the depth term below, 0.77 of the data sheet's peak gives 725, 724 and 705.
inline constexpr double kGemmPeakFraction = 0.77;
// fp8: DeepGEMM on H800, 4096 x 7168 x 16384: 1358 of 1979 TFLOP/s; grouped 4 x 8192 rows, 4096 x 7168: 1297
// (https://github.com/deepseek-ai/DeepGEMM, first README).
inline constexpr double kGemmPeakFractionFp8 = 0.71;
// A tile fills and drains its pipeline once: k / (k + this). cuBLAS and CUTLASS keep 3 to 4 stages of depth 64.
inline constexpr double kGemmDepthOverhead = 192;
struct Tile {
  double rows, columns, fraction;  // fraction of kGemmPeakFraction that the inner loop of this tile reaches
};
// 128 x 256 is the fastest shape on Hopper; narrower tiles load more operand bytes per FLOP (assumed fractions).
inline constexpr Tile kTiles[] = {{128, 256, 1.0}, {128, 128, 0.92}, {64, 128, 0.75}};

// ---- Attention: e * span / (span + s), span the average number of keys a query meets. cuDNN 9.19 on H100, causal,
// 32 heads of 128: 609 and 533 TFLOP/s forward at 8192 and 4096 tokens; 482 and 435 backward.
inline constexpr double kAttentionForwardFraction = 0.719, kAttentionForwardSpan = 683;
inline constexpr double kAttentionBackwardFraction = 0.545, kAttentionBackwardSpan = 490;
// Narrow heads: FlashAttention-3 forward at 16k tokens, 497 TFLOP/s for heads of 64 beside 648 for 128
// (arXiv 2407.08608).
inline constexpr double kAttentionNarrowHead = 0.77;

// ---- HBM. A device-to-device copy on H100 moves 3.0 of 3.35 TB/s.
inline constexpr double kHbmFraction = 0.90;
// Rows gathered by an index: whole rows of 2 KiB and more, but no streaming order (assumed).
inline constexpr double kPermuteFraction = 0.70;
// A kernel's launch gap, ramp and tail (assumed; a launch from a busy stream takes 2 to 4 us).
inline constexpr double kKernelSeconds = 3e-6;

// ---- NVLink. NCCL's maintainers quote 370 of 450 GB/s bus bandwidth for ring collectives on 8 H100
// (nccl-tests issue 212); DeepEP reaches 153-158 of 200 GB/s on H800.
inline constexpr double kNvlinkFraction = 0.80;
// All-to-all beside all-gather at equal bytes: MegaScale-MoE (arXiv 2505.11432) Fig. 7, where all-gather wins from
// top-k 6 of 8 on: 6/8.
inline constexpr double kAllToAllFraction = 0.75;
// Start of a collective kernel on all ranks: NCCL with symmetric windows takes 12-14 us for 1 MiB a rank on two H100.
inline constexpr double kCollectiveSeconds = 10e-6;

// ---- Network. DeepEP's dispatch and combine reach 43-51 of 50 GB/s a NIC between H800 nodes.
inline constexpr double kNicFraction = 0.90;

// ---- Fused operators: 5 % over the slower of both halves, and one launch. MegaScale-MoE Fig. 16: the fused all-gather
// + scatter + grouped GEMM of the 352B model runs at 0.72 PFLOP/s, its communication hidden.
inline constexpr double kFusedOverhead = 1.05;

// ---- Resources. A memory-bound kernel saturates HBM with about this share of the SMs (assumed).
inline constexpr float kElementwiseSmShare = 0.7F;

}  // namespace msmoe::simulator
