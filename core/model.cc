#include "core/model.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/data_files.h"
#include "core/error.h"
#include "core/json_reader.h"
#include "core/model_families.h"

namespace msmoe {
namespace {

const Family* find_family(const std::string& model_type) {
  const auto& families = model_families();
  const auto found = std::find_if(families.begin(), families.end(),
                                  [&](const Family& family) { return family.model_type == model_type; });
  return found == families.end() ? nullptr : &*found;
}

[[noreturn]] void refuse_family(const JsonObject& object, const std::string& model_type) {
  std::vector<std::string> known;
  for (const Family& family : model_families()) known.emplace_back(family.model_type);
  const std::string found = model_type.empty() ? "missing" : fmt::format("\"{}\" is not known", model_type);
  const std::string nearest = nearest_word(model_type.substr(0, 64), known);
  object.fail("model_type", fmt::format("{}; the keys found are {}", found, join(object.unread_keys())),
              (nearest.empty() ? "" : fmt::format("is \"{}\" meant? ", nearest)) + "known: " + join(known));
}

// The object that describes the language model: the file's own, or the text_config of a multi-modal wrapper.
struct Description {
  JsonObject object;
  const Family* family;
  bool wrapped;
};
Description find_description(JsonObject& root) {
  const std::string model_type = root.text_or("model_type", "");
  if (const Family* family = find_family(model_type)) return {root, family, false};
  if (!root.has("text_config")) refuse_family(root, model_type);
  JsonObject text = root.object("text_config");
  // The inner model_type may be left out where the wrapper implies it.
  const std::string inner_type = text.text_or("model_type", model_type == "llama4" ? "llama4_text" : "");
  const Family* family = find_family(inner_type);
  if (family == nullptr) refuse_family(text, inner_type);
  return {text, family, true};
}

// Where each layer kind stands, each distinct one once.
void set_layers(Model& model, const std::vector<LayerKind>& layers) {
  for (const LayerKind& layer : layers) {
    const auto found = std::find(model.kinds.begin(), model.kinds.end(), layer);
    model.layers.push_back(static_cast<int>(found - model.kinds.begin()));
    if (found == model.kinds.end()) model.kinds.push_back(layer);
  }
  if (model.predict_layers > 0) model.predict_kind = model.layers.back();
}

// Everything downstream counts in 64 bits, FLOPs in doubles that are exact below 2^53.
void refuse_giants(const Model& model, const JsonObject& object) {
  constexpr double kMostParameters = 1e15;
  double total = 0;
  for (const int kind : model.layers)
    total += static_cast<double>(count_layer(model, model.kinds[static_cast<std::size_t>(kind)]).total());
  if (total > kMostParameters)
    object.fail("hidden_size", fmt::format("the layers have {:.3g} parameters together", total),
                fmt::format("at most {:.0g} can be counted", kMostParameters));
}

}  // namespace

bool Model::can_be_planned() const {
  return std::all_of(kinds.begin(), kinds.end(), [](const LayerKind& kind) {
    return kind.attention.kind == AttentionKind::kGrouped || kind.attention.kind == AttentionKind::kLatent;
  });
}

Model parse_model(const std::string& name, std::string_view json_text) {
  const JsonDocument document(name, json_text);
  JsonObject root = document.root();
  for (const char* key : {"_source", "architectures"}) root.mark_read(key);
  const auto [object, family, wrapped] = find_description(root);

  Model model;
  model.name = name;
  model.family = family->model_type;
  ModelConfig config(object, model.family, family->defaults, model);
  model.hidden = config.integer(config.name_of({"hidden_size", "d_model"}));
  model.vocab = config.integer("vocab_size", kVocab);
  model.max_seq_len = config.optional_integer(config.name_of({"max_position_embeddings", "max_seq_len"}), kTokens);
  const bool tied_outside = wrapped && !object.has("tie_word_embeddings") && root.has("tie_word_embeddings");
  model.tied_embeddings = tied_outside ? root.boolean("tie_word_embeddings") : config.boolean("tie_word_embeddings");
  model.final_norm_parameters = model.hidden;
  const std::int64_t num_layers = config.integer(config.name_of({"num_hidden_layers", "n_layers"}), kLayers);
  set_layers(model, family->read_layers(config, model, num_layers));
  refuse_giants(model, object);

  model.ignored = config.unread_keys();
  if (wrapped)
    for (const std::string& key : root.unread_keys()) model.ignored.push_back(key);
  return model;
}

Model read_model(const std::string& path) { return parse_model(path, read_text_file(path)); }

Model find_model(const std::string& name_or_path) {
  Model model = read_model(find_data_file("models", name_or_path));
  model.name = name_or_path;
  return model;
}

}  // namespace msmoe
