// The rates of tasks that run at once on one device: holders first, then the others, each class by progressive filling
// (engine.h has the equations).
#pragma once

#include <array>

#include "simulator/engine.h"

namespace msmoe::simulator {

struct Demand {
  std::array<float, kNumResources> share{};  // of each resource, at rate 1
  bool holder = false;
};

// Sets rates[i] of demands[i], each in [0, 1]. The rate is 0 where holders leave nothing of a resource that it needs.
// REQUIRES: 1 <= count <= kMaxStreams; shares in [0, 1].
void fluid_rates(const Demand* const* demands, int count, double* rates);

}  // namespace msmoe::simulator
