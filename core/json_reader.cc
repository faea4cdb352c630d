#include "core/json_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <unordered_set>
#include <utility>

#include "core/error.h"

namespace msmoe {
namespace {

constexpr std::size_t kDeepestNesting = 64;
constexpr double kLargestExactInteger = 9007199254740992.0;  // 2^53

std::string child_path(const std::string& parent, std::string_view key) {
  return parent.empty() ? std::string(key) : fmt::format("{}.{}", parent, key);
}

std::string line_and_column(std::string_view text, std::size_t offset) {
  const std::string_view before = text.substr(0, std::min(offset, text.size()));
  const auto lines = std::count(before.begin(), before.end(), '\n');
  const std::size_t line_start = before.rfind('\n') + 1;  // npos + 1 == 0 on the first line
  return fmt::format("line {}, column {}", lines + 1, before.size() - line_start + 1);
}

// The parser's own words, without its prefix: "[json.exception.parse_error.101] parse error at line 1, column 2: ".
std::string parser_message(std::string_view what) {
  const std::size_t tag = what.find("] ");
  if (tag != what.npos) what.remove_prefix(tag + 2);
  constexpr std::string_view kPosition = "parse error at ";
  if (what.substr(0, kPosition.size()) == kPosition) {
    const std::size_t colon = what.find(": ");
    if (colon != what.npos) what.remove_prefix(colon + 2);
  }
  return "not JSON: " + excerpt(what, 200);
}

// Builds the document event by event, so that duplicate keys and deep nesting are seen while their place is known.
class Builder : public nlohmann::json_sax<Json> {
 public:
  Builder(const std::string& file, std::string_view text) : file_(file), text_(text) {}

  Json take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return false; }  // never in text

  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    if (!open_.back().keys.insert(name).second) throw UserError(file_, place_of(name), "the key appears twice");
    open_.back().key = std::move(name);
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    // position counts the bytes read, the offending one included.
    const std::size_t offset = position == 0 ? 0 : position - 1;
    const std::string_view rest = text_.substr(std::min(offset, text_.size()));
    const bool not_a_number = !rest.empty() && (rest[0] == 'N' || rest[0] == 'I' || rest[0] == 'n' || rest[0] == 'i');
    throw UserError(file_, line_and_column(text_, offset), parser_message(error.what()),
                    not_a_number ? "JSON has no NaN and no Infinity" : "");
  }

 private:
  struct Container {
    Json* value;
    std::string key;  // of the member being read
    std::unordered_set<std::string> keys;
  };

  // The dotted path of a member of the innermost object; elements of arrays are numbered.
  std::string place_of(const std::string& name) const {
    std::string path;
    for (std::size_t depth = 0; depth + 1 < open_.size(); ++depth)
      path = open_[depth].value->is_array() ? fmt::format("{}[{}]", path, open_[depth].value->size() - 1)
                                            : child_path(path, open_[depth].key);
    return child_path(path, name);
  }

  // Containers are complete before their parent grows again, so the addresses in open_ stay good.
  template <class Value>
  Json* place(Value&& value) {
    if (open_.empty()) {
      root_ = std::forward<Value>(value);
      return &root_;
    }
    Container& parent = open_.back();
    if (parent.value->is_array()) {
      auto& elements = parent.value->get_ref<Json::array_t&>();
      elements.emplace_back(std::forward<Value>(value));
      return &elements.back();
    }
    // Not operator[], which searches all members: `keys` has already shown that this one is new.
    auto& members = parent.value->get_ref<Json::object_t&>();
    members.emplace_back(std::move(parent.key), std::forward<Value>(value));
    parent.key = members.back().first;
    return &members.back().second;
  }

  template <class Value>
  bool add(Value&& value) {
    place(std::forward<Value>(value));
    return true;
  }

