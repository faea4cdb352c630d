#include "executor/model_numerics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/data_files.h"
#include "core/error.h"
#include "core/json_reader.h"
#include "core/text_file.h"
#include "executor/checkpoint/model_parameters.h"

namespace msmoe::executor {
namespace {

// Who says whether gates are normalized.
enum class Gates : std::uint8_t { kFile, kAlways, kNever };

// Defaults are those of the Hugging Face configuration classes (transformers models/TYPE/configuration_TYPE.py, and
// the hub's own code for deepseek and kimi_k2). Without a row: qwen2, whose projections always have biases.
struct FamilyRow {
  std::string_view name;
  double norm_epsilon = 1e-6, rope_base = 10000;
  bool rope_interleaved = false;
  double partial_rotary = 1;
  Gates gates = Gates::kFile;
  bool normalize_gates = false;           // where the file does not say
  std::optional<double> gate_scale = {};  // where the file does not say; none: the key means nothing to the family
  RouterKind router = RouterKind::kSoftmax;
};

constexpr FamilyRow kDeepseekV3 = {
    .rope_interleaved = true, .normalize_gates = true, .gate_scale = 2.5, .router = RouterKind::kSigmoid};

FamilyRow named(FamilyRow row, std::string_view name) {
  row.name = name;
  return row;
}

const std::vector<FamilyRow>& families() {
  static const std::vector<FamilyRow> rows = {
      {.name = "llama"},
      {.name = "mistral"},
      {.name = "qwen3"},
      {.name = "mixtral", .norm_epsilon = 1e-5, .rope_base = 1e6, .gates = Gates::kAlways},
      {.name = "qwen2_moe"},
      {.name = "qwen3_moe"},
      {.name = "olmoe", .norm_epsilon = 1e-5},
      {.name = "deepseek"},
      {.name = "deepseek_v2", .rope_interleaved = true, .gates = Gates::kNever, .gate_scale = 1},
      named(kDeepseekV3, "deepseek_v3"),
      named(kDeepseekV3, "kimi_k2"),
      {.name = "glm4_moe",
       .norm_epsilon = 1e-5,
       .partial_rotary = 0.5,
       .normalize_gates = true,
       .gate_scale = 1,
       .router = RouterKind::kSigmoid},
      {.name = "megascale_moe", .normalize_gates = true},
  };
  return rows;
}

// The key of a file that asks for a part which no operator computes; empty where there is an operator.
std::string key_of_refused(Part part, const Model& model) {
  switch (part) {
    case Part::kQueryBias:
    case Part::kKeyBias:
    case Part::kValueBias:
    case Part::kAttentionOutputBias:
    case Part::kQueryDownBias:
    case Part::kKvDownBias: return model.family == "qwen2_moe" ? "qkv_bias" : "attention_bias";
    case Part::kGateBias:
    case Part::kUpBias:
    case Part::kDownBias: return "mlp_bias";
    case Part::kSharedScale: return "shared_expert_intermediate_size";
    default: return "";
  }
}

class Reader {
 public:
  Reader(const Model& model, JsonObject config) : model_(model), config_(std::move(config)), family_(find_family()) {}

  ModelNumerics read() {
    refuse_parts();
    refuse_keys();
    check_routing();
    read_rope();
    read_gates();
    const Attention& attention = model_.kinds.front().attention;
    numerics_.attention_scale = 1 / std::sqrt(static_cast<double>(attention.head_dim));
    numerics_.norm_epsilon = number("rms_norm_eps", family_.norm_epsilon, {0, 1});
    numerics_.initializer_range = number("initializer_range", 0.02, {0, 1e3});
    for (const char* key : {"router_aux_loss_coef", "aux_loss_alpha"})
      if (config_.has(key)) numerics_.aux_loss = config_.number(key, {0, 1e3});
    return std::move(numerics_);
  }

 private:
  const FamilyRow& find_family() const {
    // Inside a wrapper of several modalities the weights have other names, and other parts come before the layers.
    if (config_.has("text_config"))
      config_.fail("text_config", "a model of several modalities", "only text is trained");
    const auto row = std::find_if(families().begin(), families().end(),
                                  [&](const FamilyRow& family) { return family.name == model_.family; });
    if (row != families().end()) return *row;
    std::vector<std::string> known;
    for (const FamilyRow& family : families()) known.emplace_back(family.name);
    config_.fail("model_type", fmt::format("\"{}\" cannot be trained", model_.family),
                 fmt::format("{} are allowed", join(known)));
  }

