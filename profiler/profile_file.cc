#include "profiler/profile_file.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/json_reader.h"
#include "core/version.h"

namespace msmoe::profiler {
namespace {

// Four digits are more than a fit means.
double rounded(double value) { return std::stod(fmt::format("{:.4g}", value)); }

Json to_json(const FitErrors& errors) {
  return {{"points", errors.points}, {"median", rounded(errors.median)}, {"p95", rounded(errors.p95)}};
}

Json to_json(const Fit& fit) {
  Json terms = Json::object();
  const auto names = term_names(fit.form);
  for (std::size_t i = 0; i < names.size(); ++i) terms[names[i]] = rounded(fit.coefficients[i]);
  return {{"of", fit.of},
          {"form", cost_form_name(fit.form)},
          {"terms", terms},
          {"points", fit.points},
          {"held_out", to_json(fit.held_out)}};
}

Json to_json(const CollectiveTable& table) {
  Json points = Json::array();
  for (const CollectivePoint& point : table.points)
    points.push_back({static_cast<std::int64_t>(point.size.count), to_seconds(point.time)});
  return {{"collective", table.collective}, {"ranks", table.ranks}, {"points", points}};
}

Json to_json(const Contention& contention) {
  Json json;
  for (std::size_t kind = 0; kind < kNumCrowdKinds; ++kind) {
    const char* name = crowd_kind_name(static_cast<CrowdKind>(kind));
    json["crowds"][name] = rounded(contention.crowds[kind]);
    json["yields"][name] = rounded(contention.yields[kind]);
  }
  for (std::size_t kind = 0; kind < kNumWaitKinds; ++kind)
    json["waits"][kWaitKindNames[kind]] = rounded(contention.waits[kind]);
  return json;
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

// Every item of the list on a line of its own.
template <class Items>
void append_list(std::string& text, const char* name, const Items& items) {
  text += std::string(",\n \"") + name + "\": [";
  const char* separator = "\n  ";
  for (const auto& item : items) {
    text += separator + to_json(item).dump();
    separator = ",\n  ";
  }
  text += "\n ]";
}

Duration duration_of(JsonObject& object, const std::string& key, double least) {
  constexpr double kMost = 1e6;
  return Duration{std::llround(object.number(key, {.min = least, .max = kMost}) * 1e12)};
}

Point read_point(JsonObject object) {
  constexpr double kTick = 1e-12;
  Point point;
  point.of.what = object.text("case");
  JsonObject shape = object.object("shape");
  for (const std::string& name : shape.unread_keys()) point.of.shape[name] = shape.integer(name, {.min = 0});
  point.time = duration_of(object, "seconds", kTick);
  point.spread = duration_of(object, "spread_seconds", 0);
  point.repeats = static_cast<int>(object.integer("repeats", {.min = 1, .max = 1'000'000'000}));
  if (object.has("alone_seconds")) point.alone = duration_of(object, "alone_seconds", kTick);
  point.kernel = object.text_or("kernel", "");
  return point;
}

}  // namespace

std::string profile_text(const Measurement& measurement, const ProfileFits& fits) {
  Json head = {{"version", 1}, {"msmoe", kVersion}, {"name", measurement.name}, {"date", measurement.date}};
  for (const auto& [what, value] : measurement.conditions) head["conditions"][what] = value;
  for (const auto& [what, value] : measurement.before) head["health_before"][what] = value;
  for (const auto& [what, value] : measurement.after) head["health_after"][what] = value;
  for (const auto& [kind, errors] : fits.errors) head["errors"][kind] = to_json(errors);
  if (fits.contention) head["contention"] = to_json(*fits.contention);
  std::string text = head.dump(1);
  text.resize(text.size() - 2);  // the newline and the brace
  append_list(text, "fits", fits.fits);
  append_list(text, "collectives", fits.collectives);
  append_list(text, "points", measurement.points);
  return text + "\n}\n";
}

Measurement read_measurement(const std::string& path) {
  const JsonDocument document = read_json_file(path);
  JsonObject root = document.root();
  Measurement measurement;
  measurement.name = root.text("name");
  measurement.date = root.text("date");
  JsonObject conditions = root.object("conditions");
  measurement.conditions["gpu"] = conditions.text("gpu");
  for (const std::string& what : conditions.unread_keys()) measurement.conditions[what] = conditions.text(what);
  const auto read_health = [&](const char* key) {
    std::map<std::string, std::int64_t> health;
    if (auto object = root.optional_object(key))
      for (const std::string& what : object->unread_keys()) health[what] = object->integer(what);
    return health;
  };
  measurement.before = read_health("health_before");
  measurement.after = read_health("health_after");
  for (JsonObject& point : root.objects("points")) measurement.points.push_back(read_point(std::move(point)));
  return measurement;
}

}  // namespace msmoe::profiler
