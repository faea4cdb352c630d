#include "simulator/validation/runs.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "core/error.h"
#include "core/json_reader.h"

namespace msmoe::simulator::validation {
namespace {

constexpr std::array<std::pair<const char*, Quantity>, 4> kQuantities = {{
    {"step_seconds", Quantity::kStepSeconds},
    {"tokens_per_second_per_gpu", Quantity::kTokensPerSecondPerGpu},
    {"tflops_per_gpu", Quantity::kTflopsPerGpu},
    {"mfu", Quantity::kMfu},
}};

constexpr std::array<std::pair<const char*, AttentionFlops>, 2> kAttentionFlops = {{
    {"causal", AttentionFlops::kCausal},
    {"full", AttentionFlops::kFull},
}};

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

// Every key of an object with its value as text.
std::vector<Change> read_changes(JsonObject& parent, const char* key) {
  std::vector<Change> changes;
  if (auto object = parent.optional_object(key))
    for (const std::string& name : object->unread_keys()) changes.push_back({name, object->text_with_unit(name)});
  return changes;
}

// [2, "none"] as texts: a plan's fields are set by text.
std::vector<std::string> alternatives(JsonObject& object) {
  std::vector<std::string> values;
  const Json* list = object.find("alternatives");
  if (list == nullptr || !list->is_array()) object.fail("alternatives", "is not a list", "[] where there is none");
  for (const Json& value : *list) {
    if (!value.is_string() && !value.is_number_integer())
      object.fail("alternatives", "has a value that is neither text nor a whole number");
    values.push_back(value.is_string() ? value.get<std::string>() : value.dump());
  }
  return values;
}

std::vector<Assumption> read_assumptions(JsonObject& parent) {
  std::vector<Assumption> assumed;
  if (!parent.has("assumed")) return assumed;
  for (JsonObject& object : parent.objects("assumed")) {
    assumed.push_back(
        {object.text("key"), object.text_with_unit("value"), alternatives(object), object.text_or("why", "")});
    object.refuse_unknown_keys();
  }
  return assumed;
}

Published read_published(JsonObject object) {
  Published published;
  published.quantity = choice(object, "quantity", kQuantities);
  published.value = object.number("value", {.min = std::numeric_limits<double>::min(), .max = 1e9});
  // A time or a rate of tokens has no convention.
  const bool counts_flops = published.quantity == Quantity::kTflopsPerGpu || published.quantity == Quantity::kMfu;
  if (counts_flops) published.attention = choice(object, "attention_flops", kAttentionFlops);
  object.refuse_unknown_keys();
  return published;
}

template <class Item, class Name>
void put(std::vector<Item>& items, const Item& item, Name Item::*name) {
  std::erase_if(items, [&](const Item& other) { return other.*name == item.*name; });
  items.push_back(item);
}

// What a group or a run states and assumes; a later statement of a key takes the place of an earlier one.
void read_conditions(JsonObject& object, PublishedRun& run) {
  for (const char* key : {"model_changes", "cluster_changes", "plan"})
    for (const Change& change : read_changes(object, key)) {
      std::erase_if(run.assumed, [&](const Assumption& other) { return other.key == change.key; });
      put(run.stated, change, &Change::key);
    }
  for (const Assumption& assumption : read_assumptions(object)) {
    if (std::any_of(run.stated.begin(), run.stated.end(), [&](const Change& c) { return c.key == assumption.key; }))
      object.fail("assumed", fmt::format("'{}' is stated already", excerpt(assumption.key)),
                  "a condition is either stated or assumed");
    put(run.assumed, assumption, &Assumption::key);
  }
}

PublishedRun read_run(JsonObject& object, PublishedRun run) {
  run.id = object.text("id");
  run.model = object.text("model");
  read_conditions(object, run);
  run.published = read_published(object.object("published"));
  run.calibrates = object.boolean_or("calibrates", true);
  run.set_aside = object.text_or("set_aside", "");
  run.note = object.text_or("note", "");
  run.explanation = object.text_or("explanation", "");
  object.refuse_unknown_keys();
  return run;
}

Scenario make_scenario(const PublishedRun& run, const Change* alternative) {
  try {
    Scenario scenario;
    scenario.file = run.id;
    scenario.plan.model = run.model;
    scenario.plan.cluster = run.cluster;
    scenario.model = find_model(run.model);
    scenario.cluster = find_cluster(run.cluster);
    std::vector<Change> changes = run.stated;
    for (const Assumption& assumption : run.assumed) changes.push_back({assumption.key, assumption.value});
    if (alternative != nullptr) put(changes, *alternative, &Change::key);
    changes.push_back({"software", run.software});
    apply_changes(scenario, changes);
    if (std::none_of(changes.begin(), changes.end(), [](const Change& change) { return change.key == "schedule"; }))
      scenario.plan.schedule = scenario.plan.vpp > 1 ? PipelineSchedule::kInterleaved : PipelineSchedule::k1F1B;
    require_valid(scenario.model, scenario.cluster, scenario.plan, run.id);
    return scenario;
  } catch (const UserError& error) {
    throw UserError(run.id, error.place(), error.message(), error.hint());
  }
}

}  // namespace

const char* quantity_name(Quantity quantity) { return kQuantities[static_cast<std::size_t>(quantity)].first; }

std::vector<PublishedRun> parse_runs(const std::string& name, std::string_view json_text) {
  const JsonDocument document(name, json_text);
  JsonObject root = document.root();
  root.integer("schema_version", {.min = 1, .max = 1});
  std::vector<PublishedRun> runs;
  std::set<std::string> ids;
  for (JsonObject& group : root.objects("groups")) {
    PublishedRun common;
    common.source = group.text("source");
    common.software = find_software(group.text("software")).name;
    common.cluster = group.text("cluster");
    read_conditions(group, common);
    for (JsonObject& object : group.objects("runs")) {
      runs.push_back(read_run(object, common));
      if (!ids.insert(runs.back().id).second)
        object.fail("id", fmt::format("'{}' is another run's already", excerpt(runs.back().id)));
    }
    group.refuse_unknown_keys();
  }
  root.refuse_unknown_keys();
  return runs;
}

std::vector<PublishedRun> read_runs(const std::string& path) {
  const std::string text = read_text_file(path);
  return parse_runs(path, text);
}

Scenario scenario_of(const PublishedRun& run) { return make_scenario(run, nullptr); }
Scenario scenario_of(const PublishedRun& run, const Change& alternative) { return make_scenario(run, &alternative); }

}  // namespace msmoe::simulator::validation