  void note_default(const std::string& key, const std::string& value) {
    numerics_.defaulted.push_back(fmt::format("{} = {} (class default of {})", key, value, model_.family));
  }
  double number(const std::string& key, double fallback, NumberRange range) {
    if (config_.has(key)) return config_.number(key, range);
    note_default(key, fmt::format("{}", fallback));
    return fallback;
  }

  void refuse_parts() const {
    if (model_.predict_layers > 0)
      config_.fail(config_.has("num_mtp_layers") ? "num_mtp_layers" : "num_nextn_predict_layers",
                   fmt::format("found {}; prediction layers are not trained", model_.predict_layers), "0 is allowed");
    for (const Parameter& parameter : list_parameters(model_)) {
      const std::string key = key_of_refused(parameter.part, model_);
      if (key.empty()) continue;
      if (parameter.part == Part::kSharedScale)
        config_.fail(key, "a shared expert has a gate of its own in this family, which is not trained",
                     "0, no shared expert, is allowed");
      config_.fail(key, "biases of projections are not trained", "false is allowed");
    }
  }

  void refuse_keys() {
    if (const std::string activation = config_.text_or("hidden_act", "silu"); activation != "silu")
      config_.fail("hidden_act", fmt::format("found \"{}\"", excerpt(activation)), "silu is allowed");
    for (const char* key : {"attention_dropout", "router_jitter_noise"})
      if (const double found = config_.number_or(key, 0); found != 0)
        config_.fail(key, fmt::format("found {}; a step draws no random numbers", found), "0 is allowed");
    for (const char* key : {"clip_qkv", "attn_logit_softcapping", "final_logit_softcapping"})
      if (config_.has(key))
        config_.fail(key, fmt::format("found {}; nothing is clipped or capped here", config_.number(key)),
                     "null is allowed");
    // Elsewhere the Model tells of these biases.
    if (model_.family == "deepseek_v2" && config_.boolean_or("mlp_bias", false))
      config_.fail("mlp_bias", "biases of projections are not trained", "false is allowed");
  }

  // `transformers` knows what a family's mixtures do and reads neither scoring_func nor moe_layer_freq nor, but for
  // DeepSeek-V2, topk_method: a file that says otherwise would be trained as one model and used as another.
  void check_routing() {
    if (const std::int64_t step = config_.integer_or("moe_layer_freq", 1); step != 1)
      config_.fail("moe_layer_freq", fmt::format("found {}", step), "1 is allowed");
    const bool is_sigmoid = family_.router == RouterKind::kSigmoid;
    const std::string method = config_.text_or("topk_method", "");
    for (const LayerKind& kind : model_.kinds) {
      const FeedForward& mixture = kind.feed_forward;
      if (!mixture.is_moe()) continue;
      const bool is_grouped = mixture.expert_groups > 1;
      if (mixture.router != family_.router)
        config_.fail("scoring_func", fmt::format("routers of {} score otherwise", model_.family),
                     fmt::format("{} is allowed", is_sigmoid ? "sigmoid" : "softmax"));
      if (is_sigmoid && !method.empty() && method != "noaux_tc") refuse_method(method, "noaux_tc is allowed");
      if (model_.family == "deepseek_v2" && method != "group_limited_greedy" && (is_grouped || !is_greedy(method)))
        refuse_method(method, "greedy, group_limited_greedy are allowed");
      if (model_.family == "deepseek" && is_grouped)
        config_.fail("n_group", fmt::format("found {}", mixture.expert_groups),
                     "1 is allowed: its routers know no groups");
    }
  }

  static bool is_greedy(const std::string& method) { return method.empty() || method == "greedy"; }
  [[noreturn]] void refuse_method(const std::string& method, const std::string& hint) const {
    config_.fail("topk_method",
                 method.empty() ? "missing, though n_group is above 1" : fmt::format("found \"{}\"", excerpt(method)),
                 hint);
  }

