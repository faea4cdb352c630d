#include "simulator/study.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/units_text.h"
#include "core/version.h"
#include "reports/table.h"
#include "reports/text.h"
#include "simulator/prediction_report.h"
#include "simulator/run_cost.h"

namespace msmoe::simulator {
namespace {

using nlohmann::ordered_json;
using reports::Table;

constexpr double kTrillion = 1e12;
constexpr std::size_t kMostCombinations = 100'000;

std::string changes_text(const std::vector<Change>& changes) {
  std::string text;
  for (const Change& change : changes) text += (text.empty() ? "" : ", ") + change.key + "=" + change.value;
  return reports::printable(text);
}

ordered_json changes_json(const std::vector<Change>& changes) {
  ordered_json json = ordered_json::object();
  for (const Change& change : changes) json[change.key] = change.value;
  return json;
}

std::string interval_text(const Prediction& prediction) {
  return fmt::format("{:.3g}-{:.3g}", to_seconds(prediction.step_low), to_seconds(prediction.step_high));
}

std::optional<double> goodput_of(const RunCost& cost) {
  return cost.goodput ? std::optional<double>(cost.goodput->goodput) : std::nullopt;
}

// ---- Comparison

class Comparison {
 public:
  Comparison(const Prediction& base, const Prediction& changed)
      : base_(base),
        changed_(changed),
        table_({{""},
                {"base", Table::Align::kRight},
                {"changed", Table::Align::kRight},
                {"ratio", Table::Align::kRight}}) {}

  void add(const std::string& label, double base, double changed, const std::string& base_text,
           const std::string& changed_text) {
    table_.add_row({label, base_text, changed_text, base > 0 ? fmt::format("{:.3f}", changed / base) : ""});
  }
  template <class Value, class Format>
  void add(const std::string& label, Value value, Format format) {
    const double base = value(base_), changed = value(changed_);
    add(label, base, changed, format(base), format(changed));
  }
  void add(const std::string& label, const std::optional<double>& base, const std::optional<double>& changed,
           const std::function<std::string(double)>& format) {
    if (base && changed) add(label, *base, *changed, format(*base), format(*changed));
  }
  void add_rule() { table_.add_rule(); }

  void add_speed() {
    add(
        "step s", [](const Prediction& p) { return to_seconds(p.step); }, digits(3));
    table_.add_row({"    80 % interval", interval_text(base_), interval_text(changed_), ""});
    add(
        "tokens/s", [](const Prediction& p) { return p.tokens_per_second(); }, format_count);
    add(
        "tokens/s per GPU", [](const Prediction& p) { return p.tokens_per_second_per_gpu(); }, digits(1));
    add(
        "TFLOPS per GPU", [](const Prediction& p) { return p.model_flops_per_gpu().count / 1e12; }, digits(1));
    add(
        "% of peak", [](const Prediction& p) { return 100 * p.mfu(); }, digits(1));
  }
  void add_training(const RunCost& base, const RunCost& changed, double tokens) {
    add("days for " + format_count(tokens) + " tokens", base.days, changed.days, digits(1));
    add("days with failures", base.days_with_failures, changed.days_with_failures, digits(1));
    add("goodput", goodput_of(base), goodput_of(changed), digits(3));
    add("GPU-hours", base.gpu_hours, changed.gpu_hours, format_count);
    add("USD", base.usd, changed.usd, format_count);
    add("USD with failures", base.usd_with_failures, changed.usd_with_failures, format_count);
    add("energy MWh", base.energy_mwh, changed.energy_mwh, format_count);
  }
  void add_time_parts() {
    for (int index = 0; index < kNumTimeParts; ++index) {
      const auto part = static_cast<TimePart>(index);
      if (is_worth_a_line(base_.part(part), base_.step) || is_worth_a_line(changed_.part(part), changed_.step))
        add(
            std::string(time_part_name(part)) + " s", [&](const Prediction& p) { return to_seconds(p.part(part)); },
            digits(3));
    }
  }
  void add_memory() {
    for (int index = 0; index < kNumMemoryRows; ++index) {
      const auto row = static_cast<MemoryRow>(index);
      const auto value = [&](const Prediction& p) { return p.memory.worst()[row].count / kGiB; };
      if (value(base_) > 0 || value(changed_) > 0) add(std::string(memory_row_name(row)) + " GiB", value, digits(1));
    }
    add(
        "memory of worst stage GiB", [](const Prediction& p) { return p.memory.worst().total().count / kGiB; },
        digits(1));
  }
  std::string text(const reports::Style& style) const { return table_.to_text({.style = style}); }