  bool open(Json container) {
    if (open_.size() == kDeepestNesting)
      throw UserError(file_, "", fmt::format("nested deeper than {} levels", kDeepestNesting));
    Json* const value = place(std::move(container));
    open_.push_back({value, {}, {}});
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  const std::string& file_;
  std::string_view text_;
  Json root_;
  std::vector<Container> open_;
};

std::string describe(const Json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "an array";
  return excerpt(value.dump(-1, ' ', true, Json::error_handler_t::replace));
}

const Json* member(const Json& object, const std::string& key) {
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

std::optional<std::int64_t> as_integer(const Json& value) {
  if (!value.is_number()) return std::nullopt;
  const double number = value.get<double>();
  if (number != std::floor(number) || std::abs(number) > kLargestExactInteger) return std::nullopt;
  return value.is_number_float() ? static_cast<std::int64_t>(number) : value.get<std::int64_t>();
}

// Words longer than any real key are not worth the comparison.
std::string nearest_key(const std::string& key, std::vector<std::string> candidates) {
  constexpr std::size_t kLongestKey = 64;
  if (key.size() > kLongestKey) return "";
  std::erase_if(candidates, [](const std::string& candidate) { return candidate.size() > kLongestKey; });
  return nearest_word(key, candidates);
}

template <class Number, class Range>
std::string allowed(Range range) {
  const Range everything;
  if (range.min == everything.min) return fmt::format("at most {} is allowed", range.max);
  if (range.max == everything.max) return fmt::format("at least {} is allowed", range.min);
  return fmt::format("{} to {} is allowed", range.min, range.max);
}

}  // namespace

struct JsonObject::State {
  std::shared_ptr<const std::string> file;
  std::string path;  // of the object itself; empty at the top
  const Json* value;
  std::set<std::string> asked;  // keys that were asked for, there or not

  [[noreturn]] void fail(const std::string& place, const std::string& message, const std::string& hint = {}) const {
    throw UserError(*file, place, message, hint);
  }
  std::string element(const std::string& key, std::size_t element_idx) const {
    return fmt::format("{}[{}]", child_path(path, key), element_idx);
  }

