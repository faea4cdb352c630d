#include "profiler/command.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <map>
#include <optional>

#include "core/cluster.h"
#include "core/error.h"
#include "core/text_file.h"
#include "profiler/grids.h"
#include "profiler/profile_file.h"
#include "reports/progress.h"

namespace msmoe::profiler {
namespace {

void check_kinds(const std::vector<std::string>& kinds) {
  for (const std::string& kind : kinds) {
    if (std::find(case_kinds().begin(), case_kinds().end(), kind) != case_kinds().end()) continue;
    throw UserError("", "--only", "there is nothing called '" + excerpt(kind) + "' to measure",
                    "choose from " + join(case_kinds()));
  }
}

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  return fmt::format("{:04}-{:02}-{:02}", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday);
}

std::string points_path(const std::string& output) { return output + ".points"; }

void measure_all(Machine& machine, const std::vector<Case>& cases, PointFile& points) {
  reports::Progress progress(static_cast<std::int64_t>(cases.size()));
  for (const Case& of : cases) {
    progress.set_note(of.key());
    if (points.find(of) == nullptr)
      for (const Point& point : machine.measure(of)) points.add(point);
    progress.advance();
  }
}

// Terms are of the peaks that the description states: it has to be of this GPU.
void check_description(const Cluster& cluster, const std::map<std::string, std::string>& conditions) {
  const auto sms = conditions.find("sms");
  if (sms == conditions.end() || sms->second == fmt::format("{}", cluster.gpu.sms)) return;
  throw UserError(
      cluster.name, "gpu.sms",
      fmt::format("{} are stated, and the GPU that was measured has {}", cluster.gpu.sms, excerpt(sms->second)),
      "name the description of that GPU with --cluster");
}

Measurement measure(const Command& command, const Cluster& cluster, const std::string& output,
                    const std::function<std::unique_ptr<Machine>()>& open) {
  const auto machine = open();
  std::vector<Case> cases;
  for (const std::string& kind : command.only.empty() ? case_kinds() : command.only)
    for (Case& of : cases_of_kind(kind, machine->num_gpus(), command.quick)) cases.push_back(std::move(of));

  Measurement measurement{.name = cluster.name, .date = today(), .conditions = machine->conditions()};
  check_description(cluster, measurement.conditions);
  measurement.before = machine->health();
  PointFile points(points_path(output), measurement.conditions);
  measure_all(*machine, cases, points);
  measurement.after = machine->health();
  measurement.points = points.points();
  return measurement;
}

Measurement joined(const std::vector<std::string>& paths, const Cluster& cluster) {
  std::optional<Measurement> all;
  std::map<std::string, Point> points;
  for (const std::string& path : paths) {
    const Measurement one = read_measurement(path);
    for (const Point& point : one.points) points[point.of.key()] = point;
    if (!all) all = one;
    if (one.conditions.at("gpu") != all->conditions.at("gpu"))
      throw UserError(path, "conditions.gpu",
                      fmt::format("{} was measured here, and {} in {}", excerpt(one.conditions.at("gpu")),
                                  excerpt(all->conditions.at("gpu")), paths.front()),
                      "join profiles of one kind of GPU");
  }
  check_description(cluster, all->conditions);
  all->points.clear();
  for (const auto& [key, point] : points) all->points.push_back(point);
  return *all;
}

void print_errors(const std::map<std::string, FitErrors>& errors) {
  for (const auto& [kind, of] : errors)
    fmt::print("{:>14}: {:4} points held out, error {:4.1f} % in the median, {:4.1f} % at most for 95 of 100\n", kind,
               of.points, 100 * of.median, 100 * of.p95);
}

}  // namespace

int run(const Command& command, const std::function<std::unique_ptr<Machine>()>& open) {
  check_kinds(command.only);
  const Cluster cluster = find_cluster(command.cluster);
  const std::string output = command.output.empty() ? cluster.name + ".profile.json" : command.output;
  const bool measures = command.refit.empty();
  const Measurement measurement = measures ? measure(command, cluster, output, open) : joined(command.refit, cluster);
  const ProfileFits fits = fit_profile(measurement.points, cluster.gpu, measurement.conditions.at("gpu"));
  write_text_file(output, profile_text(measurement, fits));
  if (measures) std::filesystem::remove(points_path(output));
  print_errors(fits.errors);
  fmt::print("{}: {} points, {} fits\n", output, measurement.points.size(), fits.fits.size());
  return kExitDone;
}

}  // namespace msmoe::profiler
