#include "profiler/point.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <tuple>

#include "core/error.h"
#include "core/random_bits.h"
#include "core/text_file.h"

namespace msmoe::profiler {
namespace {

using nlohmann::json;

// Nothing where the text is not a JSON object.
std::optional<json> parse_object(std::string_view text) {
  json value = json::parse(text, nullptr, false);
  if (!value.is_object()) return std::nullopt;
  return value;
}

std::optional<std::int64_t> whole_number(const json& object, const char* key) {
  const auto at = object.find(key);
  if (at == object.end() || !at->is_number_integer()) return std::nullopt;
  return at->get<std::int64_t>();
}

}  // namespace

std::string Case::key() const {
  std::string key = what;
  for (const auto& [name, size] : shape) key += fmt::format(" {}={}", name, size);
  return key;
}

// The low bits of FNV-1a are its weakest; the division takes the high ones.
bool Case::is_held_out() const { return (hash_of(key()) >> 32) % 3 == 0; }

Point summarize(const Case& of, std::vector<std::int64_t> picoseconds) {
  assert(!picoseconds.empty());
  std::ranges::sort(picoseconds);
  const auto at = [&](std::size_t quarter) { return Duration{picoseconds[quarter * (picoseconds.size() - 1) / 4]}; };
  return {of, at(2), at(3) - at(1), static_cast<int>(picoseconds.size())};
}

std::string to_json_line(const Point& point) {
  json line = {{"case", point.of.what},
               {"shape", point.of.shape},
               {"time_ps", point.time.count()},
               {"spread_ps", point.spread.count()},
               {"repeats", point.repeats}};
  if (point.alone.count() > 0) line["alone_ps"] = point.alone.count();
  if (!point.kernel.empty()) line["kernel"] = point.kernel;
  return line.dump();
}

std::optional<Point> parse_point(std::string_view text) {
  const auto line = parse_object(text);
  if (!line) return std::nullopt;
  const auto time = whole_number(*line, "time_ps"), spread = whole_number(*line, "spread_ps"),
             repeats = whole_number(*line, "repeats");
  const auto what = line->find("case"), shape = line->find("shape");
  if (!time || !spread || !repeats || what == line->end() || !what->is_string() || shape == line->end() ||
      !shape->is_object())
    return std::nullopt;
  if (*time <= 0 || *spread < 0 || *repeats < 1 || *repeats > 1'000'000'000) return std::nullopt;
  Point point{.of = {what->get<std::string>(), {}},
              .time = Duration{*time},
              .spread = Duration{*spread},
              .repeats = static_cast<int>(*repeats)};
  if (line->contains("alone_ps")) {
    const auto alone = whole_number(*line, "alone_ps");
    if (!alone || *alone <= 0) return std::nullopt;
    point.alone = Duration{*alone};
  }
  if (line->contains("kernel")) {
    if (!line->at("kernel").is_string()) return std::nullopt;
    point.kernel = line->at("kernel").get<std::string>();
  }
  for (const auto& [name, size] : shape->items()) {
    if (!size.is_number_integer()) return std::nullopt;
    point.of.shape[name] = size.get<std::int64_t>();
  }
  return point;
}

PointFile::PointFile(std::string path, const std::map<std::string, std::string>& conditions) : path_(std::move(path)) {
  const std::string header = json{{"conditions", conditions}}.dump();
  const bool exists = ::access(path_.c_str(), F_OK) == 0;
  if (exists) read(read_text_file(path_), header);

  // What was cut off half-way goes before anything is appended behind it.
  std::string whole = header + "\n";
  for (const auto& [key, point] : points_) whole += to_json_line(point) + "\n";
  write_text_file(path_, whole);
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (descriptor_ < 0) throw std::runtime_error(fmt::format("{}: cannot be written: {}", path_, std::strerror(errno)));
}

void PointFile::read(std::string_view text, const std::string& header) {
  for (int number = 1; !text.empty(); ++number) {
    const auto end = text.find('\n');
    const bool is_cut_off = end == std::string_view::npos;
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(is_cut_off ? text.size() : end + 1);
    const std::string place = fmt::format("line {}", number);
    if (number == 1) {
      const auto start = parse_object(line);
      if (is_cut_off ? !header.starts_with(line) : !start || !start->contains("conditions"))
        throw UserError(path_, place, "is not a file of measured points: " + excerpt(line), "name another file");
      if (!is_cut_off && line != header)
        throw UserError(path_, place, "was measured under other conditions: " + excerpt(line, 400),
                        "remove the file to measure anew under " + header);
    } else if (!is_cut_off) {
      const auto point = parse_point(line);
      if (!point)
        throw UserError(path_, place, "is no measured point: " + excerpt(line), "remove the line to measure it again");
      points_[point->of.key()] = *point;
    }
  }
}

PointFile::~PointFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

const Point* PointFile::find(const Case& of) const {
  const auto at = points_.find(of.key());
  return at == points_.end() ? nullptr : &at->second;
}

void PointFile::add(const Point& point) {
  append(to_json_line(point));
  points_[point.of.key()] = point;
}

std::vector<Point> PointFile::points() const {
  std::vector<Point> points;
  for (const auto& [key, point] : points_) points.push_back(point);
  std::sort(points.begin(), points.end(), [](const Point& a, const Point& b) {
    return std::tie(a.of.what, a.of.shape) < std::tie(b.of.what, b.of.shape);
  });
  return points;
}

// One write a line: others see whole lines, unless the disk fills up half-way, which the next run mends.
void PointFile::append(const std::string& line) {
  std::string bytes = line + "\n";
  std::string_view rest = bytes;
  while (!rest.empty()) {
    const auto written = ::write(descriptor_, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw std::runtime_error(fmt::format("{}: cannot be written: {}", path_, std::strerror(errno)));
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
  if (::fsync(descriptor_) != 0 && errno != EINVAL)
    throw std::runtime_error(fmt::format("{}: cannot be written: {}", path_, std::strerror(errno)));
}

}  // namespace msmoe::profiler
