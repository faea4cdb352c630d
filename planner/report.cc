#include "planner/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/units_text.h"
#include "reports/table.h"
#include "reports/text.h"
#include "simulator/prediction_report.h"

namespace msmoe::planner {
namespace {

using reports::Table;

constexpr std::size_t kLossesShown = 12;
constexpr std::size_t kRejectionsShown = 6;

std::string seconds_text(Duration duration) { return fmt::format("{:.3f}", to_seconds(duration)); }
std::string gib_text(Bytes bytes) { return fmt::format("{:.1f}", bytes.count / kGiB); }
std::string commas(std::int64_t number) { return reports::with_commas(number); }

double tokens_per_second_per_gpu(const Scored& scored) {
  const Plan& plan = scored.plan;
  return static_cast<double>(plan.global_batch) * static_cast<double>(plan.seq_len) / to_seconds(scored.step) /
         static_cast<double>(plan.gpus);
}

// "+2.3 %" against the best
std::string behind(Duration step, Duration best) {
  return fmt::format("{:+.1f} %", 100 * (static_cast<double>(step.count()) / static_cast<double>(best.count()) - 1));
}

double gpu_hours_per_trillion_tokens(const Plan& plan, Duration step) {
  const double tokens = static_cast<double>(plan.global_batch) * static_cast<double>(plan.seq_len);
  return to_seconds(step) * static_cast<double>(plan.gpus) * 1e12 / tokens / 3600;
}

// The 80 % interval of the step: known where the plan was predicted in full, as the first of plans are.
std::string interval_text(const std::vector<simulator::Prediction>& predictions, std::size_t index) {
  if (index >= predictions.size()) return "";
  return fmt::format("{:.3g}-{:.3g}", to_seconds(predictions[index].step_low),
                     to_seconds(predictions[index].step_high));
}

void add_plans(std::string& out, const std::string& title, const std::vector<Scored>& plans, Duration best,
               const reports::Style& style, const std::vector<simulator::Prediction>& predictions = {}) {
  if (plans.empty()) return;
  const bool intervals = !predictions.empty();
  std::vector<Table::Column> columns = {{"GPUs", Table::Align::kRight},
                                        {"step s", Table::Align::kRight},
                                        {"vs best", Table::Align::kRight},
                                        {"tokens/s/GPU", Table::Align::kRight},
                                        {"GPU-h/1T tokens", Table::Align::kRight},
                                        {"GiB", Table::Align::kRight},
                                        {"plan"}};
  if (intervals) columns.insert(columns.begin() + 2, {"80 %", Table::Align::kRight});
  Table table(columns);
  table.set_title(title);
  for (std::size_t index = 0; index < plans.size(); ++index) {
    const Scored& scored = plans[index];
    std::vector<std::string> cells = {commas(scored.plan.gpus),
                                      seconds_text(scored.step),
                                      behind(scored.step, best),
                                      fmt::format("{:.0f}", tokens_per_second_per_gpu(scored)),
                                      commas(std::llround(gpu_hours_per_trillion_tokens(scored.plan, scored.step))),
                                      gib_text(scored.memory),
                                      short_plan(scored.plan)};
    if (intervals) cells.insert(cells.begin() + 2, interval_text(predictions, index));
    table.add_row(cells);
  }
  out += "\n" + table.to_text({.style = style});
}

void add_references(std::string& out, const Answer& answer, const reports::Style& style) {
  if (answer.references.empty()) return;
  const Duration best = answer.best.front().step;
  Table table({{"published plan"},
               {"step s", Table::Align::kRight},
               {"best is faster by", Table::Align::kRight},
               {"GiB", Table::Align::kRight},
               {"software"},
               {"plan"}});
  table.set_title("Published plans on this question, as simulated");
  for (const Reference& reference : answer.references) {
    const simulator::Prediction& p = reference.prediction;
    table.add_row({reference.name, seconds_text(p.step), fmt::format("{:.2f}x", to_seconds(p.step) / to_seconds(best)),
                   gib_text(p.memory.worst().total()), p.plan.software.name, short_plan(p.plan)});
  }
  out += "\n" + table.to_text({.style = style});
}

void add_losses(std::string& out, const Answer& answer, const reports::Style& style) {
  if (answer.losses.empty()) return;
  const Duration best = answer.best.front().step;
  Table table({{"with"},
               {"step s", Table::Align::kRight},
               {"vs best", Table::Align::kRight},
               {"it pays most in"},
               {"more s", Table::Align::kRight},
               {"its best plan"}});
  table.set_title("Why other choices lose: the best plan with each");
  for (std::size_t index = 0; index < std::min(kLossesShown, answer.losses.size()); ++index) {
    const Loss& loss = answer.losses[index];
    table.add_row({loss.alternative.field + "=" + loss.alternative.value, seconds_text(loss.alternative.best.step),
                   behind(loss.alternative.best.step, best), simulator::time_part_name(loss.part),
                   seconds_text(loss.more), short_plan(loss.alternative.best.plan)});
  }
  out += "\n" + table.to_text({.style = style});
  if (answer.losses.size() > kLossesShown)
    out += fmt::format("({} more with --json)\n", answer.losses.size() - kLossesShown);
}

void add_other_schedules(std::string& out, const Answer& answer, const reports::Style& style) {
  if (answer.search.other_schedules.empty()) return;
  const Duration best = answer.best.front().step;
  Table table({{"with"},
               {"step s", Table::Align::kRight},
               {"vs best", Table::Align::kRight},
               {"GiB", Table::Align::kRight},
               {"plan"}});
  table.set_title("These plans under other schedules, the fastest with each (docs/plan.md says who offers them)");
  for (const Alternative& other : answer.search.other_schedules)
    table.add_row({other.field + "=" + other.value, seconds_text(other.best.step), behind(other.best.step, best),
                   gib_text(other.best.memory), short_plan(other.best.plan)});
  out += "\n" + table.to_text({.style = style});
}

void add_near_misses(std::string& out, const SearchResult& search) {
  if (search.near_misses.empty()) return;
  out += "\nPromising, but too big:\n";
  for (const NearMiss& miss : search.near_misses) {
    out += fmt::format("  {}: stage {} over by {} GiB: ", short_plan(miss.plan), miss.stage, gib_text(miss.over));
    out += miss.change.empty() ? "no single change makes it fit\n"
                               : fmt::format("{} makes it fit, at {} s a step\n", miss.change, seconds_text(miss.step));
  }
}

void add_counts(std::string& out, const SearchResult& search) {
  out += fmt::format(
      "\nOf {} plans {} break a rule, {} do not fit ({} by weights, gradients and optimizer states alone), "
      "{} fit; {} of these were simulated, the bounds of the others exclude them.\n",
      commas(search.considered), commas(search.invalid), commas(search.over_memory), commas(search.over_by_states),
      commas(search.considered - search.invalid - search.over_memory), commas(search.simulated));
  std::vector<std::pair<std::string, std::int64_t>> rules(search.rejections.begin(), search.rejections.end());
  std::stable_sort(rules.begin(), rules.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  if (rules.size() > kRejectionsShown) rules.resize(kRejectionsShown);
  for (const auto& [rule, count] : rules) out += fmt::format("  {:>10}  {}\n", commas(count), rule);
}

nlohmann::ordered_json scored_json(const Scored& scored) {
  return {{"step_seconds", to_seconds(scored.step)},
          {"tokens_per_second_per_gpu", tokens_per_second_per_gpu(scored)},
          {"memory_bytes_per_gpu", scored.memory.count},
          {"plan", nlohmann::ordered_json::parse(plan_to_json(scored.plan))}};
}

}  // namespace

std::string to_text(const Question& question, const Answer& answer, std::optional<double> tokens,
                    const reports::Style& style) {
  std::string out = simulator::to_text(answer.best.front(), question.model, question.cluster, tokens, style);
  const Duration best = answer.best.front().step;
  add_plans(out, "Best plans", answer.search.best, best, style, answer.best);
  add_plans(out, "The fastest within less and less memory", answer.search.pareto, best, style);
  add_plans(out, "The fastest on fewer GPUs", answer.fewer_gpus, best, style);
  add_references(out, answer, style);
  add_losses(out, answer, style);
  add_other_schedules(out, answer, style);
  add_near_misses(out, answer.search);
  add_counts(out, answer.search);
  return out;
}

nlohmann::ordered_json to_json(const Question& question, const Answer& answer, std::optional<double> tokens) {
  nlohmann::ordered_json json = simulator::to_json(answer.best.front(), question.model, question.cluster, tokens);
  auto list = [&](const std::vector<Scored>& plans) {
    auto array = nlohmann::ordered_json::array();
    for (const Scored& scored : plans) array.push_back(scored_json(scored));
    return array;
  };
  json["plans"] = list(answer.search.best);
  for (std::size_t index = 0; index < std::min(answer.best.size(), answer.search.best.size()); ++index) {
    json["plans"][index]["step_seconds_low"] = to_seconds(answer.best[index].step_low);
    json["plans"][index]["step_seconds_high"] = to_seconds(answer.best[index].step_high);
  }
  json["pareto"] = list(answer.search.pareto);
  json["fewer_gpus"] = list(answer.fewer_gpus);
  auto& references = json["references"] = nlohmann::ordered_json::array();
  for (const Reference& reference : answer.references) {
    references.push_back({{"name", reference.name},
                          {"step_seconds", to_seconds(reference.prediction.step)},
                          {"software", reference.prediction.plan.software.name},
                          {"memory_bytes_per_gpu", reference.prediction.memory.worst().total().count}});
  }
  auto& alternatives = json["alternatives"] = nlohmann::ordered_json::array();
  for (const Loss& loss : answer.losses) {
    auto entry = scored_json(loss.alternative.best);
    entry["field"] = loss.alternative.field;
    entry["value"] = loss.alternative.value;
    entry["pays_most_in"] = simulator::time_part_name(loss.part);
    entry["more_seconds"] = to_seconds(loss.more);
    alternatives.push_back(std::move(entry));
  }
  auto& others = json["other_schedules"] = nlohmann::ordered_json::array();
  for (const Alternative& other : answer.search.other_schedules) {
    auto entry = scored_json(other.best);
    entry["field"] = other.field;
    entry["value"] = other.value;
    others.push_back(std::move(entry));
  }
  auto& near_misses = json["near_misses"] = nlohmann::ordered_json::array();
  for (const NearMiss& miss : answer.search.near_misses) {
    near_misses.push_back({{"over_bytes", miss.over.count},
                           {"stage", miss.stage},
                           {"change", miss.change},
                           {"step_seconds", to_seconds(miss.step)},
                           {"plan", nlohmann::ordered_json::parse(plan_to_json(miss.plan))}});
  }
  const SearchResult& search = answer.search;
  json["search"] = {{"plans_considered", search.considered},
                    {"plans_invalid", search.invalid},
                    {"plans_over_memory", search.over_memory},
                    {"plans_over_by_states", search.over_by_states},
                    {"plans_simulated", search.simulated},
                    {"rejections", search.rejections},
                    {"seconds", search.seconds}};
  return json;
}

std::string no_plan_text(const Question& question, const SearchResult& search) {
  std::string out = fmt::format("No plan of {} fits on {} GPUs of {}.\n", question.model.name, question.base.gpus,
                                question.cluster.name);
  add_near_misses(out, search);
  add_counts(out, search);
  return out;
}

}  // namespace msmoe::planner
