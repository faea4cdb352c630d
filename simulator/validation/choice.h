// A JSON text that is one of a table's names.
#pragma once

#include <fmt/format.h>

#include <string>
#include <vector>

#include "core/error.h"
#include "core/json_reader.h"

namespace msmoe::simulator::validation {

// choices: pairs of a name and what it means. Throws UserError naming those allowed.
template <class Choices>
auto choice(JsonObject& object, const char* key, const Choices& choices) {
  const std::string text = object.text(key);
  std::vector<std::string> names;
  for (const auto& [name, value] : choices) {
    if (text == name) return value;
    names.emplace_back(name);
  }
  object.fail(key, fmt::format("'{}' is not allowed", excerpt(text)), "allowed: " + join(names));
}

}  // namespace msmoe::simulator::validation
