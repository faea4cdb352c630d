#include "simulator/validation/ranking.h"

#include <algorithm>
#include <tuple>

namespace msmoe::simulator::validation {
namespace {

auto question(const Outcome& outcome) {
  const Plan& plan = outcome.prediction.plan;
  return std::make_tuple(outcome.run->model, plan.cluster, outcome.prediction.parameters.total, plan.gpus, plan.seq_len,
                         plan.global_batch, plan.precision, plan.software.name);
}

}  // namespace

std::vector<RankedPair> ranked_pairs(const std::vector<Outcome>& outcomes) {
  std::vector<RankedPair> pairs;
  for (auto one = outcomes.begin(); one != outcomes.end(); ++one) {
    for (auto other = one + 1; other != outcomes.end(); ++other) {
      if (question(*one) != question(*other)) continue;
      const auto [faster, slower] =
          one->published_step < other->published_step ? std::pair{&*one, &*other} : std::pair{&*other, &*one};
      if (slower->published_step > (1 + kClearDifference) * faster->published_step) pairs.push_back({faster, slower});
    }
  }
  return pairs;
}

}  // namespace msmoe::simulator::validation
