// Figures and tables of papers that are not whole runs: times of operators, ratios between plans, savings of memory.
//
// One JSON file (reports/validation/figures.json). A figure has series, a series points; each may give conditions
// (conditions.h), and the point's win. A point's value is what its measure says of them:
//
//   step_seconds, throughput (tokens/s a GPU), mfu
//   exposed, attention_and_gemm, others     seconds of a step: the three parts of MegaScale-MoE's Fig. 13
//   bubble, optimizer                       seconds of a step
//   activations, memory                     GB at the peak of the worst stage: all that is no state of the training,
//   and
//                                           all; with "keeps_outputs", of a system that keeps every output of forward
//   operators                               seconds, one after the other, of those forward operators of a MoE layer
//                                           that the point's "operators" names
//   crossing                                the top_k from which all-gather dispatch takes less time than all-to-all
//
// "relative" then divides each by the series' first or last point, or takes what each gains over the one before it in
// units of the first ("gain"). The error is a ratio less one, or a difference.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "simulator/validation/conditions.h"

namespace msmoe::simulator::validation {

enum class Measure {
  kStepSeconds,
  kThroughput,
  kMfu,
  kExposed,
  kAttentionAndGemm,
  kOthers,
  kBubble,
  kOptimizer,
  kActivations,
  kMemory,
  kOperators,
  kCrossing,
};
enum class Relative { kNone, kFirst, kLast, kGain };
enum class ErrorKind { kRatio, kDifference };

// What the errors of a figure, or of runs, have to keep to.
struct Bar {
  enum class Of { kEach, kMedian } of = Of::kEach;
  double limit = 0;
};

struct FigurePoint : Conditions {
  std::string name;
  Measure measure = Measure::kStepSeconds;
  std::vector<std::string> operators;
  bool keeps_outputs = false;
  double published = 0;  // as the paper has it: relative where the figure is
};
struct FigureSeries {
  std::string name;
  std::vector<FigurePoint> points;
};
struct Figure {
  std::string id, title, source, note;
  Relative relative = Relative::kNone;
  ErrorKind error = ErrorKind::kRatio;
  std::optional<Bar> bar;
  std::vector<FigureSeries> series;
};

// A bar on published runs: those whose id matches. With `over`, on the ratio of the step time of the run of that id to
// that of the one run that matches.
struct RunBar {
  std::string title, runs, over;
  double ratio = 0;  // published
  Bar bar;
};

struct FigureSet {
  std::vector<Figure> figures;
  std::vector<RunBar> run_bars;
};

// Throws UserError.
FigureSet read_figures(const std::string& path);
FigureSet parse_figures(const std::string& name, std::string_view json_text);

struct FigureValue {
  const Figure* figure;
  const FigureSeries* series;
  const FigurePoint* point;
  double predicted = 0;
  double error = 0;
  bool compared = true;  // false for a point that others are relative to
};
// The values of all points, in order. Throws UserError naming the figure and the point.
std::vector<FigureValue> predict_figure(const Figure& figure);

// relative and error, on values at hand: what predict_figure does after measuring. REQUIRES: as many as the points.
std::vector<FigureValue> compare(const Figure& figure, const FigureSeries& series, const std::vector<double>& measured);

}  // namespace msmoe::simulator::validation
