#include "simulator/validation/conditions.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/error.h"

namespace msmoe::simulator::validation {
namespace {

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

template <class Item, class Name>
void put(std::vector<Item>& items, const Item& item, Name Item::*name) {
  std::erase_if(items, [&](const Item& other) { return other.*name == item.*name; });
  items.push_back(item);
}

}  // namespace

void read_conditions(JsonObject& object, Conditions& conditions) {
  if (object.has("software")) conditions.software = find_software(object.text("software")).name;
  conditions.model = object.text_or("model", conditions.model);
  conditions.cluster = object.text_or("cluster", conditions.cluster);
  for (const char* key : {"model_changes", "cluster_changes", "plan"})
    for (const Change& change : read_changes(object, key)) {
      std::erase_if(conditions.assumed, [&](const Assumption& other) { return other.key == change.key; });
      put(conditions.stated, change, &Change::key);
    }
  for (const Assumption& assumption : read_assumptions(object)) {
    if (std::any_of(conditions.stated.begin(), conditions.stated.end(),
                    [&](const Change& c) { return c.key == assumption.key; }))
      object.fail("assumed", fmt::format("'{}' is stated already", excerpt(assumption.key)),
                  "a condition is either stated or assumed");
    put(conditions.assumed, assumption, &Assumption::key);
  }
}

void require_complete(const JsonObject& object, const Conditions& conditions) {
  for (const auto& [key, value] :
       {std::pair{"software", &conditions.software}, {"model", &conditions.model}, {"cluster", &conditions.cluster}})
    if (value->empty()) object.fail(key, "is missing", "here or in an object around this one");
}

Scenario scenario_of(const Conditions& conditions, const std::string& name, const Change* alternative) {
  try {
    Scenario scenario;
    scenario.file = name;
    scenario.plan.model = conditions.model;
    scenario.plan.cluster = conditions.cluster;
    scenario.model = find_model(conditions.model);
    scenario.cluster = find_cluster(conditions.cluster);
    std::vector<Change> changes = conditions.stated;
    for (const Assumption& assumption : conditions.assumed) changes.push_back({assumption.key, assumption.value});
    if (alternative != nullptr) put(changes, *alternative, &Change::key);
    changes.push_back({"software", conditions.software});
    apply_changes(scenario, changes);
    if (std::none_of(changes.begin(), changes.end(), [](const Change& change) { return change.key == "schedule"; }))
      scenario.plan.schedule = scenario.plan.vpp > 1 ? PipelineSchedule::kInterleaved : PipelineSchedule::k1F1B;
    require_valid(scenario.model, scenario.cluster, scenario.plan, name);
    return scenario;
  } catch (const UserError& error) {
    throw UserError(name, error.place(), error.message(), error.hint());
  }
}

}  // namespace msmoe::simulator::validation
