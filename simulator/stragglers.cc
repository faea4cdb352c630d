#include "simulator/stragglers.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "simulator/random_draws.h"

namespace msmoe::simulator {
namespace {

constexpr double kMostFactor = 1000;
constexpr const char* kAllowed = "COUNT:FACTOR, rankN:FACTOR, several joined by '+', or none; factors from 1 to 1000";

Straggler parse_one(const std::string& text, const Place& place) {
  const std::size_t colon = text.find(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == text.size())
    throw UserError(place.file, place.key, fmt::format("'{}' is no straggler", excerpt(text)), kAllowed);
  Straggler straggler;
  const std::string who = text.substr(0, colon);
  if (who.starts_with("rank")) {
    straggler.rank = parse_count(who.substr(4), place);
  } else {
    straggler.count = parse_count(who, place);
  }
  straggler.factor = parse_number(text.substr(colon + 1), place);
  if (straggler.count < 0 || (straggler.rank < 0 && who.starts_with("rank")) ||
      !(straggler.factor >= 1 && straggler.factor <= kMostFactor))
    throw UserError(place.file, place.key, fmt::format("'{}' is not allowed", excerpt(text)), kAllowed);
  return straggler;
}

}  // namespace

std::vector<Straggler> parse_stragglers(const std::string& text, const Place& place) {
  std::vector<Straggler> stragglers;
  if (text == "none") return stragglers;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('+', begin), text.size());
    stragglers.push_back(parse_one(text.substr(begin, end - begin), place));
    begin = end + 1;
  }
  return stragglers;
}

std::vector<double> compute_factors(const std::vector<Straggler>& stragglers, std::int64_t gpus, std::uint64_t seed) {
  std::vector<double> factors(static_cast<std::size_t>(gpus), 1.0);
  const auto slow = [&](std::size_t rank, double factor) { factors[rank] = std::max(factors[rank], factor); };
  constexpr std::uint64_t kStream = 0x57a6;  // apart from the draws of routing and jitter
  Draws draws(draw_key({seed, kStream}));
  for (const Straggler& straggler : stragglers) {
    if (straggler.rank >= gpus || straggler.count > gpus)
      throw UserError("", "straggler",
                      straggler.rank >= 0 ? fmt::format("there is no rank {}", straggler.rank)
                                          : fmt::format("{} GPUs cannot be slow", straggler.count),
                      fmt::format("the plan has {} GPUs", gpus));
    if (straggler.rank >= 0) {
      slow(static_cast<std::size_t>(straggler.rank), straggler.factor);
      continue;
    }
    std::vector<std::size_t> ranks(factors.size());  // the first `count` of a shuffle (Fisher-Yates)
    std::iota(ranks.begin(), ranks.end(), std::size_t{0});
    for (std::size_t i = 0; i < static_cast<std::size_t>(straggler.count); ++i) {
      std::swap(ranks[i], ranks[i + draws.below(ranks.size() - i)]);
      slow(ranks[i], straggler.factor);
    }
  }
  return factors;
}

}  // namespace msmoe::simulator
