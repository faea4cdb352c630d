#include "profiler/pair_fits.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <span>

#include "profiler/grids.h"

namespace msmoe::profiler {
namespace {

CrowdKind kind_of(const Case& compute) {
  if (compute.what == "gemm_weight_gradient") return CrowdKind::kWeightGradient;
  if (compute.what.starts_with("gemm")) return CrowdKind::kGemm;
  if (compute.what.starts_with("grouped_gemm")) return CrowdKind::kGroupedGemm;
  if (compute.what.starts_with("attention")) return CrowdKind::kAttention;
  return compute.what == "combine_rows" ? CrowdKind::kPermute : CrowdKind::kElementwise;
}

std::optional<std::size_t> wait_kind_of(const Case& link) {
  const auto at = std::ranges::find(kWaitKindNames, link.what);
  if (at == kWaitKindNames.end()) return std::nullopt;
  return static_cast<std::size_t>(at - kWaitKindNames.begin());
}

bool is_link(const Case& of) { return wait_kind_of({of.what, {}}) || of.what == "push" || of.what == "copy_engine"; }

// One side of a pair.
struct Slowed {
  std::size_t crowd = 0, wait = 0;
  double slowdown = 1;
  double wire = 0;      // u of a transfer
  double pressing = 0;  // p that an operator meets
  bool is_held_out = false;
};
struct Sides {
  std::vector<Slowed> transfers, operators;
};

// Of the collective with as many blocks as NCCL likes; 0: not measured.
double least_seconds(const std::vector<Point>& points, const Case& link) {
  for (const Point& point : points) {
    const auto& shape = point.of.shape;
    if (point.of.what == link.what && !shape.contains("ctas") && shape.at("bytes") == link.shape.at("bytes") &&
        shape.at("ranks") == link.shape.at("ranks"))
      return to_seconds(point.time);
  }
  return 0;
}

// What each rank sends, and reads from and writes to its own memory for it.
double moved_bytes(const Case& link) {
  const auto bytes = static_cast<double>(link.shape.at("bytes")), ranks = static_cast<double>(link.shape.at("ranks"));
  return 2 * (wait_kind_of(link) ? bytes * (ranks - 1) / ranks : bytes);
}

double pressing_of(const Case& link, double seconds, const Gpu& gpu) {
  const auto ctas = link.shape.find("ctas");
  const double sms = ctas == link.shape.end() ? 0 : static_cast<double>(ctas->second);
  return pressing(sms / static_cast<double>(gpu.sms), moved_bytes(link) / seconds / gpu.hbm.count);
}

// A pair was measured as two points: "X beside Y" and "Y beside X".
Sides sides_of(const std::vector<Point>& points, const Gpu& gpu) {
  std::map<std::string, const Point*> by_key;
  for (const Point& point : points) by_key[point.of.key()] = &point;
  Sides sides;
  for (const Point& operated : points) {
    if (!is_pair(operated.of)) continue;
    const auto partner = by_key.find(partner_of(operated.of).key());
    const auto [compute, link] = profiler::sides_of(operated.of);
    if (is_link(compute) || partner == by_key.end()) continue;
    const Point& transferred = *partner->second;
    const auto crowd = static_cast<std::size_t>(kind_of(compute));
    const double alone = to_seconds(transferred.alone);
    sides.operators.push_back({.crowd = crowd,
                               .slowdown = to_seconds(operated.time) / to_seconds(operated.alone),
                               .pressing = pressing_of(link, alone, gpu),
                               .is_held_out = operated.of.is_held_out()});
    const auto wait = wait_kind_of(link);
    const double least = wait ? least_seconds(points, link) : 0;
    if (least <= 0) continue;
    sides.transfers.push_back({.crowd = crowd,
                               .wait = *wait,
                               .slowdown = to_seconds(transferred.time) / alone,
                               .wire = std::min(1.0, least / alone),
                               .is_held_out = transferred.of.is_held_out()});
  }
  return sides;
}

// y by operator. False where one has no pair.
bool fit_yields(Contention& contention, const std::vector<Slowed>& operators) {
  std::array<double, kNumCrowdKinds> products{}, squares{};
  for (const Slowed& one : operators) {
    if (one.is_held_out) continue;
    products[one.crowd] += one.pressing * (one.slowdown - 1);
    squares[one.crowd] += one.pressing * one.pressing;
  }
  for (std::size_t kind = 0; kind < kNumCrowdKinds; ++kind) {
    if (squares[kind] <= 0) return false;
    contention.yields[kind] = std::max(0.0, products[kind] / squares[kind]);
  }
  return true;
}

// s = (u^3 + (1 - u^3) (1 + x)^3)^(1/3) solved for x = w c, and the weight ds/dx that an error of x has in s.
struct Wait {
  double x = 0, weight = 0;
};
Wait solved(const Slowed& one) {
  const double cube = std::pow(one.wire, 3), slowdown = std::max(1.0, one.slowdown);
  if (cube >= 1) return {};
  const double stretched = std::cbrt((std::pow(slowdown, 3) - cube) / (1 - cube));
  return {stretched - 1, (1 - cube) * std::pow(stretched / slowdown, 2)};
}

// The best c for given w, and then the other way round; the w of the first collective is 1.
bool fit_waits(Contention& contention, const std::vector<Slowed>& transfers) {
  constexpr int kRounds = 50;
  contention.waits.fill(1);
  for (int round = 0; round < kRounds; ++round) {
    for (const bool of_crowds : {true, false}) {
      std::array<double, kNumCrowdKinds> products{}, squares{};
      for (const Slowed& one : transfers) {
        if (one.is_held_out) continue;
        const Wait wait = solved(one);
        const double known = of_crowds ? contention.waits[one.wait] : contention.crowds[one.crowd];
        const std::size_t sought = of_crowds ? one.crowd : one.wait;
        products[sought] += std::pow(wait.weight, 2) * known * wait.x;
        squares[sought] += std::pow(wait.weight * known, 2);
      }
      const std::span<double> found =
          of_crowds ? std::span<double>(contention.crowds) : std::span<double>(contention.waits);
      for (std::size_t kind = 0; kind < found.size(); ++kind) {
        if (squares[kind] <= 0) return false;
        found[kind] = products[kind] / squares[kind];
      }
    }
    const double scale = contention.waits.front();
    if (scale <= 0) return false;
    for (double& wait : contention.waits) wait /= scale;
    for (double& crowd : contention.crowds) crowd *= scale;
  }
  return true;
}

}  // namespace

std::optional<PairFit> fit_pairs(const std::vector<Point>& points, const Gpu& gpu, const std::string& name) {
  const Sides sides = sides_of(points, gpu);
  PairFit fit;
  Contention& contention = fit.contention;
  contention.gpu = name;
  if (!fit_yields(contention, sides.operators) || !fit_waits(contention, sides.transfers)) return std::nullopt;
  for (const Slowed& one : sides.operators)
    if (one.is_held_out)
      fit.errors.push_back(std::abs(slowed_operator(contention.yields[one.crowd], one.pressing) - one.slowdown));
  for (const Slowed& one : sides.transfers)
    if (one.is_held_out)
      fit.errors.push_back(
          std::abs(slowed_transfer(one.wire, contention.waits[one.wait], contention.crowds[one.crowd]) - one.slowdown));
  return fit;
}

}  // namespace msmoe::profiler
