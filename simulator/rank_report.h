// RankReport: what the simulation of every rank says beside the step time, and how it reads.
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "core/units.h"

namespace msmoe::simulator {

// What a rank waits for when others are late.
enum class RankWait : std::uint8_t { kExperts, kAttention, kStages, kReplicas };
inline constexpr int kNumRankWaits = 4;
const char* rank_wait_name(RankWait wait);  // "the expert exchange"
const char* rank_wait_key(RankWait wait);   // "experts", of JSON

// Over ranks, or over steps: values that so many of a hundred do not exceed.
struct Spread {
  Duration p50, p90, p99, max;
};
// By nearest rank: the smallest value that so many do not exceed. REQUIRES: not empty. Sorts the values.
Spread spread_of(std::vector<double>& picoseconds);

// Means over the steps.
struct RankLine {
  std::int64_t rank = 0, stage = 0;
  Duration busy, wires;  // computing; transfers that nothing hides
  std::array<Duration, kNumRankWaits> waits{};
  RankWait longest_wait() const;
};

struct RankReport {
  std::int64_t ranks = 0, steps = 0;
  std::int64_t distinct_components = 0;  // simulated; the others are copies of one of these
  Spread step;                           // over steps
  Spread busy, waiting;                  // over ranks, of their means over the steps
  std::array<Duration, kNumRankWaits> mean_waits{};
  std::vector<RankLine> slowest;  // the busiest first
};

nlohmann::ordered_json ranks_json(const RankReport& report);
std::string ranks_text(const RankReport& report);

}  // namespace msmoe::simulator
