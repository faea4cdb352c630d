// The constants of the cost model, each with where it comes from. None is fitted to a training run; what a training
// system loses beside them is Software::kernel_time_scale (core/plan.h), calibrated apart.
#pragma once

namespace msmoe::simulator {

// ---- FP8, which is not measured yet: DeepGEMM on H800 reaches 1358 of 1979 TFLOP/s at 4096 x 7168 x 16384, and 1297
// grouped, 4 x 8192 rows, 4096 x 7168 (https://github.com/deepseek-ai/DeepGEMM, first README), where bf16 reaches 0.77
// of its peak (reports/validation/h100-microbenchmarks.json): this much of the peak that a bf16 product's terms are of.
inline constexpr double kFp8PeakFraction = 0.71 / 0.77;
// Bytes moved to quantize an element of a GEMM's left operand. Rows that were permuted to experts are read in bf16 and
// written in fp8. Elsewhere the norm, activation or their backward before it writes fp8 in place of bf16, and only its
// transpose for the weight gradient comes on top (as Transformer Engine does; assumed).
inline constexpr double kQuantizeRowsBytes = 3, kQuantizeBytes = 1;

// ---- HBM. A device-to-device copy on H100 moves 3.0 of 3.35 TB/s; operands of a GEMM come as fast.
inline constexpr double kHbmFraction = 0.90;

// ---- Hosts.
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
