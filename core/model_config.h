// ModelConfig: a config.json as its model_type means it. Hugging Face files may leave out whatever equals the default
// of their configuration class, so a value comes from the file, else from the table of the family, else it is an
// error. What came from the table is noted, so that no default stays unseen.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <variant>
#include <vector>

#include "core/json_reader.h"
#include "core/model.h"

namespace msmoe {

// Sizes are bounded so that a product of three of them, and a sum over layers, stays within 64 bits.
inline constexpr IntegerRange kSize{1, std::int64_t{1} << 18};
inline constexpr IntegerRange kCount{0, std::int64_t{1} << 18};  // zero means none
inline constexpr IntegerRange kVocab{1, std::int64_t{1} << 24};
inline constexpr IntegerRange kTokens{1, std::int64_t{1} << 40};
inline constexpr IntegerRange kLayers{1, 10'000};

struct Default {
  const char* key;
  std::variant<std::int64_t, bool> value;
};

// Names under which one value goes; the first that the file has is taken.
using Names = std::initializer_list<const char*>;

class ModelConfig {
 public:
  // The tables and the model must outlive this. Notes go to model.defaulted.
  ModelConfig(JsonObject object, std::string family, const std::vector<Default>& defaults, Model& model);

  bool has(const std::string& key) const { return object_.has(key); }
  // The name of `names` that the file uses; else the one the family has a default for; else the first. A UserError
  // where the file has two of them with different values.
  std::string name_of(Names names);

  // From the file, else the default, else a UserError.
  std::int64_t integer(const std::string& key, IntegerRange range = kSize);
  bool boolean(const std::string& key);
  // 0 where the file says null, or where neither file nor family has a value.
  std::int64_t optional_integer(const std::string& key, IntegerRange range = kCount);
  bool is_text(const std::string& key, const std::string& word);
  // The fallback is the family's; not noted, for it is no number.
  std::string text_or(const std::string& key, const std::string& fallback) { return object_.text_or(key, fallback); }

  // One value a layer: a list of that many, or one number for all.
  std::vector<std::int64_t> per_layer(const std::string& key, std::int64_t num_layers, IntegerRange range = kSize);
  // A list of indices below `limit`; empty where missing or null.
  std::vector<std::int64_t> indices(const std::string& key, std::int64_t limit);
  // One word a layer out of `allowed`; empty where missing or null.
  std::vector<std::string> layer_words(const std::string& key, std::int64_t num_layers, Names allowed);

  // An object within this one, with the same defaults.
  ModelConfig nested(const std::string& key);

  // Says that `what` was assumed.
  void note_default(const std::string& key, const std::string& what);
  [[noreturn]] void fail(const std::string& key, const std::string& message, const std::string& hint = {}) const {
    object_.fail(key, message, hint);
  }
  // Paths of the keys that nothing asked for, those of nested objects after those of this one.
  std::vector<std::string> unread_keys() const;

 private:
  const std::variant<std::int64_t, bool>* find_default(const std::string& key) const;

  JsonObject object_;
  std::string family_;
  const std::vector<Default>* defaults_;
  Model* model_;
  std::vector<JsonObject> nested_;
};

}  // namespace msmoe
