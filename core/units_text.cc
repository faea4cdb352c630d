#include "core/units_text.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <span>

#include "core/error.h"

namespace msmoe {
namespace {

struct Unit {
  std::string_view text;
  double factor;
};

constexpr double kKilo = 1e3, kMega = 1e6, kGiga = 1e9, kTera = 1e12, kPeta = 1e15;
constexpr double kBit = 0.125;
constexpr double kLargestExactInteger = 9007199254740992.0;  // 2^53

constexpr Unit kNoPrefix[] = {{"", 1}};
constexpr Unit kPrefixes[] = {{"", 1},      {"k", kKilo}, {"K", kKilo},         {"M", kMega},
                              {"G", kGiga}, {"T", kTera}, {"P", kPeta},         {"Ki", kKiB},
                              {"Mi", kMiB}, {"Gi", kGiB}, {"Ti", 1024.0 * kGiB}};
constexpr Unit kSizes[] = {{"B", 1}};
constexpr Unit kBandwidths[] = {{"B/s", 1}, {"Bps", 1}, {"b/s", kBit}, {"bps", kBit}, {"bit/s", kBit}, {"", kBit}};
constexpr Unit kFlopRates[] = {{"FLOPS", 1}, {"FLOP/s", 1}};
constexpr Unit kDurations[] = {{"ps", 1e-12}, {"ns", 1e-9}, {"us", 1e-6}, {"ms", 1e-3},   {"s", 1},
                               {"min", 60},   {"h", 3600},  {"d", 86400}, {"day", 86400}, {"days", 86400}};
constexpr Unit kCounts[] = {{"", 1}, {"k", 1024}, {"K", 1024}, {"M", kMega}, {"B", kGiga}, {"T", kTera}};

// One kind of quantity: how it may be written (a prefix, then a unit) and how large it may be.
struct Kind {
  std::string_view what;
  std::string_view usual;    // the unit to suggest where there is none; empty: none is needed
  std::string_view allowed;  // units, for people
  double min;
  double max;
  std::string_view range;  // for people
  std::span<const Unit> prefixes;
  std::span<const Unit> units;
};

constexpr Kind kSize{"a size",  "GiB", "B, kB, MB, GB, TB, PB, KiB, MiB, GiB, TiB", 0, 1e18, "0 B to 1000 PB",
                     kPrefixes, kSizes};
// A network is at least 1 MB/s, so that no transfer takes longer than a Duration can say.
constexpr Kind kBandwidth{
    "a bandwidth", "GB/s",     "MB/s, GB/s, TB/s, GiB/s (bytes), Mb/s, Gb/s, Tb/s, or G alone for Gb/s (bits)",
    1e6,           1e18,       "1 MB/s to 10^9 GB/s",
    kPrefixes,     kBandwidths};
constexpr Kind kFlopRate{"a rate of operations",
                         "TFLOPS",
                         "GFLOPS, TFLOPS, PFLOPS",
                         1e9,
                         1e18,
                         "1 GFLOPS to 1000 PFLOPS",
                         kPrefixes,
                         kFlopRates};
constexpr Kind kTime{"a duration", "us",      "ps, ns, us, ms, s, min, h, days", 0, 9e6, "0 s to 104 days",
                     kNoPrefix,    kDurations};
constexpr Kind kCount{"a count", "",     "k (1024), M, B, T (decimal)", 0, kLargestExactInteger, "0 to 2^53",
                      kNoPrefix, kCounts};

std::optional<double> factor_of(const Kind& kind, std::string_view text) {
  for (const Unit& unit : kind.units)
    if (text.ends_with(unit.text))
      for (const Unit& prefix : kind.prefixes)
        if (text.substr(0, text.size() - unit.text.size()) == prefix.text) return prefix.factor * unit.factor;
  return std::nullopt;
}

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

[[noreturn]] void refuse(const Place& place, std::string_view text, const std::string& why, const std::string& hint) {
  throw UserError(place.file, place.key, fmt::format("\"{}\" {}", excerpt(text), why), hint);
}

// The number that text begins with; `rest` becomes what follows it.
double leading_number(std::string_view text, std::string_view& rest, const Place& place, std::string_view what) {
  const std::string_view body = trimmed(text);
  double value = 0;
  const auto [end, error] = std::from_chars(body.data(), body.data() + body.size(), value);
  if (error == std::errc::invalid_argument) refuse(place, text, fmt::format("is not {}", what), "begin with a number");
  if (error != std::errc{} || !std::isfinite(value)) refuse(place, text, "is not finite", "");
  rest = trimmed(body.substr(static_cast<std::size_t>(end - body.data())));
  return value;
}

double parse(const Kind& kind, std::string_view text, const Place& place) {
  std::string_view unit;
  const double number = leading_number(text, unit, place, kind.what);
  if (unit.empty() && !kind.usual.empty())
    refuse(place, text, "has no unit", fmt::format("append one, as in \"{} {}\"", excerpt(trimmed(text)), kind.usual));
  const std::optional<double> factor = factor_of(kind, unit);
  if (!factor)
    refuse(place, text, fmt::format("is not {}: unknown unit \"{}\"", kind.what, excerpt(unit, 20)),
           fmt::format("allowed are {}", kind.allowed));
  const double value = number * *factor;
  if (!(value >= kind.min && value <= kind.max))
    refuse(place, text, "is out of range", fmt::format("{} is allowed", kind.range));
  return value;
}

// Three significant digits: "4.19", "61.6", "318". REQUIRES 0 <= value < 999.5 for three.
std::string three_digits(double value) {
  if (value < 9.995) return fmt::format("{:.2f}", value);
  if (value < 99.95) return fmt::format("{:.1f}", value);
  return fmt::format("{:.0f}", value);
}

std::string without_trailing_zeros(std::string number) {
  if (number.find('.') == std::string::npos) return number;
  number.erase(number.find_last_not_of('0') + 1);
  if (number.back() == '.') number.pop_back();
  return number;
}

// The largest unit that leaves at least 1, where `units` ascend; the last takes whatever is larger.
template <class Units>
const Unit& readable_unit(double value, const Units& units) {
  const Unit* chosen = &*std::begin(units);
  for (const Unit& unit : units)
    if (value >= unit.factor * 0.9995) chosen = &unit;
  return *chosen;
}

std::string sign(double value) { return value < 0 ? "-" : ""; }

}  // namespace

Bytes parse_bytes(std::string_view text, const Place& place) { return {parse(kSize, text, place)}; }

BytesPerSecond parse_bandwidth(std::string_view text, const Place& place) { return {parse(kBandwidth, text, place)}; }

FlopsPerSecond parse_flop_rate(std::string_view text, const Place& place) { return {parse(kFlopRate, text, place)}; }

Duration parse_duration(std::string_view text, const Place& place) {
  // To the nearest tick: 3 us is 3,000,000 of them, though 3e-6 has no exact double.
  return Duration{std::llround(parse(kTime, text, place) * 1e12)};
}

std::int64_t parse_count(std::string_view text, const Place& place) {
  const double value = parse(kCount, text, place);
  const double whole = std::round(value);
  // "14.8T" is whole although 14.8 has no exact double.
  if (std::abs(value - whole) > 4 * std::numeric_limits<double>::epsilon() * value)
    refuse(place, text, fmt::format("is {}, not a whole number", value), "");
  return static_cast<std::int64_t>(whole);
}

double parse_number(std::string_view text, const Place& place) {
  std::string_view rest;
  const double value = leading_number(text, rest, place, "a number");
  if (!rest.empty()) refuse(place, text, "is not a number", "a number without a unit is expected");
  return value;
}

std::string format_bytes(Bytes bytes) {
  static constexpr Unit kUnits[] = {{"B", 1}, {"KiB", kKiB}, {"MiB", kMiB}, {"GiB", kGiB}, {"TiB", 1024.0 * kGiB}};
  const double size = std::abs(bytes.count);
  const Unit& unit = readable_unit(size, kUnits);
  return fmt::format("{}{:.{}f} {}", sign(bytes.count), size / unit.factor, unit.factor == 1 ? 0 : 1, unit.text);
}

std::string format_duration(Duration duration) {
  // Minutes, hours and days begin where the smaller unit stops being handy.
  static constexpr Unit kUnits[] = {{"ns", 1e-9}, {"us", 1e-6}, {"ms", 1e-3}, {"s", 1}};
  static constexpr Unit kLongUnits[] = {{"min", 60}, {"h", 3600}, {"days", 86400}};
  const double time = std::abs(to_seconds(duration));
  if (time == 0) return "0 s";
  const Unit* unit = &readable_unit(time, kUnits);
  for (const Unit& longer : kLongUnits)
    if (time >= 5 * longer.factor) unit = &longer;
  return fmt::format("{}{} {}", sign(to_seconds(duration)), three_digits(time / unit->factor), unit->text);
}

std::string format_count(double count) {
  static constexpr Unit kUnits[] = {{"M", kMega}, {"B", kGiga}, {"T", kTera}};
  const double size = std::abs(count);
  if (size < 999.5) return sign(count) + without_trailing_zeros(three_digits(size));
  if (size < 999'999.5) {
    std::string digits = fmt::format("{:.0f}", size);
    return sign(count) + digits.insert(digits.size() - 3, ",");
  }
  const Unit& unit = readable_unit(size, kUnits);
  return fmt::format("{}{}{}", sign(count), without_trailing_zeros(three_digits(size / unit.factor)), unit.text);
}

std::string format_bandwidth(BytesPerSecond rate) {
  static constexpr Unit kUnits[] = {{"B/s", 1}, {"kB/s", kKilo}, {"MB/s", kMega}, {"GB/s", kGiga}, {"TB/s", kTera}};
  const Unit& unit = readable_unit(rate.count, kUnits);
  return fmt::format("{} {}", without_trailing_zeros(three_digits(rate.count / unit.factor)), unit.text);
}

}  // namespace msmoe
