#include "simulator/command.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>

#include "core/error.h"
#include "core/units_text.h"
#include "reports/json.h"
#include "reports/progress.h"
#include "simulator/explain.h"
#include "simulator/prediction_report.h"
#include "simulator/study.h"

namespace msmoe::simulator {
namespace {

void print(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    throw std::system_error(errno, std::generic_category(), "cannot write to standard output");
}

double parse_imbalance(const std::string& text) {
  if (std::filesystem::is_regular_file(text))
    throw UserError(text, "--imbalance", "a histogram of routing from a file is not built yet", "a number, 1 or more");
  const double imbalance = parse_number(text, {"", "--imbalance"});
  if (imbalance < 1)
    throw UserError("", "--imbalance", fmt::format("'{}' is not allowed", excerpt(text)),
                    "1 or more: rows of the most loaded expert rank over balanced rows");
  return imbalance;
}

std::optional<double> parse_tokens(const std::string& text) {
  if (text.empty()) return std::nullopt;
  const std::int64_t tokens = parse_count(text, {"", "--tokens"});
  if (tokens < 1) throw UserError("", "--tokens", fmt::format("'{}' is not allowed", excerpt(text)), "1 or more");
  return static_cast<double>(tokens);
}

std::string imbalance_note(const Scenario& scenario) {
  const double largest = largest_imbalance(scenario.model, scenario.plan);
  if (scenario.imbalance <= 1) return "";
  if (scenario.imbalance <= largest) return fmt::format("expert imbalance: {}\n", scenario.imbalance);
  return fmt::format("expert imbalance: {0:.4g}, the most that EP={1} allows, for the {2} asked for\n", largest,
                     scenario.plan.ep, scenario.imbalance);
}

std::string explanation(const Scenario& scenario) {
  return explain(scenario.model, scenario.cluster, scenario.plan,
                 std::min(scenario.imbalance, largest_imbalance(scenario.model, scenario.plan)));
}

class Run {
 public:
  explicit Run(const Command& command) : command_(command), tokens_(parse_tokens(command.tokens)) {
    options_.exact = command.exact;
    options_.trace = command.trace;
    planned_ = load_scenario(command.plan);
    if (!command.imbalance.empty()) planned_.imbalance = parse_imbalance(command.imbalance);
    if (!command.what_if.empty()) changes_ = parse_changes(command.what_if, "--what-if");
  }

  int predict_plan() {
    Outcome outcome{.changes = {}, .scenario = planned_, .prediction = simulate(planned_, options_), .reason = {}};
    if (command_.json) {
      print(reports::dump_json(outcome_json(outcome, tokens_)));
    } else if (command_.csv) {
      print(outcomes_csv({outcome}, tokens_));
    } else {
      print(to_text(*outcome.prediction, planned_.model, planned_.cluster, tokens_, style()) +
            imbalance_note(planned_));
      if (command_.explain) print("\n" + explanation(planned_));
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
      print(comparison_text(base, changed, tokens_, style()) + imbalance_note(changed.scenario));
      if (command_.explain) print("\n" + explanation(changed.scenario));
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
