// A table: for people as aligned text, for programs as CSV.
//
//   Table table({{"plan"}, {"step (s)", Table::Align::kRight}});
//   table.set_title("Best plans");
//   table.add_row({"SP8 + EP8, PP15", "4.02"});
//   fmt::print("{}", table.to_text({.width = terminal_width(1)}));
//
//   Best plans
//   plan             step (s)
//   ---------------  --------
//   SP8 + EP8, PP15      4.02
//
// Columns are as wide as their widest cell. Only the last one yields when the whole is wider than asked.
#pragma once

#include <string>
#include <vector>

#include "reports/style.h"

namespace msmoe::reports {

class Table {
 public:
  enum class Align { kLeft, kRight };  // numbers go right
  enum class Overflow { kWrap, kTruncate };

  struct Column {
    std::string header;
    Align align = Align::kLeft;
  };

  struct TextOptions {
    int width = 0;  // columns of the terminal; 0: as wide as the cells
    Overflow overflow = Overflow::kWrap;
    Style style = {};  // title bold, headers dim
  };

  // REQUIRES: at least one column.
  explicit Table(std::vector<Column> columns);

  void set_title(std::string title) { title_ = std::move(title); }
  // Missing cells at the end are empty. REQUIRES: 1 to as many cells as columns.
  void add_row(std::vector<std::string> cells);
  // A line of dashes, before a total; CSV leaves it out.
  void add_rule();

  std::string to_text(const TextOptions& options) const;
  std::string to_text() const { return to_text(TextOptions{}); }

  // Header line first, no title; quoted as RFC 4180 says, lines ended by a bare "\n" as Unix tools expect.
  std::string to_csv() const;

 private:
  using Row = std::vector<std::string>;  // empty: a rule

  std::vector<int> column_widths(int total_width) const;
  std::string line(const Row& cells, const std::vector<int>& widths) const;
  std::string rule(const std::vector<int>& widths) const;

  std::string title_;
  std::vector<Column> columns_;
  std::vector<Row> rows_;
};

}  // namespace msmoe::reports
