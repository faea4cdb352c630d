// Stragglers: GPUs that compute slower than the others, for as long as the job runs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/units_text.h"

namespace msmoe::simulator {

struct Straggler {
  std::int64_t count = 1;
  std::int64_t rank = -1;  // -1: `count` ranks drawn by the seed
  double factor = 1;       // times as long for every operator that computes
};

// "4:1.5": four GPUs take 1.5 times as long; "rank17:1.5": GPU 17 does; "4:1.2+rank17:2": both; "none".
std::vector<Straggler> parse_stragglers(const std::string& text, const Place& place);

// By rank: the factor of each GPU; of several, the largest. Throws UserError for a rank or a count beyond gpus.
std::vector<double> compute_factors(const std::vector<Straggler>& stragglers, std::int64_t gpus, std::uint64_t seed);

}  // namespace msmoe::simulator
