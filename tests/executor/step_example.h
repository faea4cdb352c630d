// A step whose numbers are easy to follow, for the tests of executor/telling.
#pragma once

#include "executor/telling/step_metrics.h"

namespace msmoe::executor {

// 3 GFLOPs a token at 100,000 tokens/s on two GPUs are 150 TFLOPS each; of 600 that is a quarter.
inline const MfuBasis kExampleBasis{.flops_per_token = {3e9}, .peak_per_gpu = {600e12}, .gpus = 2};

inline StepMetrics example_step(std::int64_t step, Duration time = seconds(0.5)) {
  return {.step = step,
          .loss = 10.75,
          .auxiliary_loss = 0.0119,
          .z_loss = 0.001,
          .gradient_norm = 4.875,
          .learning_rate = 6e-6,
          .tokens = 50'000,
          .time = time,
          .peak_memory = {1024},
          .largest_expert_load = 2.95};
}

}  // namespace msmoe::executor
