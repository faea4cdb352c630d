#include "reports/json.h"

#include <fmt/format.h>

#include <cassert>
#include <cmath>

namespace msmoe::reports {
namespace {

using nlohmann::ordered_json;

constexpr int kSpacesPerLevel = 2;

// nlohmann's own dump() prints doubles by Grisu2, which misses the shortest form about once in two thousand.
std::string number_text(double value) {
  assert(std::isfinite(value));
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string scalar_text(const ordered_json& value) {
  if (value.is_number_float()) return number_text(value.get<double>());
  return value.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

void append(const ordered_json& value, int level, std::string& text) {
  if (!value.is_structured() || value.empty()) {
    text += scalar_text(value);
    return;
  }
  const auto new_line = [&text](int at_level) { text += '\n' + std::string(at_level * kSpacesPerLevel, ' '); };
  text += value.is_object() ? '{' : '[';
  bool first = true;
  for (const auto& item : value.items()) {
    if (!first) text += ',';
    first = false;
    new_line(level + 1);
    if (value.is_object()) text += scalar_text(ordered_json(item.key())) + ": ";
    append(item.value(), level + 1, text);
  }
  new_line(level);
  text += value.is_object() ? '}' : ']';
}

}  // namespace

std::string dump_json(const ordered_json& value) {
  std::string text;
  append(value, 0, text);
  return text + '\n';
}

ordered_json error_json(int code, const std::string& message, const std::string& hint) {
  // Assigned key by key: a braced list of pairs may be taken for an array.
  ordered_json error = ordered_json::object();
  error["code"] = code;
  error["message"] = message;
  error["hint"] = hint;
  ordered_json document = ordered_json::object();
  document["error"] = std::move(error);
  return document;
}

}  // namespace msmoe::reports
