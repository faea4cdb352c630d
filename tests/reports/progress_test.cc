#include "reports/progress.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>
#include <vector>

namespace msmoe::reports {
namespace {

using namespace std::chrono_literals;

// A screen that remembers and a clock that the test turns.
struct FakeTerminal {
  Duration now = 5s;  // the clock need not begin at zero
  std::string written;

  Progress::Output output(Progress::Mode mode, int width = 80) {
    return {.mode = mode,
            .width = width,
            .sink = [this](std::string_view text) { written += text; },
            .clock = [this] { return now; }};
  }
};

// 12,345 of 98,765 is 12.4998%. They took 0.4 s, so the other 86,420 take 0.4 s x 86420 / 12345 = 2.80 s.
TEST(Progress, ABarRewritesOneLine) {
  FakeTerminal terminal;
  Progress progress(98765, terminal.output(Progress::Mode::kBar));
  progress.set_note("best 4.02 s");
  terminal.now += 50ms;
  progress.advance(345);
  EXPECT_EQ(terminal.written, "");
  terminal.now += 350ms;
  progress.advance(12000);
  EXPECT_EQ(terminal.written, "\r\x1b[K[12,345/98,765] 12% best 4.02 s, 2.8 s left");

  terminal.written.clear();
  terminal.now += 99ms;
  progress.advance();
  EXPECT_EQ(terminal.written, "");

  progress.finish();
  EXPECT_EQ(terminal.written, "\r\x1b[K");
  progress.finish();
  terminal.now += 10s;
  progress.advance();
  EXPECT_EQ(terminal.written, "\r\x1b[K");
}

TEST(Progress, ABarThatNeverShowedLeavesNothing) {
  FakeTerminal terminal;
  {
    Progress progress(10, terminal.output(Progress::Mode::kBar));
    terminal.now += 90ms;
    progress.advance(10);
  }
  EXPECT_EQ(terminal.written, "");
}

TEST(Progress, TheDestructorWipesTheBar) {
  FakeTerminal terminal;
  {
    Progress progress(10, terminal.output(Progress::Mode::kBar));
    terminal.now += 1s;
    progress.advance(5);
  }
  EXPECT_EQ(terminal.written, "\r\x1b[K[5/10] 50% 1.0 s left\r\x1b[K");
}

// 30 columns leave 29 for text: 26 characters and "...".
TEST(Progress, ABarFitsTheTerminal) {
  FakeTerminal terminal;
  Progress progress(10, terminal.output(Progress::Mode::kBar, 30));
  progress.set_note("best 4.02 s of 120 plans");
  terminal.now += 1s;
  progress.advance(5);
  EXPECT_EQ(terminal.written, "\r\x1b[K[5/10] 50% best 4.02 s of ...");
}

// Lines at 1 s, 3 s and 5 s. At 1 s 10 of 100 are done, 9 s are left; at 3 s 30, 7 s; at 5 s 50, 5 s.
TEST(Progress, LinesComeEveryTwoSeconds) {
  FakeTerminal terminal;
  Progress progress(100, terminal.output(Progress::Mode::kLines));
  for (int step = 0; step < 59; ++step) {
    terminal.now += 100ms;
    progress.advance();
  }
  progress.finish();
  EXPECT_EQ(terminal.written, "[10/100] 10% 9.0 s left\n[30/100] 30% 7.0 s left\n[50/100] 50% 5.0 s left\n");
}

TEST(Progress, NoLineWhereTheSearchEndsWithinASecond) {
  FakeTerminal terminal;
  {
    Progress progress(100, terminal.output(Progress::Mode::kLines));
    terminal.now += 999ms;
    progress.advance(100);
  }
  EXPECT_EQ(terminal.written, "");
}

// After 10 s 1 of 13 is done: 120 s are left. After 20 s 2 of 3602: 36,000 s.
TEST(Progress, LongWaitsAreInMinutesAndHours) {
  FakeTerminal terminal;
  Progress minutes(13, terminal.output(Progress::Mode::kLines));
  Progress hours(3602, terminal.output(Progress::Mode::kLines));
  terminal.now += 10s;
  minutes.advance();
  terminal.now += 10s;
  hours.advance(2);
  EXPECT_EQ(terminal.written, "[1/13] 7% 2 min 00 s left\n[2/3,602] 0% 10 h 00 min left\n");
}

TEST(Progress, AnUnknownTotalShowsTheCount) {
  FakeTerminal terminal;
  Progress progress(0, terminal.output(Progress::Mode::kLines));
  progress.set_note("best 4.02 s");
  terminal.now += 1s;
  progress.advance(1234);
  EXPECT_EQ(terminal.written, "[1,234] best 4.02 s\n");
}

TEST(Progress, MoreStepsThanPromisedStayAtAHundredPercent) {
  FakeTerminal terminal;
  Progress progress(10, terminal.output(Progress::Mode::kLines));
  terminal.now += 1s;
  progress.advance(11);
  EXPECT_EQ(terminal.written, "[11/10] 100% 0.0 s left\n");
}

TEST(Progress, QuietSaysNothingAndNeedsNoClock) {
  Progress progress(10, Progress::Output{});
  progress.advance(10);
  progress.finish();
}

// Four threads count to 4 x 10,000 while the clock makes every call due; the last call alone sees all of them.
TEST(Progress, ThreadsLoseNoStep) {
  std::atomic<std::int64_t> ticks{0};
  std::vector<std::string> lines;  // guarded by the lock around the sink
  Progress progress(40001, {.mode = Progress::Mode::kLines,
                            .sink = [&](std::string_view text) { lines.emplace_back(text); },
                            .clock = [&] { return Duration{3s} * ++ticks; }});
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&progress] {
      for (int step = 0; step < 10000; ++step) {
        progress.advance();
        if (step % 100 == 0) progress.set_note("best");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  progress.advance();
  EXPECT_EQ(lines.back(), "[40,001/40,001] 100% best, 0.0 s left\n");
}

}  // namespace
}  // namespace msmoe::reports
