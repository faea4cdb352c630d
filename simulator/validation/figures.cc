#include "simulator/validation/figures.h"

#include <array>
#include <limits>
#include <utility>

#include "simulator/validation/choice.h"

namespace msmoe::simulator::validation {
namespace {

template <class Value, std::size_t kCount>
using Names = std::array<std::pair<const char*, Value>, kCount>;

constexpr Names<Measure, 12> kMeasures = {{
    {"step_seconds", Measure::kStepSeconds},
    {"throughput", Measure::kThroughput},
    {"mfu", Measure::kMfu},
    {"exposed", Measure::kExposed},
    {"attention_and_gemm", Measure::kAttentionAndGemm},
    {"others", Measure::kOthers},
    {"activations", Measure::kActivations},
    {"memory", Measure::kMemory},
    {"bubble", Measure::kBubble},
    {"optimizer", Measure::kOptimizer},
    {"operators", Measure::kOperators},
    {"crossing", Measure::kCrossing},
}};
constexpr Names<Relative, 4> kRelatives = {
    {{"none", Relative::kNone}, {"first", Relative::kFirst}, {"last", Relative::kLast}, {"gain", Relative::kGain}}};
constexpr Names<ErrorKind, 2> kErrors = {{{"ratio", ErrorKind::kRatio}, {"difference", ErrorKind::kDifference}}};
constexpr Names<Bar::Of, 2> kBarOf = {{{"each", Bar::Of::kEach}, {"median", Bar::Of::kMedian}}};

constexpr NumberRange kPositive{.min = std::numeric_limits<double>::min(), .max = 1e9};

Bar read_bar(JsonObject object) {
  Bar bar{choice(object, "of", kBarOf), object.number("limit", kPositive)};
  object.refuse_unknown_keys();
  return bar;
}

FigurePoint read_point(JsonObject& object, FigurePoint point) {
  point.name = object.text("name");
  read_conditions(object, point);
  require_complete(object, point);
  if (object.has("measure")) point.measure = choice(object, "measure", kMeasures);
  if (point.measure == Measure::kOperators) point.operators = object.texts("operators");
  point.keeps_outputs = object.boolean_or("keeps_outputs", false);
  point.published = object.number("published", kPositive);
  object.refuse_unknown_keys();
  return point;
}

Figure read_figure(JsonObject& object) {
  Figure figure;
  figure.id = object.text("id");
  figure.title = object.text("title");
  figure.source = object.text("source");
  figure.note = object.text_or("note", "");
  if (object.has("relative")) figure.relative = choice(object, "relative", kRelatives);
  if (object.has("error")) figure.error = choice(object, "error", kErrors);
  if (auto bar = object.optional_object("bar")) figure.bar = read_bar(*bar);
  FigurePoint common;
  common.measure = choice(object, "measure", kMeasures);
  read_conditions(object, common);
  for (JsonObject& series_object : object.objects("series")) {
    FigureSeries series{series_object.text("name"), {}};
    FigurePoint shared = common;
    read_conditions(series_object, shared);
    for (JsonObject& point : series_object.objects("points")) series.points.push_back(read_point(point, shared));
    if (series.points.empty()) series_object.fail("points", "is empty");
    series_object.refuse_unknown_keys();
    figure.series.push_back(series);
  }
  object.refuse_unknown_keys();
  return figure;
}

RunBar read_run_bar(JsonObject& object) {
  RunBar bar;
  bar.title = object.text("title");
  bar.runs = object.text("runs");
  bar.over = object.text_or("over", "");
  if (!bar.over.empty()) bar.ratio = object.number("ratio", kPositive);
  bar.bar = read_bar(object.object("bar"));
  object.refuse_unknown_keys();
  return bar;
}

}  // namespace

FigureSet parse_figures(const std::string& name, std::string_view json_text) {
  const JsonDocument document(name, json_text);
  JsonObject root = document.root();
  root.integer("schema_version", {.min = 1, .max = 1});
  FigureSet set;
  for (JsonObject& object : root.objects("run_bars")) set.run_bars.push_back(read_run_bar(object));
  for (JsonObject& object : root.objects("figures")) set.figures.push_back(read_figure(object));
  root.refuse_unknown_keys();
  return set;
}

FigureSet read_figures(const std::string& path) {
  const std::string text = read_text_file(path);
  return parse_figures(path, text);
}

}  // namespace msmoe::simulator::validation
