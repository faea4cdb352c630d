#include "simulator/validation/figure_report.h"

#include <fmt/format.h>

#include "simulator/validation/rounding.h"

namespace msmoe::simulator::validation {
namespace {

using Json = nlohmann::ordered_json;

const char* of_name(Bar::Of of) { return of == Bar::Of::kEach ? "each" : "median"; }

std::string error_text(ErrorKind kind, double error) {
  return kind == ErrorKind::kRatio ? percent(error) : fmt::format("{:+.3f}", error);
}

}  // namespace

Json figures_json(const std::vector<Figure>& figures, const std::vector<std::vector<FigureValue>>& values) {
  Json list = Json::array();
  for (std::size_t figure_idx = 0; figure_idx < figures.size(); ++figure_idx) {
    Json points = Json::array();
    for (const FigureValue& value : values[figure_idx]) {
      Json point = {{"series", value.series->name},
                    {"point", value.point->name},
                    {"published", value.point->published},
                    {"predicted", rounded(value.predicted)}};
      if (value.compared) point["error"] = rounded(value.error);
      points.push_back(point);
    }
    list.push_back({{"id", figures[figure_idx].id}, {"source", figures[figure_idx].source}, {"points", points}});
  }
  return list;
}

Json bars_json(const std::vector<BarResult>& bars) {
  Json list = Json::array();
  for (const BarResult& bar : bars)
    list.push_back({{"bar", bar.title},
                    {"of", of_name(bar.bar.of)},
                    {"limit", bar.bar.limit},
                    {"reached", rounded(bar.worst)},
                    {"values", bar.values},
                    {"holds", bar.holds()}});
  return list;
}

std::string bars_markdown(const std::vector<BarResult>& bars) {
  std::string text =
      "\n## Bars\n\nAn error has to be within the limit: of each value, or of the median of their sizes.\n\n"
      "| bar | values | of | limit | reached | holds |\n|---|---|---|---|---|---|\n";
  for (const BarResult& bar : bars)
    text += fmt::format("| {} | {} | {} | {:.3g} | {:.3f} | {} |\n", bar.title, bar.values, of_name(bar.bar.of),
                        bar.bar.limit, bar.worst, bar.holds() ? "yes" : "**no**");
  return text;
}

std::string figures_markdown(const std::vector<Figure>& figures, const std::vector<std::vector<FigureValue>>& values) {
  std::string text = "\n## Figures\n";
  for (std::size_t figure_idx = 0; figure_idx < figures.size(); ++figure_idx) {
    const Figure& figure = figures[figure_idx];
    text +=
        fmt::format("\n### {}\n\n{}.{}\n\n| series | point | published | predicted | error |\n|---|---|---|---|---|\n",
                    figure.title, figure.source, figure.note.empty() ? "" : " " + figure.note + ".");
    for (const FigureValue& value : values[figure_idx])
      text += fmt::format("| {} | {} | {:.4g} | {:.4g} | {} |\n", value.series->name, value.point->name,
                          value.point->published, value.predicted,
                          value.compared ? error_text(figure.error, value.error) : "");
  }
  return text;
}

}  // namespace msmoe::simulator::validation