  std::int64_t integer(const std::string& place, const Json& found, IntegerRange range) const {
    const std::optional<std::int64_t> number = as_integer(found);
    if (!number) fail(place, "found " + describe(found), "an integer of at most 2^53 is expected");
    if (*number < range.min || *number > range.max)
      fail(place, fmt::format("{} is out of range", *number), allowed<std::int64_t>(range));
    return *number;
  }
  double number(const std::string& place, const Json& found, NumberRange range) const {
    if (!found.is_number()) fail(place, "found " + describe(found), "a number is expected");
    const double number = found.get<double>();
    if (number < range.min || number > range.max)
      fail(place, fmt::format("{} is out of range", number), allowed<double>(range));
    return number;
  }
  std::string text(const std::string& place, const Json& found) const {
    if (!found.is_string()) fail(place, "found " + describe(found), "a text in quotes is expected");
    return found.get<std::string>();
  }
  void expect_array(const std::string& place, const Json& found, const std::string& of_what) const {
    if (!found.is_array()) fail(place, "found " + describe(found), "an array of " + of_what + " is expected");
  }
  void expect_object(const std::string& place, const Json& found) const {
    if (!found.is_object()) fail(place, "found " + describe(found), "an object is expected");
  }
};

bool JsonObject::has(const std::string& key) const {
  const Json* found = member(*state_->value, key);
  return found != nullptr && !found->is_null();
}

const Json& JsonObject::require(const std::string& key) {
  if (!has(key)) {
    const std::string nearest = nearest_key(key, unread_keys());
    const bool is_null = member(*state_->value, key) != nullptr;
    fail(key, is_null ? "null, but required" : "missing, but required",
         is_null || nearest.empty() ? "" : fmt::format("\"{}\" is there: is it meant?", nearest));
  }
  return *find(key);
}

JsonObject JsonObject::child(const std::string& path, const Json& value) const {
  state_->expect_object(path, value);
  return JsonObject(std::make_shared<State>(State{state_->file, path, &value, {}}));
}

std::int64_t JsonObject::integer(const std::string& key, IntegerRange range) {
  return state_->integer(path(key), require(key), range);
}

double JsonObject::number(const std::string& key, NumberRange range) {
  return state_->number(path(key), require(key), range);
}

bool JsonObject::boolean(const std::string& key) {
  const Json& found = require(key);
  if (!found.is_boolean()) fail(key, "found " + describe(found), "true or false is expected");
  return found.get<bool>();
}

std::string JsonObject::text(const std::string& key) { return state_->text(path(key), require(key)); }

std::string JsonObject::text_with_unit(const std::string& key) {
  const Json& found = require(key);
  return found.is_number() ? found.dump() : state_->text(path(key), found);
}

JsonObject JsonObject::object(const std::string& key) { return child(path(key), require(key)); }

std::vector<std::int64_t> JsonObject::integers(const std::string& key, IntegerRange range) {
  const Json& found = require(key);
  state_->expect_array(path(key), found, "integers");
  std::vector<std::int64_t> values;
  for (const Json& element : found)
    values.push_back(state_->integer(state_->element(key, values.size()), element, range));
  return values;
}

std::vector<std::string> JsonObject::texts(const std::string& key) {
  const Json& found = require(key);
  state_->expect_array(path(key), found, "texts");
  std::vector<std::string> values;
  for (const Json& element : found) values.push_back(state_->text(state_->element(key, values.size()), element));
  return values;
}

std::vector<JsonObject> JsonObject::objects(const std::string& key) {
  const Json& found = require(key);
  state_->expect_array(path(key), found, "objects");
  std::vector<JsonObject> values;
  for (const Json& element : found) values.push_back(child(state_->element(key, values.size()), element));
  return values;
}

std::vector<std::vector<double>> JsonObject::rows_of_numbers(const std::string& key) {
  const Json& found = require(key);
  state_->expect_array(path(key), found, "rows of numbers");
  std::vector<std::vector<double>> rows;
  for (const Json& row : found) {
    const std::string place = state_->element(key, rows.size());
    state_->expect_array(place, row, "numbers");
    std::vector<double>& values = rows.emplace_back();
    for (const Json& element : row) values.push_back(state_->number(place, element, {}));
  }
  return rows;
}

std::int64_t JsonObject::integer_or(const std::string& key, std::int64_t fallback, IntegerRange range) {
  mark_read(key);
  return has(key) ? integer(key, range) : fallback;
}

double JsonObject::number_or(const std::string& key, double fallback, NumberRange range) {
  mark_read(key);
  return has(key) ? number(key, range) : fallback;
}

bool JsonObject::boolean_or(const std::string& key, bool fallback) {
  mark_read(key);
  return has(key) ? boolean(key) : fallback;
}

std::string JsonObject::text_or(const std::string& key, const std::string& fallback) {
  mark_read(key);
  return has(key) ? text(key) : fallback;
}

std::optional<JsonObject> JsonObject::optional_object(const std::string& key) {
  mark_read(key);
  if (!has(key)) return std::nullopt;
  return object(key);
}

const Json* JsonObject::find(const std::string& key) {
  mark_read(key);
  return member(*state_->value, key);
}

std::vector<std::string> JsonObject::unread_keys() const {
  std::vector<std::string> unread;
  for (const auto& [key, value] : state_->value->items())
    if (!state_->asked.contains(key)) unread.push_back(key);
  return unread;
}

void JsonObject::refuse_unknown_keys() const {
  const std::vector<std::string> unread = unread_keys();
  if (unread.empty()) return;
  const std::vector<std::string> known(state_->asked.begin(), state_->asked.end());
  const std::string nearest = nearest_key(unread.front(), known);
  fail(unread.front(), "unknown key",
       nearest.empty() ? "known are " + join(known) : fmt::format("did you mean \"{}\"?", nearest));
}

void JsonObject::mark_read(const std::string& key) { state_->asked.insert(key); }

const std::string& JsonObject::file() const { return *state_->file; }

std::string JsonObject::path(const std::string& key) const { return child_path(state_->path, key); }

void JsonObject::fail(const std::string& key, const std::string& message, const std::string& hint) const {
  state_->fail(path(key), message, hint);
}

JsonDocument::JsonDocument(std::string name, std::string_view text)
    : name_(std::make_shared<const std::string>(std::move(name))) {
  if (text.find_first_not_of(" \t\r\n") == text.npos) throw UserError(*name_, "", "the file is empty");
  if (text.substr(0, 3) == "\xef\xbb\xbf")
    throw UserError(*name_, "line 1, column 1", "begins with a byte order mark", "save it as UTF-8 without one");
  if (const std::size_t nul = text.find('\0'); nul != text.npos)  // the parser would take it for the end
    throw UserError(*name_, line_and_column(text, nul), "not JSON: a zero byte");
  Builder builder(*name_, text);
  const bool complete = Json::sax_parse(text.begin(), text.end(), &builder);
  assert(complete);  // every refusal throws
  static_cast<void>(complete);
  value_ = std::make_shared<const Json>(builder.take());
}

JsonObject JsonDocument::root() const {
  if (!value_->is_object()) throw UserError(*name_, "", "found " + describe(*value_), "an object is expected");
  return JsonObject(std::make_shared<JsonObject::State>(JsonObject::State{name_, "", value_.get(), {}}));
}

JsonDocument read_json_file(const std::string& path) { return JsonDocument(path, read_text_file(path)); }

}  // namespace msmoe
