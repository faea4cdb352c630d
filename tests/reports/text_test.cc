#include "reports/text.h"

#include <gtest/gtest.h>

namespace msmoe::reports {
namespace {

using Lines = std::vector<std::string>;

// "é" is two bytes and one code point.
TEST(Text, WidthCountsCodePoints) {
  EXPECT_EQ(text_width("modèle"), 6);
  EXPECT_EQ(pad_right("é", 3), "é  ");
  EXPECT_EQ(pad_left("é", 3), "  é");
  EXPECT_EQ(pad_left("long", 2), "long");
}

TEST(Text, TruncateNeverSplitsACodePoint) {
  EXPECT_EQ(truncate("éééééé", 5), "éé...");
  EXPECT_EQ(truncate("fits!", 5), "fits!");
}

TEST(Text, WrapBreaksAtSpacesAndCutsLongWords) {
  EXPECT_EQ(wrap("one two three", 7), (Lines{"one two", "three"}));
  EXPECT_EQ(wrap("one two three", 6), (Lines{"one", "two", "three"}));
  EXPECT_EQ(wrap("abcdefgh ij", 3), (Lines{"abc", "def", "gh", "ij"}));
  EXPECT_EQ(wrap("", 3), (Lines{""}));
}

TEST(Text, ControlCharactersBecomeSpaces) { EXPECT_EQ(printable("a\x1b[2J\tb\n\x7f"), "a [2J b  "); }

TEST(Text, CommasEveryThreeDigits) {
  EXPECT_EQ(with_commas(0), "0");
  EXPECT_EQ(with_commas(999), "999");
  EXPECT_EQ(with_commas(1000), "1,000");
  EXPECT_EQ(with_commas(-123456), "-123,456");
  EXPECT_EQ(with_commas(9223372036854775807), "9,223,372,036,854,775,807");
}

}  // namespace
}  // namespace msmoe::reports
