#include "reports/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <chrono>
#include <cstdio>

#include "reports/style.h"
#include "reports/text.h"

namespace msmoe::reports {
namespace {

using namespace std::chrono_literals;

constexpr Duration kBarInterval = 100ms;
constexpr Duration kFirstLineAfter = 1s;
constexpr Duration kLineInterval = 2s;

constexpr std::string_view kWipeLine = "\r\x1b[K";
constexpr int kNarrowestBar = 20;

Duration first_draw_after(Progress::Mode mode) { return mode == Progress::Mode::kBar ? kBarInterval : kFirstLineAfter; }
Duration interval(Progress::Mode mode) { return mode == Progress::Mode::kBar ? kBarInterval : kLineInterval; }

std::string time_left_text(double left) {
  if (left < 60) return fmt::format("{:.1f} s", left);
  const auto whole = static_cast<std::int64_t>(left);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole % 3600 / 60);
}

}  // namespace

Progress::Output Progress::standard_error() {
  // Counted from now: picoseconds since the machine's start may not fit, a search's do.
  const auto start = std::chrono::steady_clock::now();
  return {
      .mode = is_smart_terminal(STDERR_FILENO) ? Mode::kBar : Mode::kLines,
      .width = terminal_width(STDERR_FILENO),
      .sink =
          [](std::string_view text) {
            std::fwrite(text.data(), 1, text.size(), stderr);
            std::fflush(stderr);
          },
      .clock = [start] { return std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now() - start); },
  };
}

Progress::Progress(std::int64_t total, Output output)
    : total_(total), output_(std::move(output)), start_(output_.mode == Mode::kQuiet ? Duration{} : output_.clock()) {
  assert(total >= 0);
  next_draw_ = (start_ + first_draw_after(output_.mode)).count();
}

void Progress::advance(std::int64_t steps) {
  done_.fetch_add(steps, std::memory_order_relaxed);
  if (output_.mode == Mode::kQuiet) return;
  const Duration now = output_.clock();
  if (now.count() < next_draw_.load(std::memory_order_relaxed)) return;
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return;  // another thread is drawing
  if (finished_ || now.count() < next_draw_.load(std::memory_order_relaxed)) return;
  next_draw_.store((now + interval(output_.mode)).count(), std::memory_order_relaxed);
  draw(now);
}

void Progress::set_note(std::string note) {
  const std::lock_guard lock(mutex_);
  note_ = std::move(note);
}

void Progress::finish() {
  const std::lock_guard lock(mutex_);
  if (bar_is_shown_) output_.sink(kWipeLine);
  bar_is_shown_ = false;
  finished_ = true;
}

// REQUIRES: mutex_ is held.
void Progress::draw(Duration now) {
  const std::string text = printable(status(now));
  if (output_.mode == Mode::kLines) {
    output_.sink(text + '\n');
    return;
  }
  // The last column stays free: a full line makes some terminals wrap, and the bar would climb.
  const int width = output_.width > 0 ? std::max(output_.width - 1, kNarrowestBar) : text_width(text);
  output_.sink(std::string(kWipeLine) + truncate(text, std::max(width, 3)));
  bar_is_shown_ = true;
}

std::string Progress::status(Duration now) const {
  const std::int64_t done = done_.load(std::memory_order_relaxed);
  const std::string note = note_.empty() ? "" : " " + note_;
  if (total_ == 0) return fmt::format("[{}]{}", with_commas(done), note);

  // Rounded down: 100% means done.
  const double fraction = std::min(1.0, static_cast<double>(done) / static_cast<double>(total_));
  std::string text =
      fmt::format("[{}/{}] {}%{}", with_commas(done), with_commas(total_), static_cast<int>(100 * fraction), note);
  if (fraction > 0) {
    const double left = to_seconds(now - start_) * (1 - fraction) / fraction;
    text += fmt::format("{} {} left", note.empty() ? "" : ",", time_left_text(left));
  }
  return text;
}

}  // namespace msmoe::reports
