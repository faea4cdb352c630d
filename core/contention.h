// Contention: how much longer an operator and a transfer take when they run at once than each does alone, as a machine
// measured it (the pairs of msmoe-profile).
//
//   transfer  s = (u^3 + (1 - u^3) (1 + w c)^3)^(1/3)
//             u  the part of its time alone that its wire needs: what waits for the wire hides other waits
//             w  how much the collective waits for memory; c how much the operator crowds it
//   operator  s = 1 + y p
//             y  how much the operator yields; p what the transfer takes: its part of the SMs, and of HBM's rate
//
// The form of the first is that of two limits which blur into each other: on two H200, a reduce-scatter of 64 MiB by 4,
// 8 and 16 thread blocks takes 478, 253 and 187 us, where 161 us is the least.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace msmoe {

enum class FittedOperator : std::uint8_t;  // core/profile.h
enum class Collective : std::uint8_t;      // core/program.h

// What operators are told apart by.
enum class CrowdKind : std::uint8_t { kGemm, kWeightGradient, kGroupedGemm, kAttention, kElementwise, kPermute };
inline constexpr int kNumCrowdKinds = 6;
// "gemm", "gemm_weight_gradient", "grouped_gemm", "attention", "elementwise", "permute"
const char* crowd_kind_name(CrowdKind kind);
CrowdKind crowd_kind(FittedOperator of);

// And transfers.
inline constexpr int kNumWaitKinds = 3;
inline constexpr std::array<const char*, kNumWaitKinds> kWaitKindNames = {"all_gather", "reduce_scatter", "all_to_all"};
// Index into the names. An all-reduce adds as a reduce-scatter does; messages are those of an all-to-all.
int wait_kind(Collective collective);

struct Contention {
  std::array<double, kNumCrowdKinds> crowds{}, yields{};  // c and y
  std::array<double, kNumWaitKinds> waits{};              // w; that of all_gather is 1
  std::string gpu;                                        // that it was measured on, as the driver calls it
};

// s of the transfer. wire: u, in [0, 1].
double slowed_transfer(double wire, double waits, double crowds);
// s of the operator. pressing: p.
inline double slowed_operator(double yields, double pressing) { return 1 + yields * pressing; }
// p of a transfer that holds a part of the SMs, and reads and writes so many bytes a second of HBM's peak.
inline double pressing(double sm_share, double hbm_share) { return sm_share + hbm_share; }

}  // namespace msmoe
