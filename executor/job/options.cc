#include "executor/job/options.h"

#include <fmt/format.h>

#include <cmath>
#include <numbers>

#include "core/error.h"

namespace msmoe::executor {
namespace {

void check(bool holds, const char* flag, double value, const char* allowed) {
  if (!holds) throw UserError("", flag, fmt::format("{} is out of range", value), allowed);
}

}  // namespace

void check_options(const RunOptions& o) {
  check(o.steps >= 1, "--steps", static_cast<double>(o.steps), "1 or more");
  check(o.checkpoint_every >= 0, "--checkpoint-every", static_cast<double>(o.checkpoint_every), "0 or more steps");
  check(std::isfinite(o.rate) && o.rate >= 0, "--lr", o.rate, "0 or more");
  check(std::isfinite(o.min_rate) && o.min_rate >= 0 && o.min_rate <= o.rate, "--min-lr", o.min_rate, "0 to --lr");
  check(o.warmup >= 0 && o.warmup <= o.steps, "--warmup", static_cast<double>(o.warmup), "0 to --steps");
  check(std::isfinite(o.decay) && o.decay >= 0, "--weight-decay", o.decay, "0 or more");
  check(o.beta1 >= 0 && o.beta1 < 1, "--beta1", o.beta1, "0 to below 1");
  check(o.beta2 >= 0 && o.beta2 < 1, "--beta2", o.beta2, "0 to below 1");
  check(std::isfinite(o.epsilon) && o.epsilon > 0, "--epsilon", o.epsilon, "more than 0");
  check(std::isfinite(o.clip) && o.clip >= 0, "--clip", o.clip, "0 (no clipping) or more");
  check(!o.auxiliary || (std::isfinite(*o.auxiliary) && *o.auxiliary >= 0), "--aux-loss", o.auxiliary.value_or(0),
        "0 or more");
  check(std::isfinite(o.z) && o.z >= 0, "--z-loss", o.z, "0 or more");
  check(std::isfinite(o.bias_rate) && o.bias_rate >= 0, "--balance-rate", o.bias_rate, "0 or more");
  check(o.validate_every >= 0, "--validate-every", static_cast<double>(o.validate_every), "0 or more steps");
  check(o.validation_batches >= 1, "--validation-batches", static_cast<double>(o.validation_batches), "1 or more");
  check(!o.nproc || *o.nproc >= 1, "--nproc", o.nproc.value_or(0), "1 or more");
  if (!o.backend.empty() && o.backend != "cpu" && o.backend != "cuda")
    throw UserError("", "--backend", fmt::format("\"{}\" is unknown", excerpt(o.backend)), "cpu or cuda");
  if (o.resume && o.checkpoint_dir.empty())
    throw UserError("", "--resume", "there is no folder to resume from", "give --checkpoint-dir, too");
  if (o.checkpoint_every > 0 && o.checkpoint_dir.empty())
    throw UserError("", "--checkpoint-every", "there is no folder for checkpoints", "give --checkpoint-dir, too");
}

double learning_rate(const RunOptions& options, std::int64_t step) {
  if (step < options.warmup) return options.rate * static_cast<double>(step) / static_cast<double>(options.warmup);
  const auto rest = static_cast<double>(options.steps - options.warmup);
  const double progress = rest > 0 ? static_cast<double>(step - options.warmup) / rest : 1;
  return options.min_rate + (options.rate - options.min_rate) / 2 * (1 + std::cos(std::numbers::pi * progress));
}

}  // namespace msmoe::executor
