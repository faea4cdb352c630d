// The one way this project reads JSON: values are fetched by key, and every complaint names file, key path and
// value. A reader remembers which keys were asked for, so that what is left can be refused or listed.
//
//   const JsonDocument document = read_json_file("clusters/h100.json");
//   JsonObject gpu = document.root().object("gpu");
//   const std::int64_t sms = gpu.integer("sms", {.min = 1});
//   gpu.refuse_unknown_keys();
//
// Refused with one line (UserError): text that is not JSON (with line and column), duplicate keys, nesting deeper
// than 64, numbers that are not finite, files over 64 MiB. Whole numbers may be written as 4096.0 or 1e4.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/text_file.h"

namespace msmoe {

using Json = nlohmann::ordered_json;  // objects keep the order of the file

struct IntegerRange {
  std::int64_t min = -(std::int64_t{1} << 53);  // beyond 2^53 JSON numbers are not exact
  std::int64_t max = std::int64_t{1} << 53;
};
struct NumberRange {
  double min = -std::numeric_limits<double>::max();
  double max = std::numeric_limits<double>::max();
};

// A view of one JSON object inside a JsonDocument, which must outlive it.
class JsonObject {
 public:
  bool has(const std::string& key) const;  // present and not null; does not count as read

  // Required: a missing, null or ill-typed value is a UserError.
  std::int64_t integer(const std::string& key, IntegerRange range = {});
  double number(const std::string& key, NumberRange range = {});
  bool boolean(const std::string& key);
  std::string text(const std::string& key);
  // A text, or a bare number as text: for core/units_text.h, which says what to append to the latter.
  std::string text_with_unit(const std::string& key);
  JsonObject object(const std::string& key);
  std::vector<std::int64_t> integers(const std::string& key, IntegerRange range = {});
  std::vector<std::string> texts(const std::string& key);
  std::vector<JsonObject> objects(const std::string& key);
  // Pairs such as [[bytes, seconds], ...]
  std::vector<std::vector<double>> rows_of_numbers(const std::string& key);

  // Optional: the fallback where the key is missing or null.
  std::int64_t integer_or(const std::string& key, std::int64_t fallback, IntegerRange range = {});
  double number_or(const std::string& key, double fallback, NumberRange range = {});
  bool boolean_or(const std::string& key, bool fallback);
  std::string text_or(const std::string& key, const std::string& fallback);
  std::optional<JsonObject> optional_object(const std::string& key);

  // The value as it stands, or nullptr; counts as read. For values of several legal types.
  const Json* find(const std::string& key);

  // Keys that nothing above asked for, in the order of the file.
  std::vector<std::string> unread_keys() const;
  // Throws for the first of them, naming the nearest key that was asked for.
  void refuse_unknown_keys() const;
  void mark_read(const std::string& key);

  const std::string& file() const;
  std::string path(const std::string& key) const;  // "gpu.sms"
  // Throws UserError at this key.
  [[noreturn]] void fail(const std::string& key, const std::string& message, const std::string& hint = {}) const;

 private:
  friend class JsonDocument;
  struct State;
  explicit JsonObject(std::shared_ptr<State> state) : state_(std::move(state)) {}
  const Json& require(const std::string& key);
  JsonObject child(const std::string& path, const Json& value) const;
  std::shared_ptr<State> state_;
};

class JsonDocument {
 public:
  // name: how errors call it.
  JsonDocument(std::string name, std::string_view text);
  JsonObject root() const;  // a UserError where the document is not an object
  const Json& value() const { return *value_; }
  const std::string& name() const { return *name_; }

 private:
  std::shared_ptr<const std::string> name_;
  std::shared_ptr<const Json> value_;
};

JsonDocument read_json_file(const std::string& path);

}  // namespace msmoe
