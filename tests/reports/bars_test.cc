#include "reports/bars.h"

#include <gtest/gtest.h>

namespace msmoe::reports {
namespace {

// The sum is 4: 50%, 25%, 24.9% and 0.1%. Of 20 characters the largest takes all, 1.0 takes 10, 0.996 takes
// 9.96 = 10, and 0.004, 0.04 of a character, takes the one that says it is there.
TEST(Bars, ScaledToTheLargestWithPercentOfTheSum) {
  EXPECT_EQ(render_bars({{"expert GEMM", 2.0, "2.00 s"},
                         {"attention", 1.0, "1.00 s"},
                         {"all-to-all", 0.996, "996 ms"},
                         {"norm", 0.004, "4 ms"},
                         {"bubble", 0, "0 s"}},
                        {.width = 20}),
            "expert GEMM  2.00 s   50%  ####################\n"
            "attention    1.00 s   25%  ##########\n"
            "all-to-all   996 ms   25%  ##########\n"
            "norm           4 ms   <1%  #\n"
            "bubble          0 s    0%\n");
}

// 20 of 80 GiB is a quarter, although it is the only row.
TEST(Bars, PercentOfAWhole) {
  EXPECT_EQ(render_bars({{"parameters", 20, "20.0 GiB"}}, {.width = 8, .whole = 80}),
            "parameters  20.0 GiB   25%  ########\n");
}

TEST(Bars, NotesAreAColumnOfTheirOwn) {
  EXPECT_EQ(render_bars({{"a", 1, "1 s", "measured"}, {"b", 1, "1 s", ""}}, {.width = 2}),
            "a  1 s   50%  measured  ##\n"
            "b  1 s   50%            ##\n");
}

TEST(Bars, NothingIsNothing) {
  EXPECT_EQ(render_bars({}), "");
  EXPECT_EQ(render_bars({{"a", 0, "0"}}), "a  0    0%\n");
}

}  // namespace
}  // namespace msmoe::reports
