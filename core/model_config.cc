#include "core/model_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace msmoe {

ModelConfig::ModelConfig(JsonObject object, std::string family, const std::vector<Default>& defaults, Model& model)
    : object_(std::move(object)), family_(std::move(family)), defaults_(&defaults), model_(&model) {}

const std::variant<std::int64_t, bool>* ModelConfig::find_default(const std::string& key) const {
  const auto found =
      std::find_if(defaults_->begin(), defaults_->end(), [&](const Default& entry) { return key == entry.key; });
  return found == defaults_->end() ? nullptr : &found->value;
}

void ModelConfig::note_default(const std::string& key, const std::string& what) {
  std::string note = fmt::format("{} = {}", object_.path(key), what);
  // A key that several parts of a family look at is noted once.
  if (std::find(model_->defaulted.begin(), model_->defaulted.end(), note) == model_->defaulted.end())
    model_->defaulted.push_back(std::move(note));
}

std::string ModelConfig::name_of(Names names) {
  std::string chosen;
  for (const char* name : names) {
    if (!has(name)) continue;
    if (chosen.empty())
      chosen = name;
    else if (*object_.find(name) != *object_.find(chosen))
      fail(name, fmt::format("differs from \"{}\", which means the same", chosen), "leave one of them out");
  }
  if (!chosen.empty()) return chosen;
  for (const char* name : names)
    if (find_default(name) != nullptr) return name;
  return *names.begin();
}

std::int64_t ModelConfig::integer(const std::string& key, IntegerRange range) {
  const auto* fallback = find_default(key);
  if (has(key) || fallback == nullptr) return object_.integer(key, range);
  const std::int64_t value = std::get<std::int64_t>(*fallback);
  note_default(key, fmt::format("{} (class default of {})", value, family_));
  return value;
}

bool ModelConfig::boolean(const std::string& key) {
  const auto* fallback = find_default(key);
  if (has(key) || fallback == nullptr) return object_.boolean(key);
  const bool value = std::get<bool>(*fallback);
  note_default(key, fmt::format("{} (class default of {})", value, family_));
  return value;
}

std::int64_t ModelConfig::optional_integer(const std::string& key, IntegerRange range) {
  if (has(key)) return object_.integer(key, range);
  if (object_.find(key) != nullptr || find_default(key) == nullptr) return 0;  // null is the file's own word for none
  return integer(key, range);
}

bool ModelConfig::is_text(const std::string& key, const std::string& word) {
  return has(key) && *object_.find(key) == word;
}

std::vector<std::int64_t> ModelConfig::per_layer(const std::string& key, std::int64_t num_layers, IntegerRange range) {
  if (!has(key) || !object_.find(key)->is_array())
    return std::vector<std::int64_t>(static_cast<std::size_t>(num_layers), integer(key, range));
  std::vector<std::int64_t> values = object_.integers(key, range);
  if (static_cast<std::int64_t>(values.size()) != num_layers)
    fail(key, fmt::format("lists {} layers, but the model has {}", values.size(), num_layers));
  return values;
}

std::vector<std::int64_t> ModelConfig::indices(const std::string& key, std::int64_t limit) {
  object_.mark_read(key);
  if (!has(key)) return {};
  return object_.integers(key, {0, limit - 1});
}

std::vector<std::string> ModelConfig::layer_words(const std::string& key, std::int64_t num_layers, Names allowed) {
  object_.mark_read(key);
  if (!has(key)) return {};
  std::vector<std::string> words = object_.texts(key);
  if (static_cast<std::int64_t>(words.size()) != num_layers)
    fail(key, fmt::format("lists {} layers, but the model has {}", words.size(), num_layers));
  for (const std::string& word : words)
    if (std::find(allowed.begin(), allowed.end(), word) == allowed.end())
      fail(key, fmt::format("found \"{}\"", word),
           join({allowed.begin(), allowed.end()}) + (allowed.size() > 1 ? " are allowed" : " is allowed"));
  return words;
}

ModelConfig ModelConfig::nested(const std::string& key) {
  nested_.push_back(object_.object(key));
  return ModelConfig(nested_.back(), family_, *defaults_, *model_);
}

std::vector<std::string> ModelConfig::unread_keys() const {
  std::vector<std::string> paths;
  for (const std::string& key : object_.unread_keys()) paths.push_back(object_.path(key));
  for (const JsonObject& object : nested_)
    for (const std::string& key : object.unread_keys()) paths.push_back(object.path(key));
  return paths;
}

}  // namespace msmoe
