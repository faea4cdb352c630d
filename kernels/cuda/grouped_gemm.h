// What the passes of a grouped product share with their caller. Each is a CUTLASS kernel in a .cu file of its own,
// since each takes the compiler half a minute; the weight gradient has a second one for experts with few rows.
#pragma once

#include "kernels/cuda/libraries.h"

namespace msmoe::kernels {

struct GroupSizes {
  int experts = 0;
  std::int64_t rows = 0;  // of all experts; how many each has, only the device knows
  std::int64_t out = 0, in = 0;
};

struct GroupedProductCalls {
  std::size_t (*workspace_bytes)(const GroupSizes& sizes, int sms);
  void (*run)(const GroupedGemm& operation, const GroupSizes& sizes, const DeviceLaunch& launch);
};

extern const GroupedProductCalls kGroupedForward, kGroupedInputGradient, kGroupedWeightGradient,
    kGroupedWeightGradientShort;

}  // namespace msmoe::kernels
