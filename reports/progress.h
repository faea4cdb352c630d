// Progress of a long search, on standard error.
//
//   [12,345/98,765] 12% best 4.02 s, 3.1 s left
//
// A terminal gets one line, rewritten ten times a second and wiped at the end, so that the result follows a clean
// screen. Anything else gets plain lines: the first after one second, then one every two seconds; a search that ends
// sooner leaves nothing.
//
// advance() and set_note() may be called from any thread; advance() takes a lock only when it draws.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>

#include "core/units.h"

namespace msmoe::reports {

class Progress {
 public:
  enum class Mode { kBar, kLines, kQuiet };

  // The outside world, so that tests can bring their own.
  struct Output {
    Mode mode = Mode::kQuiet;
    int width = 0;                               // of the terminal; 0: unknown
    std::function<void(std::string_view)> sink;  // called under a lock
    std::function<Duration()> clock;             // since any fixed moment; called by any thread
  };
  static Output standard_error();

  // total: the steps to come; 0: unknown, and then there is neither percentage nor time left.
  explicit Progress(std::int64_t total, Output output = standard_error());
  ~Progress() { finish(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void advance(std::int64_t steps = 1);
  // What to say besides the count: "best 4.02 s".
  void set_note(std::string note);
  // Wipes the bar. Nothing is drawn afterwards. May be called twice.
  void finish();

 private:
  void draw(Duration now);
  std::string status(Duration now) const;

  const std::int64_t total_;
  const Output output_;
  const Duration start_;
  std::atomic<std::int64_t> done_{0};
  std::atomic<std::int64_t> next_draw_;  // picoseconds of the clock

  std::mutex mutex_;  // guards what follows, and the sink
  std::string note_;
  bool bar_is_shown_ = false;
  bool finished_ = false;
};

}  // namespace msmoe::reports
