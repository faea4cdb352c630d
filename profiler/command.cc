#include "profiler/command.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/text_file.h"
#include "core/version.h"
#include "profiler/grids.h"
#include "reports/progress.h"

namespace msmoe::profiler {
namespace {

using Json = nlohmann::ordered_json;

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

Json to_json(const Point& point) {
  Json shape = Json::object();
  for (const auto& [name, size] : point.of.shape) shape[name] = size;
  Json json = {{"case", point.of.what},
               {"shape", shape},
               {"seconds", to_seconds(point.time)},
               {"spread_seconds", to_seconds(point.spread)},
               {"repeats", point.repeats}};
  if (point.alone.count() > 0) json["alone_seconds"] = to_seconds(point.alone);
  if (!point.kernel.empty()) json["kernel"] = point.kernel;
  return json;
}

// A point a line: a profile has hundreds.
std::string to_text(const Json& head, const std::vector<Point>& points) {
  std::string text = head.dump(1);
  text.resize(text.size() - 2);  // the newline and the brace
  text += ",\n \"points\": [";
  const char* separator = "\n  ";
  for (const Point& point : points) {
    text += separator + to_json(point).dump();
    separator = ",\n  ";
  }
  return text + "\n ]\n}\n";
}

void measure_all(Machine& machine, const std::vector<Case>& cases, PointFile& points) {
  reports::Progress progress(static_cast<std::int64_t>(cases.size()));
  for (const Case& of : cases) {
    progress.set_note(of.key());
    if (points.find(of) == nullptr)
      for (const Point& point : machine.measure(of)) points.add(point);
    progress.advance();
  }
}

}  // namespace

int run(const Command& command, const std::function<std::unique_ptr<Machine>()>& open) {
  check_kinds(command.only);
  const std::string output = command.output.empty() ? command.name + ".profile.json" : command.output;
  const auto machine = open();

  std::vector<Case> cases;
  for (const std::string& kind : command.only.empty() ? case_kinds() : command.only)
    for (Case& of : cases_of_kind(kind, machine->num_gpus(), command.quick)) cases.push_back(std::move(of));

  const std::string gathered = output + ".points";
  const auto before = machine->health();
  PointFile points(gathered, machine->conditions());
  measure_all(*machine, cases, points);

  Json profile = {{"version", 1}, {"msmoe", kVersion}, {"name", command.name}, {"date", today()}};
  for (const auto& [what, value] : machine->conditions()) profile["conditions"][what] = value;
  for (const auto& [what, value] : before) profile["health_before"][what] = value;
  for (const auto& [what, value] : machine->health()) profile["health_after"][what] = value;
  write_text_file(output, to_text(profile, points.points()));
  std::filesystem::remove(gathered);
  fmt::print("{}: {} points\n", output, points.points().size());
  return kExitDone;
}

}  // namespace msmoe::profiler
