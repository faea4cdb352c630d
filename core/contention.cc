#include "core/contention.h"

#include <algorithm>
#include <cmath>

#include "core/profile.h"
#include "core/program.h"

namespace msmoe {

const char* crowd_kind_name(CrowdKind kind) {
  static constexpr std::array<const char*, kNumCrowdKinds> kNames = {
      "gemm", "gemm_weight_gradient", "grouped_gemm", "attention", "elementwise", "permute"};
  return kNames[static_cast<std::size_t>(kind)];
}

CrowdKind crowd_kind(FittedOperator of) {
  switch (of) {
    case FittedOperator::kGemmForward:
    case FittedOperator::kGemmInputGradient: return CrowdKind::kGemm;
    case FittedOperator::kGemmWeightGradient: return CrowdKind::kWeightGradient;
    case FittedOperator::kGroupedGemmForward:
    case FittedOperator::kGroupedGemmInputGradient:
    case FittedOperator::kGroupedGemmWeightGradient:
    case FittedOperator::kGroupedGemmWeightGradientShort: return CrowdKind::kGroupedGemm;
    case FittedOperator::kAttentionForward:
    case FittedOperator::kAttentionBackward: return CrowdKind::kAttention;
    case FittedOperator::kPermute: return CrowdKind::kPermute;
    case FittedOperator::kElementwise:
    case FittedOperator::kOptimizer: break;
  }
  return CrowdKind::kElementwise;
}

int wait_kind(Collective collective) {
  switch (collective) {
    case Collective::kReduceScatter:
    case Collective::kAllReduce: return 1;
    case Collective::kAllToAll:
    case Collective::kSend: return 2;
    case Collective::kNone:
    case Collective::kAllGather: break;
  }
  return 0;
}

double slowed_transfer(double wire, double waits, double crowds) {
  const double cube = std::pow(std::clamp(wire, 0.0, 1.0), 3);
  return std::cbrt(cube + (1 - cube) * std::pow(1 + waits * crowds, 3));
}

}  // namespace msmoe
