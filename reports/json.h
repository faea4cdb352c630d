// JSON as the tools print it with --json: build an nlohmann::ordered_json, whose keys keep the order they were given.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace msmoe::reports {

// Two spaces a level and a newline at the end. A double is the shortest text that reads back to the same bits, with
// ".0" where it would look like an integer, so that a key never changes its type. Text that is not UTF-8 has its bad
// bytes replaced by U+FFFD. REQUIRES: every number is finite.
std::string dump_json(const nlohmann::ordered_json& value);

// {"error": {"code": 2, "message": "...", "hint": "..."}}; code is the exit code.
nlohmann::ordered_json error_json(int code, const std::string& message, const std::string& hint);

}  // namespace msmoe::reports
