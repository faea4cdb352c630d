#include "core/simulable.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/units_text.h"

namespace msmoe {

void require_simulable(const Model& model, const Cluster& cluster, const Plan& plan, const std::string& file) {
  constexpr double kLongestSecondsAtPeak = 7200;
  const double tokens = static_cast<double>(plan.global_batch) * static_cast<double>(plan.seq_len);
  const FlopsPerSecond peak = std::max(cluster.gpu.bf16_peak, cluster.gpu.fp32_peak);
  const double seconds_at_peak =
      flops_per_token(model, plan.seq_len).count * tokens / (peak.count * static_cast<double>(plan.gpus));
  if (seconds_at_peak <= kLongestSecondsAtPeak) return;
  throw UserError(file, "global_batch",
                  fmt::format("a step of {} sequences of {} tokens would take {} GPUs {:.3g} hours at their peak",
                              plan.global_batch, plan.seq_len, plan.gpus, seconds_at_peak / 3600),
                  "msmoe follows steps of up to 2 hours; use more GPUs, a smaller global_batch or shorter sequences");
}

}  // namespace msmoe
