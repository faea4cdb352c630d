#include "simulator/what_if.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "simulator/cost_model.h"
#include "simulator/grading.h"
#include "simulator/rank_simulation.h"
#include "simulator/what_if_fields.h"

namespace msmoe::simulator {
namespace {

const ScenarioField* find_field(const std::string& key) {
  for (const ScenarioField& field : scenario_fields())
    if (field.name == key) return &field;
  return nullptr;
}

void apply(Scenario& scenario, const Change& change) {
  require_known_field(change.key);
  if (const ScenarioField* field = find_field(change.key)) {
    field->set(scenario, change.value);
  } else {
    set_plan_field(scenario.plan, change.key, change.value);
  }
}

// Durations hold 106 days of picoseconds. Wild numbers in a plan would exceed them, so the times of all operators of
// all stages are added up beforehand, without overlap and without a limit.
constexpr double kLongestStep = 1e6;  // seconds

double seconds_of(const std::vector<Operator>& operators, const CostModel& costs) {
  double sum = 0;
  for (const Operator& op : operators) {
    const double alone = to_seconds(costs.cost(op).alone);
    sum += alone < 0 ? kLongestStep : alone;  // beyond a Duration already
  }
  return sum;
}

void require_representable(const Scenario& scenario, double imbalance) {
  const Plan& plan = scenario.plan;
  const Model& model = scenario.model;
  const CostModel costs(scenario.cluster, plan);
  const LoweringOptions options{.imbalance = imbalance, .gpus_per_node = scenario.cluster.gpus_per_node};
  ModuleParameters parameters;
  double micro_batch =
      seconds_of({lower_pipeline_send(model, plan)}, costs) * static_cast<double>(plan.virtual_stages());
  const auto add = [&](const Module& module, std::int64_t count) {
    micro_batch +=
        static_cast<double>(count) * (seconds_of(module.forward, costs) + seconds_of(module.backward, costs));
    parameters += static_cast<double>(count) * module.parameters;
  };
  add(lower_embedding(model, plan, options), 1);
  add(lower_head(model, plan, options), 1);
  for (int kind = 0; kind < static_cast<int>(model.kinds.size()); ++kind)
    add(lower_layer(model, plan, kind, options), std::count(model.layers.begin(), model.layers.end(), kind));
  if (model.predict_layers > 0) add(lower_predict_layer(model, plan, options), model.predict_layers);
  const ChunkSync sync = lower_sync(plan, parameters);
  const double step = micro_batch * static_cast<double>(plan.micro_batches()) + seconds_of(sync.gather, costs) +
                      seconds_of(sync.reduce, costs) + seconds_of(lower_optimizer(plan, parameters), costs);
  if (!(step < kLongestStep))
    throw UserError(
        scenario.file, "",
        fmt::format("a step of {} sequences of {} tokens on {} GPUs has more than {:.0f} days of work a GPU",
                    plan.global_batch, plan.seq_len, plan.gpus, kLongestStep / 86400),
        "such a step is not simulated");
}

}  // namespace

Scenario load_scenario(const std::string& plan) {
  Scenario scenario;
  scenario.file = plan;
  scenario.plan = find_plan(plan);
  scenario.model = find_model(scenario.plan.model);
  scenario.cluster = find_cluster(scenario.plan.cluster);
  return scenario;
}

std::vector<Change> parse_changes(std::string_view text, const char* flag) {
  std::vector<Change> changes;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string_view part = text.substr(begin, end - begin);
    const std::size_t equals = part.find('=');
    if (equals == part.npos || equals == 0 || equals + 1 == part.size())
      throw UserError("", flag, fmt::format("'{}' is not key=value", excerpt(part)), "for example ep=8,pp=15");
    changes.push_back({std::string(part.substr(0, equals)), std::string(part.substr(equals + 1))});
    begin = end + 1;
  }
  return changes;
}

void apply_changes(Scenario& scenario, std::vector<Change> changes) {
  const auto turn = [](const Change& change) {
    if (change.key == "model" || change.key == "cluster") return 0;
    return change.key == "dp" || change.key == "nodes" ? 2 : 1;
  };
  std::stable_sort(changes.begin(), changes.end(), [&](const Change& a, const Change& b) { return turn(a) < turn(b); });
  for (const Change& change : changes) apply(scenario, change);
}

void require_known_field(const std::string& key) {
  const std::vector<std::string> names = change_names();
  if (std::find(names.begin(), names.end(), key) != names.end()) return;
  const std::string nearest = nearest_word(key, names);
  throw UserError("", excerpt(key), "is no field of a plan, a model or a cluster",
                  nearest.empty() ? "msmoe-sim --help lists them" : "did you mean '" + nearest + "'?");
}

std::vector<std::string> change_names() {
  std::vector<std::string> names = plan_field_names();
  for (const ScenarioField& field : scenario_fields()) names.push_back(field.name);
  return names;
}

std::string changes_help() {
  std::string text = plan_fields_help();
  for (const ScenarioField& field : scenario_fields()) text += fmt::format("  {:<21} {}\n", field.name, field.help);
  return text;
}

double imbalance_of(const Scenario& scenario, std::uint64_t seed) {
  return imbalance_factor(scenario.imbalance, scenario.model, scenario.plan, seed);
}

Prediction simulate(const Scenario& scenario, PredictionOptions options) {
  require_valid(scenario.model, scenario.cluster, scenario.plan, scenario.file);
  const bool every_rank = options.every_rank || !scenario.stragglers.empty() || scenario.jitter > 0;
  if (every_rank && (options.exact || !options.trace.empty()))
    throw UserError("", options.exact ? "--exact" : "--trace", "shows one rank of each stage",
                    "leave out --every-rank, stragglers and jitter");
  options.imbalance = imbalance_of(scenario, options.seed);
  require_representable(scenario, options.imbalance);
  Prediction prediction = predict(scenario.model, scenario.cluster, scenario.plan, options);
  if (every_rank) {
    simulate_every_rank(prediction, scenario.model, scenario.cluster,
                        {.routing = scenario.imbalance,
                         .stragglers = scenario.stragglers,
                         .jitter = scenario.jitter,
                         .seed = options.seed,
                         .steps = options.steps,
                         .threads = options.threads});
    set_interval(prediction);
  }
  return prediction;
}

}  // namespace msmoe::simulator
