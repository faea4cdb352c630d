#include "reports/table.h"

#include <algorithm>
#include <cassert>
#include <numeric>
#include <string_view>

#include "reports/text.h"

namespace msmoe::reports {
namespace {

constexpr std::string_view kGutter = "  ";

// Below this a wrapped column is harder to read than a line that the terminal breaks itself.
constexpr int kNarrowestLastColumn = 16;

std::string without_trailing_spaces(std::string text) {
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char character : text) {
    if (character == '"') quoted += '"';
    quoted += character;
  }
  return quoted + '"';
}

std::string csv_line(const std::vector<std::string>& fields) {
  std::string result;
  for (const std::string& field : fields) {
    if (&field != &fields.front()) result += ',';
    result += csv_field(field);
  }
  return result + '\n';
}

}  // namespace

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) { assert(!columns_.empty()); }

void Table::add_row(std::vector<std::string> cells) {
  assert(!cells.empty() && cells.size() <= columns_.size());
  cells.resize(columns_.size());
  rows_.push_back(std::move(cells));
}

void Table::add_rule() { rows_.emplace_back(); }

std::string Table::to_text(const TextOptions& options) const {
  const std::vector<int> widths = column_widths(options.width);
  const int last_width = widths.back();

  std::string text;
  if (!title_.empty()) text += options.style.bold(printable(title_)) + '\n';

  Row headers;
  for (const Column& column : columns_) headers.push_back(printable(column.header));
  text += options.style.dim(line(headers, widths)) + '\n' + rule(widths) + '\n';

  for (const Row& row : rows_) {
    if (row.empty()) {
      text += rule(widths) + '\n';
      continue;
    }
    Row cells;
    for (const std::string& cell : row) cells.push_back(printable(cell));
    const std::vector<std::string> last_lines = options.overflow == Overflow::kWrap
                                                    ? wrap(cells.back(), last_width)
                                                    : std::vector{truncate(cells.back(), last_width)};
    for (const std::string& last : last_lines) {
      cells.back() = last;
      text += line(cells, widths) + '\n';
      std::fill(cells.begin(), cells.end(), std::string());
    }
  }
  return text;
}

std::vector<int> Table::column_widths(int total_width) const {
  std::vector<int> widths;
  for (std::size_t column = 0; column < columns_.size(); ++column) {
    int width = text_width(columns_[column].header);
    for (const Row& row : rows_) {
      if (!row.empty()) width = std::max(width, text_width(row[column]));
    }
    widths.push_back(std::max(width, 1));
  }
  if (total_width > 0) {
    const int gutters = static_cast<int>(kGutter.size() * (widths.size() - 1));
    const int others = std::accumulate(widths.begin(), widths.end() - 1, gutters);
    const int narrowest = std::max(kNarrowestLastColumn, text_width(columns_.back().header));
    widths.back() = std::min(widths.back(), std::max(total_width - others, narrowest));
  }
  return widths;
}

std::string Table::line(const Row& cells, const std::vector<int>& widths) const {
  std::string text;
  for (std::size_t column = 0; column < cells.size(); ++column) {
    if (column > 0) text += kGutter;
    text += columns_[column].align == Align::kRight ? pad_left(cells[column], widths[column])
                                                    : pad_right(cells[column], widths[column]);
  }
  return without_trailing_spaces(std::move(text));
}

std::string Table::rule(const std::vector<int>& widths) const {
  std::string text;
  for (const int width : widths) {
    if (!text.empty()) text += kGutter;
    text += std::string(width, '-');
  }
  return text;
}

std::string Table::to_csv() const {
  Row headers;
  for (const Column& column : columns_) headers.push_back(column.header);
  std::string text = csv_line(headers);
  for (const Row& row : rows_) {
    if (!row.empty()) text += csv_line(row);
  }
  return text;
}

}  // namespace msmoe::reports