  static std::function<std::string(double)> digits(int count) {
    return [count](double value) { return fmt::format("{:.{}f}", value, count); };
  }

 private:
  const Prediction& base_;
  const Prediction& changed_;
  Table table_;
};

// ---- Columns

struct Column {
  std::string name;  // of CSV, with its unit
  std::function<std::string(const Outcome&, const Prediction&)> value;
};

std::string shortest(double value) { return fmt::format("{}", value); }
std::string optional_text(const std::optional<double>& value) { return value ? shortest(*value) : ""; }

std::vector<Column> csv_columns(std::optional<double> tokens) {
  using O = const Outcome&;
  using P = const Prediction&;
  const auto trillion = [](O outcome, P p) { return run_cost(p, outcome.scenario.cluster, kTrillion); };
  std::vector<Column> columns = {
      {"gpus", [](O, P p) { return fmt::format("{}", p.plan.gpus); }},
      {"step_s", [](O, P p) { return shortest(to_seconds(p.step)); }},
      {"step_low_s", [](O, P p) { return shortest(to_seconds(p.step_low)); }},
      {"step_high_s", [](O, P p) { return shortest(to_seconds(p.step_high)); }},
      {"step_p50_s", [](O, P p) { return p.ranks ? shortest(to_seconds(p.ranks->step.p50)) : ""; }},
      {"step_p99_s", [](O, P p) { return p.ranks ? shortest(to_seconds(p.ranks->step.p99)) : ""; }},
      {"tokens_per_s", [](O, P p) { return shortest(p.tokens_per_second()); }},
      {"tokens_per_s_gpu", [](O, P p) { return shortest(p.tokens_per_second_per_gpu()); }},
      {"model_tflops_gpu", [](O, P p) { return shortest(p.model_flops_per_gpu().count / 1e12); }},
      {"mfu", [](O, P p) { return shortest(p.mfu()); }},
      {"memory_gib", [](O, P p) { return shortest(p.memory.worst().total().count / kGiB); }},
      {"usable_gib", [](O, P p) { return shortest(p.memory.usable.count / kGiB); }},
      {"fits", [](O, P p) { return std::string(p.memory.fits() ? "true" : "false"); }},
      {"exposed_communication_s", [](O, P p) { return shortest(to_seconds(p.exposed_communication())); }},
      {"bubble_s", [](O, P p) { return shortest(to_seconds(p.part(TimePart::kBubble))); }},
      {"gpu_hours_per_trillion_tokens", [=](O outcome, P p) { return shortest(trillion(outcome, p).gpu_hours); }},
      {"usd_per_trillion_tokens", [=](O outcome, P p) { return optional_text(trillion(outcome, p).usd); }}};
  if (tokens) {
    const auto add = [&](const char* name, std::optional<double> (*value)(const RunCost&)) {
      columns.push_back(
          {name, [=](O outcome, P p) { return optional_text(value(run_cost(p, outcome.scenario.cluster, *tokens))); }});
    };
    using Number = std::optional<double>;
    add("days", [](const RunCost& cost) -> Number { return cost.days; });
    add("gpu_hours", [](const RunCost& cost) -> Number { return cost.gpu_hours; });
    add("usd", [](const RunCost& cost) { return cost.usd; });
    add("goodput", goodput_of);
    add("days_with_failures", [](const RunCost& cost) { return cost.days_with_failures; });
    add("gpu_hours_with_failures", [](const RunCost& cost) { return cost.gpu_hours_with_failures; });
    add("usd_with_failures", [](const RunCost& cost) { return cost.usd_with_failures; });
    add("energy_mwh", [](const RunCost& cost) { return cost.energy_mwh; });
  }
  return columns;
}

// What people see of a sweep.
std::vector<Column> text_columns(std::optional<double> tokens) {
  using O = const Outcome&;
  using P = const Prediction&;
  std::vector<Column> columns = {
      {"gpus", [](O, P p) { return reports::with_commas(p.plan.gpus); }},
      {"step s", [](O, P p) { return fmt::format("{:.3f}", to_seconds(p.step)); }},
      {"80 %", [](O, P p) { return interval_text(p); }},
      {"tokens/s", [](O, P p) { return format_count(p.tokens_per_second()); }},
      {"tokens/s/GPU", [](O, P p) { return fmt::format("{:.1f}", p.tokens_per_second_per_gpu()); }},
      {"TFLOPS/GPU", [](O, P p) { return fmt::format("{:.1f}", p.model_flops_per_gpu().count / 1e12); }},
      {"% of peak", [](O, P p) { return fmt::format("{:.1f}", 100 * p.mfu()); }},
      {"GiB", [](O, P p) { return fmt::format("{:.1f}", p.memory.worst().total().count / kGiB); }}};
  if (tokens) {
    const auto add = [&](const char* name, std::optional<double> (*value)(const RunCost&), auto format) {
      columns.push_back({name, [=](O outcome, P p) {
                           const auto number = value(run_cost(p, outcome.scenario.cluster, *tokens));
                           return number ? std::string(format(*number)) : std::string();
                         }});
    };
    using Number = std::optional<double>;
    const auto tenths = [](double value) { return fmt::format("{:.1f}", value); };
    add(
        "days", [](const RunCost& cost) -> Number { return cost.days; }, tenths);
    add(
        "with failures", [](const RunCost& cost) { return cost.days_with_failures; }, tenths);
    add("goodput", goodput_of, [](double share) { return fmt::format("{:.3f}", share); });
    add(
        "GPU-hours", [](const RunCost& cost) -> Number { return cost.gpu_hours; }, format_count);
    add(
        "USD", [](const RunCost& cost) { return cost.usd; }, format_count);
    add(
        "MWh", [](const RunCost& cost) { return cost.energy_mwh; }, format_count);
  }
  return columns;
}

Table outcomes_table(const std::vector<Outcome>& outcomes, std::vector<Column> columns, const std::string& last,
                     const std::function<std::string(const Outcome&)>& last_value) {
  std::vector<Table::Column> headers;
  const auto is_swept = [&](const Column& column) {
    const std::vector<Change>& changes = outcomes.front().changes;
    return std::any_of(changes.begin(), changes.end(), [&](const Change& change) { return change.key == column.name; });
  };
  std::erase_if(columns, is_swept);
  for (const Change& change : outcomes.front().changes) headers.push_back({change.key, Table::Align::kRight});
  for (const Column& column : columns) headers.push_back({column.name, Table::Align::kRight});
  headers.push_back({last});
  Table table(headers);
  for (const Outcome& outcome : outcomes) {
    std::vector<std::string> cells;
    for (const Change& change : outcome.changes) cells.push_back(change.value);
    for (const Column& column : columns)
      cells.push_back(outcome.prediction ? column.value(outcome, *outcome.prediction) : "");
    cells.push_back(last_value(outcome));
    table.add_row(cells);
  }
  return table;
}

}  // namespace

Outcome try_scenario(const Scenario& base, std::vector<Change> changes, const PredictionOptions& options) {
  Outcome outcome{.changes = std::move(changes), .scenario = base, .prediction = {}, .reason = {}};
  try {
    apply_changes(outcome.scenario, outcome.changes);
    outcome.prediction = simulate(outcome.scenario, options);
  } catch (const UserError& error) {
    outcome.reason = error.what();
  }
  return outcome;
}

std::vector<std::vector<Change>> cross_product(const std::vector<std::string>& sweeps) {
  std::vector<std::vector<Change>> product = {{}};
  for (const std::string& sweep : sweeps) {
    const std::size_t equals = std::min(sweep.find('='), sweep.size());
    const std::string key = sweep.substr(0, equals);
    std::vector<std::string> values;
    for (std::size_t begin = equals + 1; begin <= sweep.size();) {
      const std::size_t end = std::min(sweep.find(',', begin), sweep.size());
      values.push_back(sweep.substr(begin, end - begin));
      begin = end + 1;
    }
    if (key.empty() || values.empty() || std::find(values.begin(), values.end(), "") != values.end())
      throw UserError("", "--sweep", fmt::format("'{}' is not key=v1,v2,...", excerpt(sweep)),
                      "for example gpus=240,480");
    require_known_field(key);
    if (product.size() > kMostCombinations / values.size())
      throw UserError("", "--sweep", fmt::format("more than {} combinations", kMostCombinations), "sweep fewer values");
    std::vector<std::vector<Change>> longer;
    for (const std::vector<Change>& changes : product)
      for (const std::string& value : values) {
        longer.push_back(changes);
        longer.back().push_back({key, value});
      }
    product = std::move(longer);
  }
  return product;
}

std::string comparison_text(const Outcome& base, const Outcome& changed, std::optional<double> tokens,
                            const reports::Style& style) {
  const Scenario& scenario = changed.scenario;
  const Prediction& prediction = *changed.prediction;
  if (!base.prediction)
    return fmt::format("base: {}\nchanged: {}\n\n", base.reason, changes_text(changed.changes)) +
           to_text(prediction, scenario.model, scenario.cluster, tokens, style);
  Comparison comparison(*base.prediction, prediction);
  comparison.add_speed();
  if (tokens)
    comparison.add_training(run_cost(*base.prediction, base.scenario.cluster, *tokens),
                            run_cost(prediction, scenario.cluster, *tokens), *tokens);
  comparison.add_rule();
  comparison.add_time_parts();
  comparison.add_rule();
  comparison.add_memory();
  std::string text =
      style.bold(fmt::format("{} with {}", reports::printable(scenario.file), changes_text(changed.changes)));
  text += fmt::format("\nbase:    {} on {}: {}\n", reports::printable(base.scenario.model.name),
                      reports::printable(base.scenario.cluster.name), describe_plan(base.prediction->plan));
  text += fmt::format("changed: {} on {}: {}\n\n", reports::printable(scenario.model.name),
                      reports::printable(scenario.cluster.name), describe_plan(prediction.plan));
  text += comparison.text(style) + "\n";
  text +=
      fmt::format("base {}; changed {}\n\n", describe_fit(base.prediction->memory), describe_fit(prediction.memory));
  for (const std::string& note : prediction_notes(prediction, scenario.model, scenario.cluster)) text += note + "\n";
  return text;
}

ordered_json outcome_json(const Outcome& outcome, std::optional<double> tokens) {
  const Scenario& scenario = outcome.scenario;
  ordered_json json = to_json(*outcome.prediction, scenario.model, scenario.cluster, tokens);
  json["imbalance"] = outcome.prediction->imbalance;
  if (scenario.imbalance.kind != Routing::Kind::kFactor) json["routing"] = scenario.imbalance.text();
  return json;
}

ordered_json comparison_json(const Outcome& base, const Outcome& changed, std::optional<double> tokens) {
  ordered_json json = outcome_json(changed, tokens);
  json["changes"] = changes_json(changed.changes);
  if (!base.prediction) {
    json["base"] = {{"error", base.reason}};
    return json;
  }
  json["base"] = outcome_json(base, tokens);
  const auto ratio = [&](const char* key) { return json[key].get<double>() / json["base"][key].get<double>(); };
  json["ratio"] = {{"step_seconds", ratio("step_seconds")},
                   {"tokens_per_second", ratio("tokens_per_second")},
                   {"tokens_per_second_per_gpu", ratio("tokens_per_second_per_gpu")},
                   {"model_tflops_per_gpu", ratio("model_tflops_per_gpu")},
                   {"mfu", ratio("mfu")},
                   {"memory_bytes_per_gpu",
                    changed.prediction->memory.worst().total().count / base.prediction->memory.worst().total().count}};
  return json;
}

std::string sweep_text(const std::vector<Outcome>& outcomes, std::optional<double> tokens,
                       const Table::TextOptions& options) {
  const auto verdict = [](const Outcome& outcome) {
    return outcome.prediction ? describe_fit(outcome.prediction->memory) : reports::printable(outcome.reason);
  };
  return outcomes_table(outcomes, text_columns(tokens), "memory, or why not", verdict).to_text(options);
}

ordered_json sweep_json(const std::vector<Outcome>& outcomes, std::optional<double> tokens) {
  ordered_json rows = ordered_json::array();
  for (const Outcome& outcome : outcomes) {
    ordered_json row = outcome.prediction ? outcome_json(outcome, tokens) : ordered_json{{"error", outcome.reason}};
    row["changes"] = changes_json(outcome.changes);
    rows.push_back(std::move(row));
  }
  return {{"schema_version", kOutputSchemaVersion}, {"version", kVersion}, {"sweep", std::move(rows)}};
}

std::string outcomes_csv(const std::vector<Outcome>& outcomes, std::optional<double> tokens) {
  return outcomes_table(outcomes, csv_columns(tokens), "error", [](const Outcome& outcome) { return outcome.reason; })
      .to_csv();
}

}  // namespace msmoe::simulator
