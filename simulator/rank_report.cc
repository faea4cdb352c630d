#include "simulator/rank_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/units_text.h"
#include "reports/table.h"
#include "reports/text.h"

namespace msmoe::simulator {
namespace {

using nlohmann::ordered_json;
using reports::Table;

ordered_json spread_json(const Spread& spread) {
  return {{"p50", to_seconds(spread.p50)},
          {"p90", to_seconds(spread.p90)},
          {"p99", to_seconds(spread.p99)},
          {"max", to_seconds(spread.max)}};
}

ordered_json waits_json(const std::array<Duration, kNumRankWaits>& waits) {
  ordered_json json;
  for (int wait = 0; wait < kNumRankWaits; ++wait)
    json[rank_wait_key(static_cast<RankWait>(wait))] = to_seconds(waits[static_cast<std::size_t>(wait)]);
  return json;
}

}  // namespace

const char* rank_wait_name(RankWait wait) {
  static constexpr const char* kNames[kNumRankWaits] = {"the expert exchange", "the attention exchange", "other stages",
                                                        "other replicas"};
  return kNames[static_cast<std::size_t>(wait)];
}

const char* rank_wait_key(RankWait wait) {
  static constexpr const char* kKeys[kNumRankWaits] = {"experts", "attention", "stages", "replicas"};
  return kKeys[static_cast<std::size_t>(wait)];
}

Spread spread_of(std::vector<double>& picoseconds) {
  std::sort(picoseconds.begin(), picoseconds.end());
  const auto nearest = [&](double share) {
    const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(picoseconds.size())));
    return Duration{std::llround(picoseconds[std::max<std::size_t>(rank, 1) - 1])};
  };
  return {nearest(0.5), nearest(0.9), nearest(0.99), nearest(1)};
}

RankWait RankLine::longest_wait() const {
  return static_cast<RankWait>(std::max_element(waits.begin(), waits.end()) - waits.begin());
}

ordered_json ranks_json(const RankReport& report) {
  ordered_json slowest = ordered_json::array();
  for (const RankLine& line : report.slowest)
    slowest.push_back({{"rank", line.rank},
                       {"stage", line.stage},
                       {"busy_seconds", to_seconds(line.busy)},
                       {"transfer_seconds", to_seconds(line.wires)},
                       {"waiting_seconds", waits_json(line.waits)},
                       {"waits_most_for", rank_wait_key(line.longest_wait())}});
  return {{"count", report.ranks},
          {"steps", report.steps},
          {"distinct_components", report.distinct_components},
          {"busy_seconds", spread_json(report.busy)},
          {"waiting_seconds", spread_json(report.waiting)},
          {"mean_waiting_seconds", waits_json(report.mean_waits)},
          {"slowest", std::move(slowest)}};
}

std::string ranks_text(const RankReport& report) {
  Table spread({{fmt::format("{} ranks, {} step{}", reports::with_commas(report.ranks), report.steps,
                             report.steps == 1 ? "" : "s")},
                {"p50", Table::Align::kRight},
                {"p90", Table::Align::kRight},
                {"p99", Table::Align::kRight},
                {"max", Table::Align::kRight}});
  const auto add = [&](const char* name, const Spread& of) {
    spread.add_row(
        {name, format_duration(of.p50), format_duration(of.p90), format_duration(of.p99), format_duration(of.max)});
  };
  add("step", report.step);
  add("a rank computes", report.busy);
  add("a rank waits for others", report.waiting);
  Table slowest({{"slowest rank", Table::Align::kRight},
                 {"stage", Table::Align::kRight},
                 {"computes", Table::Align::kRight},
                 {"transfers", Table::Align::kRight},
                 {"waits most for"}});
  for (const RankLine& line : report.slowest) {
    const RankWait wait = line.longest_wait();
    slowest.add_row(
        {reports::with_commas(line.rank), fmt::format("{}", line.stage), format_duration(line.busy),
         format_duration(line.wires),
         fmt::format("{}: {}", rank_wait_name(wait), format_duration(line.waits[static_cast<std::size_t>(wait)]))});
  }
  return spread.to_text() + "\n" + slowest.to_text();
}

}  // namespace msmoe::simulator
