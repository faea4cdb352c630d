// Every rank of a job: loads, speed and noise of its own.
//
// Ranks meet inside layers and by messages between stages only within a component (rank_component.h), so components are
// simulated one by one, on as many threads as there are cores; without noise, those that have no straggler are alike
// and simulated once. Then, stage by stage, a chunk's reduction starts when the last component is ready for it, and
// gradient norm and optimizer follow when all are done. The result does not depend on the number of threads.
#pragma once

#include <cstdint>
#include <vector>

#include "core/cluster.h"
#include "core/model.h"
#include "core/plan.h"
#include "simulator/prediction.h"
#include "simulator/routing.h"
#include "simulator/stragglers.h"

namespace msmoe::simulator {

struct RankOptions {
  Routing routing;
  std::vector<Straggler> stragglers;
  double jitter = 0;  // coefficient of variation of every compute operator's time, per rank and slot; lognormal
  std::uint64_t seed = 1;
  std::int64_t steps = 0;  // 0: 20 where something is drawn for each step, else as many as the histogram has
  int threads = 0;         // 0: one a core
};

// Replaces step and parts of a prediction of the same plan by those of the mean step, and adds what ranks say.
// REQUIRES a valid plan; throws UserError where stragglers or a histogram do not fit it.
void simulate_every_rank(Prediction& prediction, const Model& model, const Cluster& cluster,
                         const RankOptions& options);

}  // namespace msmoe::simulator
