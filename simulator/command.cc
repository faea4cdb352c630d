#include "simulator/command.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>

#include "core/error.h"
#include "core/units_text.h"
#include "reports/json.h"
#include "reports/progress.h"
#include "reports/text.h"
#include "simulator/explain.h"
#include "simulator/prediction_report.h"
#include "simulator/study.h"

namespace msmoe::simulator {
namespace {

constexpr std::int64_t kMostSteps = 100'000;

void print(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    throw std::system_error(errno, std::generic_category(), "cannot write to standard output");
}

std::optional<double> parse_tokens(const std::string& text) {
  if (text.empty()) return std::nullopt;
  const std::int64_t tokens = parse_count(text, {"", "--tokens"});
  if (tokens < 1) throw UserError("", "--tokens", fmt::format("'{}' is not allowed", excerpt(text)), "1 or more");
  return static_cast<double>(tokens);
}

std::string imbalance_note(const Outcome& outcome) {
  const Scenario& scenario = outcome.scenario;
  const Prediction& prediction = *outcome.prediction;
  if (scenario.imbalance.is_even()) return "";
  if (scenario.imbalance.kind != Routing::Kind::kFactor)
    return fmt::format("expert imbalance: {:.4g}, the mean over layers of {}\n", prediction.imbalance,
                       reports::printable(scenario.imbalance.text()));
  if (prediction.imbalance >= scenario.imbalance.value)
    return fmt::format("expert imbalance: {}\n", scenario.imbalance.value);
  return fmt::format("expert imbalance: {0:.4g}, the most that EP={1} allows, for the {2} asked for\n",
                     prediction.imbalance, scenario.plan.ep, scenario.imbalance.value);
}

std::string ranks_note(const Outcome& outcome) {
  return outcome.prediction->ranks ? "\n" + ranks_text(*outcome.prediction->ranks) : "";
}

std::string explanation(const Outcome& outcome) {
  const Scenario& scenario = outcome.scenario;
  return explain(scenario.model, scenario.cluster, scenario.plan, outcome.prediction->imbalance);
}

class Run {
 public:
  explicit Run(const Command& command) : command_(command), tokens_(parse_tokens(command.tokens)) {
    options_.exact = command.exact;
    options_.trace = command.trace;
    planned_ = load_scenario(command.plan);
    options_.every_rank = command.every_rank;
    options_.seed = static_cast<std::uint64_t>(command.seed);
    options_.steps = command.steps;
    if (!command.imbalance.empty()) planned_.imbalance = parse_routing(command.imbalance, {"", "--imbalance"});
    for (const auto& [key, value] : {std::pair{"straggler", command.straggler}, std::pair{"jitter", command.jitter}})
      if (!value.empty()) apply_changes(planned_, {{key, value}});
    if (!command.what_if.empty()) changes_ = parse_changes(command.what_if, "--what-if");
  }

  int predict_plan() {
    Outcome outcome{.changes = {}, .scenario = planned_, .prediction = simulate(planned_, options_), .reason = {}};
    if (command_.json) {
      print(reports::dump_json(outcome_json(outcome, tokens_)));
    } else if (command_.csv) {
      print(outcomes_csv({outcome}, tokens_));
    } else {
      print(to_text(*outcome.prediction, planned_.model, planned_.cluster, tokens_, style()) + imbalance_note(outcome) +
            ranks_note(outcome));
      if (command_.explain) print("\n" + explanation(outcome));
    }
    return outcome.fits() ? kExitDone : kExitNo;
  }

  // The base may be a plan that only the changes make valid.
  int compare() {
    Outcome changed{.changes = changes_, .scenario = planned_, .prediction = {}, .reason = {}};
    apply_changes(changed.scenario, changes_);
    changed.prediction = simulate(changed.scenario, options_);
    PredictionOptions untraced = options_;
    untraced.exact = options_.exact || !options_.trace.empty();
    untraced.trace.clear();
    Outcome base = try_scenario(planned_, {}, untraced);
    if (command_.json) {
      print(reports::dump_json(comparison_json(base, changed, tokens_)));
    } else if (command_.csv) {
      base.changes = {{"case", "base"}};
      changed.changes = {{"case", "changed"}};
      print(outcomes_csv({base, changed}, tokens_));
    } else {
      print(comparison_text(base, changed, tokens_, style()) + imbalance_note(changed) + ranks_note(changed));
      if (command_.explain) print("\n" + explanation(changed));
    }
    return changed.fits() ? kExitDone : kExitNo;
  }

  int sweep() {
    const std::vector<std::vector<Change>> product = cross_product(command_.sweeps);
    apply_changes(planned_, changes_);
    std::vector<Outcome> outcomes;
    reports::Progress progress(static_cast<std::int64_t>(product.size()));
    for (const std::vector<Change>& changes : product) {
      outcomes.push_back(try_scenario(planned_, changes, options_));
      progress.advance();
    }
    progress.finish();
    if (command_.json) {
      print(reports::dump_json(sweep_json(outcomes, tokens_)));
    } else if (command_.csv) {
      print(outcomes_csv(outcomes, tokens_));
    } else {
      print(sweep_text(outcomes, tokens_, {.width = reports::terminal_width(1), .style = style()}));
    }
    const bool any_valid = std::any_of(outcomes.begin(), outcomes.end(),
                                       [](const Outcome& outcome) { return outcome.prediction.has_value(); });
    return any_valid ? kExitDone : kExitNo;
  }

 private:
  static reports::Style style() { return reports::Style::for_stream(1); }

  const Command& command_;
  const std::optional<double> tokens_;
  PredictionOptions options_;
  Scenario planned_;
  std::vector<Change> changes_;
};

void require_consistent(const Command& command) {
  if (command.seed < 0) throw UserError("", "--seed", "is negative", "0 or more");
  if (command.steps < 0 || command.steps > kMostSteps)
    throw UserError("", "--steps", fmt::format("{} is not allowed", command.steps), fmt::format("1 to {}", kMostSteps));
  if (command.json && command.csv) throw UserError("", "--csv", "excludes --json", "give one of them");
  if (command.explain && (command.json || command.csv))
    throw UserError("", "--explain", "is text for people", "leave out --json and --csv");
  if (command.sweeps.empty()) return;
  for (const auto& [flag, given] :
       {std::pair{"--trace", !command.trace.empty()}, std::pair{"--explain", command.explain}})
    if (given) throw UserError("", flag, "is about one plan, not a sweep", "use --what-if for one of its rows");
}

}  // namespace

int run(const Command& command) {
  require_consistent(command);
  Run run(command);
  if (!command.sweeps.empty()) return run.sweep();
  return command.what_if.empty() ? run.predict_plan() : run.compare();
}

}  // namespace msmoe::simulator
