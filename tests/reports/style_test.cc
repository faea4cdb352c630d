#include "reports/style.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace msmoe::reports {
namespace {

TEST(Style, AllowedOnATerminalAlone) {
  EXPECT_TRUE(style_allowed(true, nullptr, "xterm"));
  EXPECT_TRUE(style_allowed(true, nullptr, nullptr));
  EXPECT_FALSE(style_allowed(false, nullptr, "xterm"));
  EXPECT_FALSE(style_allowed(true, nullptr, "dumb"));
}

// no-color.org: "when present and not an empty string (regardless of its value)".
TEST(Style, NoColorCountsWhenNotEmpty) {
  EXPECT_FALSE(style_allowed(true, "1", "xterm"));
  EXPECT_FALSE(style_allowed(true, "0", "xterm"));
  EXPECT_TRUE(style_allowed(true, "", "xterm"));
}

TEST(Style, PlainTextPassesThrough) {
  EXPECT_EQ(Style(false).bold("x"), "x");
  EXPECT_EQ(Style(false).dim("x"), "x");
  EXPECT_EQ(Style(true).bold("x"), "\x1b[1mx\x1b[0m");
  EXPECT_EQ(Style(true).dim("x"), "\x1b[2mx\x1b[0m");
}

TEST(Style, AFileIsNoTerminal) {
  const int file = ::open("/dev/null", O_WRONLY);
  ASSERT_GE(file, 0);
  EXPECT_FALSE(Style::for_stream(file).enabled());
  EXPECT_FALSE(is_smart_terminal(file));
  EXPECT_EQ(terminal_width(file), 0);
  ::close(file);
}

// A pseudo-terminal is a terminal; the environment decides.
TEST(Style, ATerminalAsksTheEnvironment) {
  const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY);
  if (terminal < 0) GTEST_SKIP() << "no pseudo-terminals here";
  ::setenv("TERM", "xterm", 1);
  ::unsetenv("NO_COLOR");
  EXPECT_TRUE(Style::for_stream(terminal).enabled());
  EXPECT_TRUE(is_smart_terminal(terminal));
  ::setenv("NO_COLOR", "1", 1);
  EXPECT_FALSE(Style::for_stream(terminal).enabled());
  EXPECT_TRUE(is_smart_terminal(terminal));
  ::unsetenv("NO_COLOR");
  ::setenv("TERM", "dumb", 1);
  EXPECT_FALSE(Style::for_stream(terminal).enabled());
  EXPECT_FALSE(is_smart_terminal(terminal));
  ::close(terminal);
}

}  // namespace
}  // namespace msmoe::reports
