// What one training step tells, once all ranks' shares are summed; step_line.h, jsonl_metrics.h and
// tensorboard_events.h write it down.
//
// MFU is the share of the hardware's peak that the model's own FLOPs make up, counted as everywhere in msmoe:
// flops_per_token() of core/model.h (6 per active matrix parameter, causal attention at half of the square, no
// recomputation) times tokens per second, over the dense peak of the compute dtype on all GPUs (PaLM, arXiv 2204.02311,
// appendix B). Prediction::mfu() of the simulator is the same number, so predicted and measured compare.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/units.h"

namespace msmoe::executor {

struct StepMetrics {
  std::int64_t step = 0;                        // counted from 1 over all runs of the training
  double loss = 0;                              // cross entropy, nats per token
  std::optional<double> auxiliary_loss{};       // load balance, weighted as it is added to the loss; none: no experts
  std::optional<double> z_loss{};               // of the router, weighted likewise; none: not used
  double gradient_norm = 0;                     // before clipping
  double learning_rate = 0;                     // of this step's update
  std::int64_t tokens = 0;                      // of the global batch
  Duration time{};                              // from the end of the step before to the end of this one
  Bytes peak_memory{};                          // of the fullest GPU, since the training began
  std::optional<double> largest_expert_load{};  // rows of the fullest expert over the mean; of the worst layer
  std::int64_t dropped_tokens = 0;              // (token, expert) pairs that found no room
  bool has_nan = false;                         // seen anywhere in the step: activations, gradients
  bool has_inf = false;
};

// What MFU divides by. A peak of 0 (a CPU) has no MFU.
struct MfuBasis {
  Flops flops_per_token{};
  FlopsPerSecond peak_per_gpu{};  // dense, of the compute dtype
  std::int64_t gpus = 1;
};

double tokens_per_second(const StepMetrics& metrics);  // 0 where the step took no time that the clock could see
FlopsPerSecond model_flops_per_gpu(const MfuBasis& basis, double tokens_per_second);
std::optional<double> mfu(const MfuBasis& basis, double tokens_per_second);

// One line for the head of a log, so that nobody has to ask which MFU it is.
std::string describe_mfu(const MfuBasis& basis);

// The values of a step under the names that all files use, units in the names; in a fixed order, "step" first.
struct NamedValue {
  enum class Kind : std::uint8_t { kReal, kWhole, kFlag };
  const char* name;
  Kind kind;
  std::optional<double> value;  // whole numbers are exact up to 2^53; none: the model or the machine has no such value
};
std::vector<NamedValue> named_values(const StepMetrics& metrics, const MfuBasis& basis);

// What is wrong with the numbers: "NaN in loss and gradient_norm". Empty where all are finite.
std::string describe_nonsense(const StepMetrics& metrics);

}  // namespace msmoe::executor
