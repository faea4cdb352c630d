#include "executor/telling/step_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/units_text.h"
#include "reports/text.h"

namespace msmoe::executor {
namespace {

using reports::pad_left;

constexpr int kLossWidth = 7;   // "10.9812"
constexpr int kRateWidth = 7;   // "999,999"
constexpr int kShareWidth = 5;  // "41.2%"
constexpr int kNormWidth = 5;   // "0.123"
constexpr int kAuxWidth = 6;    // "0.0123"
constexpr int kLoadWidth = 5;   // "12.3x"
constexpr int kTimeWidth = 8;   // "99.9 min"

// fmt's "nan" is easily taken for a word of the line.
std::string number(double value, const char* format) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-INF" : "INF";
  return fmt::format(fmt::runtime(format), value);
}

// A Duration holds 106 days, trainings may take longer.
std::string long_time(double value) {
  constexpr double kLongest = 9e6, kDay = 86400;
  return value < kLongest ? format_duration(seconds(value)) : format_count(value / kDay) + " days";
}

}  // namespace

StepLine::StepLine(StepLineOptions options)
    : options_(std::move(options)), seconds_per_step_(options_.window), tokens_per_second_(options_.window) {}

std::string StepLine::rates() const {
  const auto rate = tokens_per_second_.value();
  std::string text = "  " + pad_left(rate ? format_count(*rate) : "-", kRateWidth) + " tok/s";
  if (const auto share = mfu(options_.basis, rate.value_or(0)))
    text += "  " + pad_left(rate ? fmt::format("{:.1f}%", 100 * *share) : "-", kShareWidth) + " MFU";
  return text;
}

std::string StepLine::time_left(std::int64_t step) const {
  const auto per_step = seconds_per_step_.value();
  const auto steps_left = static_cast<double>(std::max<std::int64_t>(0, options_.last_step - step));
  return "  " + pad_left(per_step ? long_time(*per_step * steps_left) : "-", kTimeWidth) + " left";
}

std::string StepLine::tell(const StepMetrics& metrics) {
  const bool is_slow = ++steps_told_ <= options_.slow_steps;
  if (!is_slow) {
    seconds_per_step_.add(to_seconds(metrics.time));
    tokens_per_second_.add(tokens_per_second(metrics));
  }

  const std::string last = std::to_string(options_.last_step);
  std::string line = fmt::format("step {:>{}}/{}", metrics.step, last.size(), last);
  line += "  loss " + pad_left(number(metrics.loss, "{:.4f}"), kLossWidth);
  line += rates();
  line += "  norm " + pad_left(number(metrics.gradient_norm, "{:.3g}"), kNormWidth);
  line += "  lr " + number(metrics.learning_rate, "{:.2e}");
  if (metrics.auxiliary_loss) line += "  aux " + pad_left(number(*metrics.auxiliary_loss, "{:.4f}"), kAuxWidth);
  if (metrics.largest_expert_load)
    line += "  load " + pad_left(number(*metrics.largest_expert_load, "{:.2f}x"), kLoadWidth);
  line += time_left(metrics.step);

  if (is_slow) line += fmt::format("  (warm-up: {}, not averaged)", format_duration(metrics.time));
  if (metrics.dropped_tokens > 0)
    line += fmt::format("  {} tokens dropped", format_count(static_cast<double>(metrics.dropped_tokens)));
  if (const std::string nonsense = describe_nonsense(metrics); !nonsense.empty()) line += "  <-- " + nonsense;
  return line;
}

}  // namespace msmoe::executor
