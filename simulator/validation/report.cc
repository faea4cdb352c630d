#include "simulator/validation/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "simulator/validation/figure_report.h"
#include "simulator/validation/ranking.h"
#include "simulator/validation/rounding.h"
#include "simulator/validation/statistics.h"
#include "simulator/validation/summary.h"

namespace msmoe::simulator::validation {
namespace {

using Json = nlohmann::ordered_json;

std::string text_of(const Published& published, double value) {
  switch (published.quantity) {
    case Quantity::kStepSeconds: return fmt::format("{:.4g} s", value);
    case Quantity::kTokensPerSecondPerGpu: return fmt::format("{:.4g} tok/s", value);
    case Quantity::kTflopsPerGpu: return fmt::format("{:.4g} TF", value);
    case Quantity::kMfu: return fmt::format("{:.3g} %", 100 * value);
  }
  return {};
}

std::string describe(const Assumption& assumption) {
  std::string text = assumption.key + "=" + assumption.value;
  for (const std::string& alternative : assumption.alternatives) text += "|" + alternative;
  return text;
}

std::string describe_assumed(const PublishedRun& run) {
  std::string text;
  for (const Assumption& assumption : run.assumed) text += (text.empty() ? "" : ", ") + describe(assumption);
  return text;
}

// The alternative that moves the prediction most.
std::string widest(const Outcome& outcome) {
  const Variant* most = nullptr;
  double move = 0;
  for (const Variant& variant : outcome.variants) {
    const double by = std::abs(std::log(variant.predicted / outcome.predicted));
    if (by > move) {
      most = &variant;
      move = by;
    }
  }
  return most == nullptr ? "" : most->change.key + "=" + most->change.value;
}

Json outcome_json(const Outcome& outcome) {
  const PublishedRun& run = *outcome.run;
  Json row = {{"id", run.id},
              {"source", run.source},
              {"software", run.software},
              {"model", run.model},
              {"cluster", run.cluster},
              {"gpus", outcome.prediction.plan.gpus},
              {"seq_len", outcome.prediction.plan.seq_len},
              {"global_batch", outcome.prediction.plan.global_batch},
              {"plan", short_plan(outcome.prediction.plan)},
              {"assumed", describe_assumed(run)},
              {"quantity", quantity_name(run.published.quantity)},
              {"published", run.published.value},
              {"predicted", rounded(outcome.predicted)},
              {"lowest", rounded(outcome.lowest())},
              {"highest", rounded(outcome.highest())},
              {"most_moved_by", widest(outcome)},
              {"step_error", rounded(outcome.error())},
              {"fits", outcome.fits}};
  if (run.published.attention == AttentionFlops::kFull) row["attention_flops"] = "full";
  if (!run.note.empty()) row["note"] = run.note;
  if (!run.explanation.empty()) row["explanation"] = run.explanation;
  return row;
}

Json summary_json(const Summary& summary) {
  return {{"name", summary.name},
          {"rows", summary.errors.size()},
          {"median_error", rounded(summary.median_error())},
          {"within_15_percent", rounded(summary.within(kMiss))},
          {"in_interval", summary.covered}};
}

Json summaries_json(const std::vector<Summary>& summaries) {
  Json list = Json::array();
  for (const Summary& summary : summaries) list.push_back(summary_json(summary));
  return list;
}

void add_summaries(std::string& text, const char* heading, const std::vector<Summary>& summaries) {
  text += fmt::format("\n| {} | runs | median error | within 15 % | lowest | highest |\n|---|---|---|---|---|---|\n",
                      heading);
  for (const Summary& summary : summaries)
    text += fmt::format("| {} | {} | {:.1f} % | {:.0f} % | {} | {} |\n", summary.name, summary.errors.size(),
                        100 * summary.median_error(), 100 * summary.within(kMiss), percent(summary.lowest()),
                        percent(summary.highest()));
}

void add_systems(std::string& text, const Results& results) {
  text +=
      "\n## Training systems\n\nOne constant a system, `kernel_time_scale`; it is calibrated as the last column "
      "says.\n";
  text += "\n| system | constant | runs | median error | within 15 % | calibrated on |\n|---|---|---|---|---|---|\n";
  for (const Summary& summary : by_software(results.outcomes)) {
    const Software& software = find_software(summary.name);
    text +=
        fmt::format("| {} | {} | {} | {:.1f} % | {:.0f} % | {} |\n", summary.name, software.kernel_time_scale,
                    summary.errors.size(), 100 * summary.median_error(), 100 * summary.within(kMiss), software.source);
  }
}

void add_ranking(std::string& text, const std::vector<RankedPair>& pairs) {
  const auto wrong = std::count_if(pairs.begin(), pairs.end(), [](const RankedPair& pair) { return !pair.holds(); });
  text += fmt::format(
      "\n## Ranking\n\nOf {} pairs of plans for one question whose published step times differ by more than {:.0f} %, "
      "the prediction orders {} as published.\n",
      pairs.size(), 100 * kClearDifference, pairs.size() - static_cast<std::size_t>(wrong));
  if (wrong == 0) return;
  text += "\n| faster as published | slower as published | published | predicted |\n|---|---|---|---|\n";
  for (const RankedPair& pair : pairs)
    if (!pair.holds())
      text += fmt::format("| {} | {} | {} | {} |\n", pair.faster->run->id, pair.slower->run->id,
                          percent(pair.slower->published_step / pair.faster->published_step - 1),
                          percent(pair.slower->step_seconds / pair.faster->step_seconds - 1));
}

void add_runs(std::string& text, const std::vector<Outcome>& outcomes) {
  text +=
      "\n## Runs\n\nThe range is that of the prediction when one assumed condition after the other is replaced; beside "
      "it the replacement that moves it most. `!` does not fit in memory by msmoe's count.\n";
  std::string source;
  for (const Outcome& outcome : outcomes) {
    const PublishedRun& run = *outcome.run;
    const Plan& plan = outcome.prediction.plan;
    if (run.source + run.software != source) {
      source = run.source + run.software;
      text += fmt::format("\n### {}: {}\n\n", run.software, run.source);
      text += "| run | GPUs | batch x tokens | plan | published | predicted | error | range | moved by |\n";
      text += "|---|---|---|---|---|---|---|---|---|\n";
    }
    text += fmt::format("| {} | {} {} | {} x {} | {}{} | {} | {} | {} | {} to {} | {} |\n", run.id, plan.gpus,
                        run.cluster, plan.global_batch, plan.seq_len, short_plan(plan), outcome.fits ? "" : " !",
                        text_of(run.published, run.published.value), text_of(run.published, outcome.predicted),
                        percent(outcome.error()), text_of(run.published, outcome.lowest()),
                        text_of(run.published, outcome.highest()), widest(outcome));
  }
}

void add_list(std::string& text, const char* heading, const char* empty, const std::vector<std::string>& lines) {
  text += fmt::format("\n## {}\n\n", heading);
  if (lines.empty()) text += fmt::format("{}\n", empty);
  for (const std::string& line : lines) text += "- " + line + "\n";
}

std::vector<std::string> misses(const std::vector<Outcome>& outcomes) {
  std::vector<std::string> lines;
  for (const Outcome& outcome : outcomes)
    if (std::abs(outcome.error()) > kMiss)
      lines.push_back(fmt::format("{} ({}): {}", outcome.run->id, percent(outcome.error()),
                                  outcome.run->explanation.empty() ? "not explained" : outcome.run->explanation));
  return lines;
}

std::vector<std::string> set_aside(const std::vector<PublishedRun>& runs) {
  std::vector<std::string> lines;
  for (const PublishedRun& run : runs)
    if (!run.set_aside.empty()) lines.push_back(run.id + ": " + run.set_aside);
  return lines;
}

std::vector<std::string> notes(const std::vector<PublishedRun>& runs) {
  std::vector<std::string> lines;
  for (const PublishedRun& run : runs)
    if (!run.note.empty()) lines.push_back(run.id + ": " + run.note);
  return lines;
}

}  // namespace

Json to_json(const Results& results) {
  const std::vector<RankedPair> pairs = ranked_pairs(results.outcomes);
  Json wrong = Json::array();
  for (const RankedPair& pair : pairs)
    if (!pair.holds()) wrong.push_back({{"faster", pair.faster->run->id}, {"slower", pair.slower->run->id}});
  Json rows = Json::array();
  for (const Outcome& outcome : results.outcomes) rows.push_back(outcome_json(outcome));
  Json aside = Json::array();
  for (const PublishedRun& run : results.runs)
    if (!run.set_aside.empty()) aside.push_back({{"id", run.id}, {"reason", run.set_aside}});
  return {{"schema_version", 1},
          {"runs", results.runs.size()},
          {"set_aside", aside},
          {"all", summary_json(summary_of("all", results.outcomes))},
          {"systems", summaries_json(by_software(results.outcomes))},
          {"models", summaries_json(by_model(results.outcomes))},
          {"ranking", {{"pairs", pairs.size()}, {"wrong", wrong}}},
          {"bars", bars_json(results.bars)},
          {"rows", rows},
          {"figures", figures_json(results.figures.figures, results.values)}};
}

std::string to_markdown(const Results& results) {
  const Summary all = summary_of("all", results.outcomes);
  const std::size_t aside = results.runs.size() - results.outcomes.size();
  std::string text = fmt::format(
      "# Published runs, as predicted\n\nWritten by `./dev validate` from [runs.json](runs.json).\n\n"
      "{} published runs; {} ({:.0f} %) set aside, the reasons below. Of the others the median error of the step time "
      "is {:.1f} %, {:.0f} % are within {:.0f} %, and {:.0f} % lie in the interval that their prediction carries. An "
      "error is predicted over published step time, less one: above zero the prediction is slower. Where a source "
      "gives "
      "a rate or an MFU, its step time is derived.\n",
      results.runs.size(), aside, 100 * static_cast<double>(aside) / static_cast<double>(results.runs.size()),
      100 * all.median_error(), 100 * all.within(kMiss), 100 * kMiss,
      100 * static_cast<double>(all.covered) / static_cast<double>(all.errors.size()));
  text += bars_markdown(results.bars);
  add_systems(text, results);
  text += "\n## Models\n";
  add_summaries(text, "model", by_model(results.outcomes));
  add_ranking(text, ranked_pairs(results.outcomes));
  add_runs(text, results.outcomes);
  text += figures_markdown(results.figures.figures, results.values);
  add_list(text, "Misses", "None.", misses(results.outcomes));
  add_list(text, "Set aside", "None.", set_aside(results.runs));
  add_list(text, "Notes", "None.", notes(results.runs));
  return text;
}

}  // namespace msmoe::simulator::validation
