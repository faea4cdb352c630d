#include "executor/telling/step_metrics.h"

#include <fmt/format.h>

#include <cmath>

#include "core/error.h"
#include "core/units_text.h"

namespace msmoe::executor {
namespace {

struct Reading {
  const char* name;
  double value;
};

// Those that a diverging training spoils.
std::vector<Reading> readings(const StepMetrics& metrics) {
  return {{"loss", metrics.loss},
          {"auxiliary_loss", metrics.auxiliary_loss.value_or(0)},
          {"z_loss", metrics.z_loss.value_or(0)},
          {"gradient_norm", metrics.gradient_norm},
          {"learning_rate", metrics.learning_rate},
          {"largest_expert_load_over_mean", metrics.largest_expert_load.value_or(0)}};
}

// "NaN in loss and gradient_norm"; `elsewhere`: seen in the step, though perhaps in none of its readings.
std::string spoilt(const StepMetrics& metrics, const char* what, bool (*is_bad)(double), bool elsewhere) {
  std::vector<std::string> names;
  for (const Reading& reading : readings(metrics))
    if (is_bad(reading.value)) names.emplace_back(reading.name);
  if (names.empty()) return elsewhere ? fmt::format("{} inside the step", what) : "";
  return fmt::format("{} in {}", what, join(names, " and "));
}

bool is_nan(double value) { return std::isnan(value); }
bool is_inf(double value) { return std::isinf(value); }

}  // namespace

double tokens_per_second(const StepMetrics& metrics) {
  return metrics.time.count() > 0 ? static_cast<double>(metrics.tokens) / to_seconds(metrics.time) : 0;
}

FlopsPerSecond model_flops_per_gpu(const MfuBasis& basis, double tokens_per_second) {
  return {basis.flops_per_token.count * tokens_per_second / static_cast<double>(basis.gpus)};
}

std::optional<double> mfu(const MfuBasis& basis, double tokens_per_second) {
  if (!(basis.peak_per_gpu.count > 0)) return std::nullopt;
  return model_flops_per_gpu(basis, tokens_per_second) / basis.peak_per_gpu;
}

std::string describe_mfu(const MfuBasis& basis) {
  const std::string work = fmt::format(
      "{} FLOPs a token (6 per active matrix parameter, causal attention at half of the square, no recomputation)",
      format_count(basis.flops_per_token.count));
  if (!(basis.peak_per_gpu.count > 0)) return work + "; no MFU: the peak of this machine is not known";
  return fmt::format("MFU: {} against {:.0f} dense TFLOPS on each of {} GPUs", work, basis.peak_per_gpu.count / 1e12,
                     basis.gpus);
}

std::vector<NamedValue> named_values(const StepMetrics& metrics, const MfuBasis& basis) {
  using enum NamedValue::Kind;
  const auto whole = [](std::int64_t count) { return static_cast<double>(count); };
  const double rate = tokens_per_second(metrics);
  const auto is_any = [all = readings(metrics)](bool (*is_bad)(double)) {
    for (const Reading& reading : all)
      if (is_bad(reading.value)) return true;
    return false;
  };
  return {{"step", kWhole, whole(metrics.step)},
          {"loss", kReal, metrics.loss},
          {"auxiliary_loss", kReal, metrics.auxiliary_loss},
          {"z_loss", kReal, metrics.z_loss},
          {"gradient_norm", kReal, metrics.gradient_norm},
          {"learning_rate", kReal, metrics.learning_rate},
          {"tokens", kWhole, whole(metrics.tokens)},
          {"step_seconds", kReal, to_seconds(metrics.time)},
          {"tokens_per_second", kReal, rate},
          {"tokens_per_second_per_gpu", kReal, rate / whole(basis.gpus)},
          {"model_tflops_per_gpu", kReal, model_flops_per_gpu(basis, rate).count / 1e12},
          {"mfu", kReal, mfu(basis, rate)},
          {"peak_memory_bytes_per_gpu", kWhole, metrics.peak_memory.count},
          {"largest_expert_load_over_mean", kReal, metrics.largest_expert_load},
          {"dropped_tokens", kWhole, whole(metrics.dropped_tokens)},
          {"has_nan", kFlag, metrics.has_nan || is_any(is_nan)},
          {"has_inf", kFlag, metrics.has_inf || is_any(is_inf)}};
}

std::string describe_nonsense(const StepMetrics& metrics) {
  const std::string nan = spoilt(metrics, "NaN", is_nan, metrics.has_nan);
  const std::string inf = spoilt(metrics, "infinity", is_inf, metrics.has_inf);
  return nan.empty() || inf.empty() ? nan + inf : nan + ", " + inf;
}

}  // namespace msmoe::executor
