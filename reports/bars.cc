#include "reports/bars.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cmath>

#include "reports/text.h"

namespace msmoe::reports {
namespace {

std::string percent_text(double value, double whole) {
  if (value == 0 || whole <= 0) return "0%";
  const double percent = 100 * value / whole;
  return percent < 0.5 ? "<1%" : fmt::format("{:.0f}%", percent);
}

std::string marks(double value, double largest, int width) {
  if (value == 0) return {};
  return std::string(std::max(1, static_cast<int>(std::lround(value / largest * width))), '#');
}

}  // namespace

std::string render_bars(const std::vector<Bar>& bars, const BarOptions& options) {
  double sum = 0;
  double largest = 0;
  int label_width = 0;
  int text_column = 0, note_column = 0;
  for (const Bar& bar : bars) {
    assert(std::isfinite(bar.value) && bar.value >= 0);
    sum += bar.value;
    largest = std::max(largest, bar.value);
    label_width = std::max(label_width, text_width(bar.label));
    text_column = std::max(text_column, text_width(bar.text));
    note_column = std::max(note_column, text_width(bar.note));
  }
  const double whole = options.whole > 0 ? options.whole : sum;

  std::string result;
  for (const Bar& bar : bars) {
    std::string line = fmt::format("{}  {}  {:>4}  ", pad_right(printable(bar.label), label_width),
                                   pad_left(printable(bar.text), text_column), percent_text(bar.value, whole));
    if (note_column > 0) line += pad_right(printable(bar.note), note_column) + "  ";
    line += marks(bar.value, largest, options.width);
    line.erase(line.find_last_not_of(' ') + 1);
    result += line + '\n';
  }
  return result;
}

}  // namespace msmoe::reports
