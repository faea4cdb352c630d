// msmoe-validate: holds the simulator to published runs. A program for developers; ./dev validate runs it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <regex>
#include <string>

#include "core/error.h"
#include "core/text_file.h"
#include "reports/json.h"
#include "reports/progress.h"
#include "reports/table.h"
#include "reports/tool.h"
#include "simulator/validation/calibration.h"
#include "simulator/validation/report.h"

namespace msmoe::simulator::validation {
namespace {

struct Command {
  std::string folder = MSMOE_SOURCE_DIR "/reports/validation";
  std::string only;
  bool json = false, check = false, calibrate = false;
};

std::vector<PublishedRun> selected_runs(const Command& command) {
  std::vector<PublishedRun> runs = read_runs(command.folder + "/runs.json");
  if (command.only.empty()) return runs;
  std::regex pattern;
  try {
    pattern = std::regex(command.only);
  } catch (const std::regex_error& error) {
    throw UserError("", "--only", fmt::format("'{}' is no regular expression", excerpt(command.only)), error.what());
  }
  std::erase_if(runs, [&](const PublishedRun& run) { return !std::regex_search(run.id, pattern); });
  return runs;
}

// Outcomes point at their runs, values at their figures.
Results predict_all(std::vector<PublishedRun> runs, FigureSet figures) {
  Results results{std::move(runs), {}, std::move(figures), {}, {}};
  reports::Progress progress(static_cast<std::int64_t>(results.runs.size()));
  for (const PublishedRun& run : results.runs) {
    progress.set_note(run.id);
    if (run.set_aside.empty()) results.outcomes.push_back(predict_run_and_variants(run));
    progress.advance();
  }
  progress.finish();
  if (results.outcomes.empty()) throw UserError("", "--only", "leaves no run that is not set aside");
  for (const RunBar& bar : results.figures.run_bars) results.bars.push_back(hold_runs(bar, results.outcomes));
  for (const Figure& figure : results.figures.figures) {
    results.values.push_back(predict_figure(figure));
    if (figure.bar) results.bars.push_back(hold_figure(figure, results.values.back()));
  }
  return results;
}

void print_calibrations(const std::vector<PublishedRun>& runs) {
  using Align = reports::Table::Align;
  reports::Table table({{"software"},
                        {"runs", Align::kRight},
                        {"kernel_time_scale", Align::kRight},
                        {"median |log error|", Align::kRight},
                        {"now", Align::kRight}});
  reports::Progress progress(0);
  const std::vector<Calibration> calibrations = calibrate(runs, [&] { progress.advance(); });
  progress.finish();
  for (const Calibration& calibration : calibrations)
    table.add_row({calibration.software, fmt::format("{}", calibration.rows),
                   fmt::format("{:.3f}", calibration.kernel_time_scale),
                   fmt::format("{:.4f}", calibration.median_error),
                   fmt::format("{:.3f}", find_software(calibration.software).kernel_time_scale)});
  fmt::print("{}", table.to_text());
}

int hold(const std::string& path, const std::string& text) {
  if (read_text_file(path) == text) return kExitDone;
  fmt::print(stderr, "msmoe-validate: {} is not what is predicted now; run ./dev validate\n", path);
  return kExitNo;
}

int run(const Command& command) {
  std::vector<PublishedRun> runs = selected_runs(command);
  if (command.calibrate) {
    print_calibrations(runs);
    return kExitDone;
  }
  // Bars and figures belong to the whole set.
  FigureSet figures = command.only.empty() ? read_figures(command.folder + "/figures.json") : FigureSet{};
  const Results results = predict_all(std::move(runs), std::move(figures));
  const std::string json = reports::dump_json(to_json(results));
  const std::string markdown = to_markdown(results);
  if (command.check)
    return std::max(hold(command.folder + "/published.json", json), hold(command.folder + "/published.md", markdown));
  if (command.only.empty()) {
    write_text_file(command.folder + "/published.json", json);
    write_text_file(command.folder + "/published.md", markdown);
  }
  fmt::print("{}", command.json ? json : markdown);
  return kExitDone;
}

}  // namespace
}  // namespace msmoe::simulator::validation

int main(int argc, char** argv) {
  msmoe::simulator::validation::Command command;
  CLI::App app("Predicts published training runs and writes a report on how far off the predictions are.",
               "msmoe-validate");
  app.add_option("--folder", command.folder, "where runs.json lies and the reports go");
  app.add_option("--only", command.only, "runs whose id matches this regular expression; writes no report");
  app.add_flag("--json", command.json, "print the JSON report");
  auto* check = app.add_flag("--check", command.check, "write nothing; exit 1 where the reports are stale");
  app.add_flag("--calibrate", command.calibrate, "print the kernel_time_scale that fits each training system best")
      ->excludes(check);
  check->excludes("--only");
  return msmoe::reports::run_tool("msmoe-validate", command.json, [&]() -> int {
    try {
      app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      if (error.get_exit_code() == 0) return app.exit(error);
      throw msmoe::UserError("", "", error.what(), "see msmoe-validate --help");
    }
    return run(command);
  });
}
