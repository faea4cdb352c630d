#include "reports/table.h"

#include <gtest/gtest.h>

namespace msmoe::reports {
namespace {

Table plans() {
  Table table({{"plan"}, {"step (s)", Table::Align::kRight}, {"why"}});
  table.add_row({"SP8 + EP8, PP15", "4.02", "best"});
  table.add_row({"TP8, PP15", "11.5", "all-reduce on every layer is exposed"});
  return table;
}

TEST(Table, ColumnsAreAsWideAsTheirCells) {
  Table table = plans();
  table.set_title("Best plans");
  EXPECT_EQ(table.to_text(),
            "Best plans\n"
            "plan             step (s)  why\n"
            "---------------  --------  ------------------------------------\n"
            "SP8 + EP8, PP15      4.02  best\n"
            "TP8, PP15            11.5  all-reduce on every layer is exposed\n");
}

// 50 columns less 15 + 2 + 8 + 2 leave 23 for the last: "all-reduce on every" is 19, with " layer" it would be 25.
TEST(Table, LastColumnWraps) {
  EXPECT_EQ(plans().to_text({.width = 50}),
            "plan             step (s)  why\n"
            "---------------  --------  -----------------------\n"
            "SP8 + EP8, PP15      4.02  best\n"
            "TP8, PP15            11.5  all-reduce on every\n"
            "                           layer is exposed\n");
}

// 20 characters and "..." in 23 columns.
TEST(Table, LastColumnTruncates) {
  EXPECT_EQ(plans().to_text({.width = 50, .overflow = Table::Overflow::kTruncate}),
            "plan             step (s)  why\n"
            "---------------  --------  -----------------------\n"
            "SP8 + EP8, PP15      4.02  best\n"
            "TP8, PP15            11.5  all-reduce on every ...\n");
}

// 27 columns go to the others, so nothing would be left of 20: the last column keeps its 16.
TEST(Table, LastColumnStaysReadableOnANarrowTerminal) {
  Table table({{"plan"}, {"why"}});
  table.add_row({"SP8 + EP8, PP15, DP12", "one two three four five"});
  EXPECT_EQ(table.to_text({.width = 20}),
            "plan                   why\n"
            "---------------------  ----------------\n"
            "SP8 + EP8, PP15, DP12  one two three\n"
            "                       four five\n");
}

TEST(Table, RuleBeforeATotalAndMissingCells) {
  Table table({{"row"}, {"GiB", Table::Align::kRight}});
  table.add_row({"parameters", "21.4"});
  table.add_row({"unknown"});
  table.add_rule();
  table.add_row({"total", "21.4"});
  EXPECT_EQ(table.to_text(),
            "row          GiB\n"
            "----------  ----\n"
            "parameters  21.4\n"
            "unknown\n"
            "----------  ----\n"
            "total       21.4\n");
  EXPECT_EQ(table.to_csv(), "row,GiB\nparameters,21.4\nunknown,\ntotal,21.4\n");
}

TEST(Table, ACellCannotBreakALine) {
  Table table({{"file"}});
  table.add_row({"a\nb\x1b[1m"});
  EXPECT_EQ(table.to_text(), "file\n-------\na b [1m\n");
}

TEST(Table, StyleMarksTitleAndHeaders) {
  Table table({{"a"}});
  table.set_title("T");
  table.add_row({"1"});
  EXPECT_EQ(table.to_text({.style = Style(true)}), "\x1b[1mT\x1b[0m\n\x1b[2ma\x1b[0m\n-\n1\n");
}

// RFC 4180, section 2: fields with a comma, a quote or a line break stand in quotes; a quote inside is doubled.
TEST(Table, CsvQuotesWhatNeedsIt) {
  Table table({{"plan"}, {"step_s"}});
  table.add_row({"SP8, EP8", "4.02"});
  table.add_row({"say \"hi\"", "two\nlines"});
  table.add_row({"plain words", ""});
  EXPECT_EQ(table.to_csv(),
            "plan,step_s\n"
            "\"SP8, EP8\",4.02\n"
            "\"say \"\"hi\"\"\",\"two\nlines\"\n"
            "plain words,\n");
}

}  // namespace
}  // namespace msmoe::reports
