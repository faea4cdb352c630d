// The rates of tasks that run at once on one device: max-min fair, but for the SMs that holders keep (engine.h has the
// equations).
#pragma once

#include <array>

#include "simulator/engine.h"

namespace msmoe::simulator {

struct Demand {
  std::array<float, kNumResources> share{};  // of each resource, at rate 1
  bool holder = false;
  float tiles_per_sm = 0;  // as Task's
  Interference interference;
};

// Sets rates[i] of demands[i], each in [0, 1]. The rate is 0 where demands[i] needs SMs and holders hold them all.
// REQUIRES: 1 <= count <= kMaxStreams; shares in [0, 1].
void fluid_rates(const Demand* const* demands, int count, double* rates);

}  // namespace msmoe::simulator
