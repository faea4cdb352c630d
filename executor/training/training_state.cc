#include "executor/training/training_state.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json_reader.h"

namespace msmoe::executor {
namespace {

constexpr const char* kFormat = "msmoe training";
constexpr std::int64_t kVersion = 1;

template <class T>
struct Field {
  const char* name;
  T HyperParameters::*value;
};
constexpr std::array kNumbers = {Field<double>{"rate", &HyperParameters::rate},
                                 Field<double>{"min_rate", &HyperParameters::min_rate},
                                 Field<double>{"beta1", &HyperParameters::beta1},
                                 Field<double>{"beta2", &HyperParameters::beta2},
                                 Field<double>{"epsilon", &HyperParameters::epsilon},
                                 Field<double>{"decay", &HyperParameters::decay},
                                 Field<double>{"clip", &HyperParameters::clip},
                                 Field<double>{"auxiliary", &HyperParameters::auxiliary},
                                 Field<double>{"z", &HyperParameters::z},
                                 Field<double>{"bias_rate", &HyperParameters::bias_rate}};
constexpr std::array kCounts = {Field<std::int64_t>{"warmup", &HyperParameters::warmup},
                                Field<std::int64_t>{"steps", &HyperParameters::steps}};

std::uint64_t read_seed(JsonObject& root) {
  const std::string text = root.text("seed");
  std::uint64_t seed = 0;
  std::from_chars(text.data(), text.data() + text.size(), seed);
  if (std::to_string(seed) != text)
    root.fail("seed", "found \"" + excerpt(text) + "\"", "the digits of a number below 2^64 are allowed");
  return seed;
}

}  // namespace

std::string to_json(const TrainingState& state) {
  Json json = {{"format", kFormat},
               {"version", kVersion},
               {"step", state.step},
               {"position", state.position},
               {"seed", std::to_string(state.seed)}};
  json["data"] = {{"paths", state.data}, {"num_tokens", state.num_tokens}, {"seq_len", state.seq_len}};
  Json& hyper_parameters = json["hyper_parameters"];
  for (const auto& [name, value] : kNumbers) hyper_parameters[name] = state.hyper_parameters.*value;
  for (const auto& [name, value] : kCounts) hyper_parameters[name] = state.hyper_parameters.*value;
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

TrainingState read_training_state(const std::string& folder) {
  const JsonDocument document = read_json_file(std::filesystem::path(folder) / kTrainingFile);
  JsonObject root = document.root();
  if (const std::string format = root.text("format"); format != kFormat)
    root.fail("format", "found \"" + excerpt(format) + "\"", fmt::format("\"{}\" is read", kFormat));
  if (const std::int64_t version = root.integer("version"); version != kVersion)
    root.fail("version", fmt::format("found {}", version), fmt::format("version {} is read", kVersion));
  TrainingState state{.step = root.integer("step", {.min = 0}), .position = root.integer("position", {.min = 0})};
  state.seed = read_seed(root);
  JsonObject data = root.object("data");
  state.data = data.texts("paths");
  state.num_tokens = data.integer("num_tokens", {.min = 0});
  state.seq_len = data.integer("seq_len", {.min = 1});
  data.refuse_unknown_keys();
  JsonObject hyper_parameters = root.object("hyper_parameters");
  for (const auto& [name, value] : kNumbers) state.hyper_parameters.*value = hyper_parameters.number(name);
  for (const auto& [name, value] : kCounts) state.hyper_parameters.*value = hyper_parameters.integer(name);
  hyper_parameters.refuse_unknown_keys();
  root.refuse_unknown_keys();
  return state;
}

std::vector<std::string> changes(const TrainingState& saved, const TrainingState& now) {
  std::vector<std::string> lines;
  const auto compare = [&](const char* name, const auto& before, const auto& after) {
    if (before != after) lines.push_back(fmt::format("{} is {}, and was {}", name, after, before));
  };
  compare("seed", saved.seed, now.seed);
  compare("data", fmt::format("{}", fmt::join(saved.data, ", ")), fmt::format("{}", fmt::join(now.data, ", ")));
  compare("num_tokens", saved.num_tokens, now.num_tokens);
  compare("seq_len", saved.seq_len, now.seq_len);
  for (const auto& [name, value] : kNumbers) compare(name, saved.hyper_parameters.*value, now.hyper_parameters.*value);
  for (const auto& [name, value] : kCounts) compare(name, saved.hyper_parameters.*value, now.hyper_parameters.*value);
  return lines;
}

}  // namespace msmoe::executor
