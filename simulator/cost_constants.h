// The constants of the cost model, each with where it comes from. None is fitted to a training run; what a training
// system loses beside them is Software::kernel_time_scale (core/plan.h), calibrated apart.
#pragma once

namespace msmoe::simulator {

// ---- GEMM. Time = waves of tiles * time of one tile on one SM. The constants are the best fit (4.7 % mean error) to
// 34 shapes on H100 SXM (torch 2.11, cuBLAS 13.1, torch's grouped GEMM): reports/validation/h100-microbenchmarks.json.
inline constexpr double kGemmPeakFraction = 0.77;
// fp8: DeepGEMM on H800, 4096 x 7168 x 16384: 1358 of 1979 TFLOP/s; grouped 4 x 8192 rows, 4096 x 7168: 1297
// (https://github.com/deepseek-ai/DeepGEMM, first README).
inline constexpr double kGemmPeakFractionFp8 = 0.71;
// Bytes moved to quantize an element of a GEMM's left operand. Rows that were permuted to experts are read in bf16 and
// written in fp8. Elsewhere the norm, activation or their backward before it writes fp8 in place of bf16, and only its
// transpose for the weight gradient comes on top (as Transformer Engine does; assumed).
inline constexpr double kQuantizeRowsBytes = 3, kQuantizeBytes = 1;
// A tile fills and drains its pipeline once: k / (k + this). cuBLAS and CUTLASS keep 3 to 4 stages of depth 64.
inline constexpr double kGemmDepthOverhead = 256;
// A grouped GEMM first lays out its problems, in kernels of their own.
inline constexpr double kGroupedGemmSeconds = 40e-6;
struct Tile {
  double rows, columns, fraction;  // fraction of kGemmPeakFraction that the inner loop of this tile reaches
};
// 128 x 256 is the fastest shape on Hopper; narrower tiles load more operand bytes per FLOP.
inline constexpr Tile kTiles[] = {{128, 256, 1.0}, {128, 128, 0.88}, {64, 128, 0.80}};

// ---- Attention: e * span / (span + s) * r / (r + c). span: the average number of keys a query meets; r: blocks of 128
// queries of one head, for each SM. cuDNN 9.19 on H100, causal, heads of 128, TFLOP/s forward / backward (the same
// report): 8192 tokens of 64, 32 and 4 heads: 627 / 485, 609 / 482, 357 / 323; 4096 tokens of 64 and 32: 555 / 451,
// 500 / 411.
inline constexpr double kAttentionForwardFraction = 0.732, kAttentionForwardSpan = 410, kAttentionForwardBlocks = 1.6;
inline constexpr double kAttentionBackwardFraction = 0.546, kAttentionBackwardSpan = 308,
                        kAttentionBackwardBlocks = 1.1;
inline constexpr double kAttentionBlockRows = 128;
// Narrow heads: FlashAttention-3 forward at 16k tokens, 497 TFLOP/s for heads of 64 beside 648 for 128
// (arXiv 2407.08608).
inline constexpr double kAttentionNarrowHead = 0.77;
// Wide heads in backward: 275 TFLOP/s for 16 heads of 192 at 4096 tokens, 0.75 of what the above says.
inline constexpr double kAttentionWideHeadBackward = 0.75;

// ---- HBM. A device-to-device copy on H100 moves 3.0 of 3.35 TB/s; operands of a GEMM come as fast.
inline constexpr double kHbmFraction = 0.90;
// Kernels with arithmetic and two or more streams do not: torch's RMSNorm 0.50 to 0.55, compiled SwiGLU 0.68 of the
// peak (the same report).
inline constexpr double kElementwiseFraction = 0.62;
// Rows gathered by an index reach 0.83 and more; added by an index in bf16, 0.21 (the same report). Training systems
// write their own kernels for the latter; between the two, nearer to the former (assumed).
inline constexpr double kPermuteFraction = 0.60;
// A kernel's launch gap, ramp and tail (assumed; a launch from a busy stream takes 2 to 4 us).
inline constexpr double kKernelSeconds = 4e-6;
// What the host takes to launch a kernel from PyTorch: 7.2 us without and 15.3 us with modules and autograd (the same
// report); and a collective: through PyTorch, NCCL on two H100 does not go below 42 to 60 us, where the same with
// symmetric windows takes 12 to 14.
inline constexpr double kKernelLaunchSeconds = 10e-6;
inline constexpr double kCollectiveLaunchSeconds = 30e-6;
// Software::routing_seconds is of kernels launched one by one; of it, this much is left where a graph launches them:
// forty kernels of 2 us (assumed) where a read and forty launches take 309 us (the same report).
inline constexpr double kCapturedRouting = 0.3;

// ---- NVLink. NCCL's maintainers quote 370 of 450 GB/s bus bandwidth for ring collectives on 8 H100
// (nccl-tests issue 212); DeepEP reaches 153-158 of 200 GB/s on H800.
inline constexpr double kNvlinkFraction = 0.80;
// All-to-all beside all-gather at equal bytes: 4096 tokens of 7168 to 8 of 8 ranks in 1265 us (NCCL on H100,
// arXiv 2603.07685, table 7), 325 GB/s where ring collectives reach 370. Slower on H800: its table says so.
inline constexpr double kAllToAllFraction = 0.90;
// Copies by the copy engines to a peer on H100: 2.6 us for 64 KiB, 391 GB/s for 256 MiB.
inline constexpr double kCopyEngineFraction = 0.87;
inline constexpr double kCopyEngineSeconds = 2.5e-6;
// Start of a collective kernel on all ranks: NCCL with symmetric windows takes 12-14 us for 1 MiB a rank on two H100.
inline constexpr double kCollectiveSeconds = 10e-6;

// ---- Network. DeepEP's dispatch and combine reach 43-51 of 50 GB/s a NIC between H800 nodes.
inline constexpr double kNicFraction = 0.90;

// ---- Fused, tile-level operators: the slower of both halves, each stretched by what fusion costs it. From
// MegaScale-MoE (arXiv 2505.11432) Fig. 16, six models on 8 H800, 8192 tokens: all-gather + scatter + grouped GEMM:
// 0.72 to 0.88 PFLOP/s for the three models whose GEMM is the longer half: as fast as the GEMM alone. Nor does a fused
// GEMM lay out its problems in kernels of its own. grouped GEMM + gather + reduce-scatter: beside its GEMM it adds each
// row's result to its token's, 26 to 36 ps an element for the four models with 16,384 to 24,576 rows in all of 4096 and
// 6144.
inline constexpr double kFusedReduceSecondsPerElement = 33e-12;
// QKV GEMM + all-to-all: 0.40 to 0.50 PFLOP/s for the three models whose GEMM is the longer half.
inline constexpr double kFusedScatterGemm = 1.55;
// all-to-all + output GEMM: remote tiles are pulled at 47 to 56 of 200 GB/s in all six, 52.6 in the geometric mean.
inline constexpr double kFusedPullFraction = 0.263;

// ---- Resources. A memory-bound kernel saturates HBM with about this share of the SMs (assumed).
inline constexpr float kElementwiseSmShare = 0.7F;

}  // namespace msmoe::simulator