  void read_gates() {
    if (family_.gate_scale) numerics_.gate_scale = number("routed_scaling_factor", *family_.gate_scale, {0, 1e6});
    const bool stated = config_.has("norm_topk_prob");
    switch (family_.gates) {
      case Gates::kAlways: numerics_.normalize_gates = true; break;
      // The model's first code normalizes and then leaves the scale out, transformers does neither.
      case Gates::kNever:
        if (config_.boolean_or("norm_topk_prob", false))
          config_.fail("norm_topk_prob", "found true, of which there are two readings", "false is allowed");
        break;
      case Gates::kFile:
        numerics_.normalize_gates = stated ? config_.boolean("norm_topk_prob") : family_.normalize_gates;
        if (!stated && has_mixture()) note_default("norm_topk_prob", family_.normalize_gates ? "true" : "false");
    }
  }

  bool has_mixture() const {
    return std::any_of(model_.kinds.begin(), model_.kinds.end(),
                       [](const LayerKind& kind) { return kind.feed_forward.is_moe(); });
  }

  // rope_theta and partial_rotary_factor beside rope_scaling, or, from transformers 5 on, within rope_parameters.
  void read_rope() {
    std::vector<JsonObject> places{config_};
    for (const char* key : {"rope_parameters", "rope_scaling"}) {
      std::optional<JsonObject> scaling = config_.optional_object(key);
      if (!scaling) continue;
      const char* const type_key = scaling->has("rope_type") ? "rope_type" : "type";
      const std::string type = scaling->text_or(type_key, "default");
      if (type != "default")
        scaling->fail(type_key, fmt::format("found \"{}\"", excerpt(type)),
                      "default is allowed: positions are rotated without scaling");
      for (const char* known : {"rope_type", "type", "rope_theta", "partial_rotary_factor"}) scaling->mark_read(known);
      scaling->refuse_unknown_keys();
      places.push_back(*scaling);
    }
    const std::optional<double> base = find_in(places, "rope_theta", {1, 1e15});
    if (!base) note_default("rope_theta", fmt::format("{}", family_.rope_base));
    numerics_.rope_base = base.value_or(family_.rope_base);
    // No other class has this key.
    const bool is_switchable = model_.family == "deepseek_v3";
    numerics_.rope_interleaved = is_switchable ? config_.boolean_or("rope_interleave", true) : family_.rope_interleaved;

    const double rotated = find_in(places, "partial_rotary_factor", {0, 1}).value_or(family_.partial_rotary);
    if (rotated != 1)
      config_.fail("partial_rotary_factor", fmt::format("{} of a head's columns are rotated", rotated),
                   "1, all of them, is allowed");
  }

  static std::optional<double> find_in(std::vector<JsonObject>& places, const std::string& key, NumberRange range) {
    std::optional<double> found;
    for (JsonObject& place : places) {
      if (!place.has(key)) continue;
      const double value = place.number(key, range);
      if (found && *found != value)
        place.fail(key, fmt::format("{} here, but {} elsewhere in the file", value, *found), "leave one of them out");
      found = value;
    }
    return found;
  }

  const Model& model_;
  JsonObject config_;
  const FamilyRow& family_;
  ModelNumerics numerics_;
};

}  // namespace

ModelNumerics parse_numerics(const Model& model, const std::string& file, std::string_view json_text) {
  const JsonDocument document(file, json_text);
  return Reader(model, document.root()).read();
}

ModelNumerics read_numerics(const Model& model) {
  const std::string path = find_data_file("models", model.name);
  return parse_numerics(model, path, read_text_file(path));
}

void check_windows(const Model& model, std::int64_t seq_len) {
  for (const LayerKind& kind : model.kinds)
    if (const std::int64_t window = kind.attention.window; window > 0 && seq_len > window)
      throw UserError(model.name, "sliding_window",
                      fmt::format("{}, less than the {} tokens of a sequence", window, seq_len),
                      fmt::format("sequences of up to {} tokens are allowed", window));
}

kernels::RouterShape router_shape(const FeedForward& mixture, const ModelNumerics& numerics) {
  return {.scoring = mixture.router == RouterKind::kSigmoid ? kernels::Scoring::kSigmoid : kernels::Scoring::kSoftmax,
          .top_k = static_cast<int>(mixture.top_k),
          .groups = static_cast<int>(mixture.expert_groups),
          .top_groups = static_cast<int>(mixture.groups_per_token),
          .normalize = numerics.normalize_gates,
          .scale = numerics.gate_scale};
}

}  // namespace msmoe::executor
