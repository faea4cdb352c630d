#include <algorithm>
#include <cmath>

#include "kernels/cpu/operators.h"

namespace msmoe::kernels::cpu {

void run(const CrossEntropy& operation, const Check& check) {
  const auto& [logits, targets, maximum, exp_sum, target_logit, first_id] = operation;
  check.matrix("logits", logits);
  const std::int64_t tokens = logits.rows, shard = logits.columns;
  check.positive("the number of columns", shard);
  check.integers("targets", targets, 1, tokens);
  check.matrix("maximum", maximum, 1, tokens);
  check.matrix("exp_sum", exp_sum, 1, tokens);
  check.matrix("target_logit", target_logit, 1, tokens);
  for (std::int64_t token = 0; token < tokens; ++token) {
    const float* mine = row(logits, token);
    const float largest = *std::max_element(mine, mine + shard);
    double sum = 0;
    for (std::int64_t i = 0; i < shard; ++i) sum += std::exp(static_cast<double>(mine[i]) - largest);
    const std::int64_t target = targets.as<std::int32_t>()[token];
    const bool here = target >= std::max<std::int64_t>(first_id, 0) && target < first_id + shard;
    maximum.as<float>()[token] = largest;
    exp_sum.as<float>()[token] = static_cast<float>(sum);
    target_logit.as<float>()[token] = here ? mine[target - first_id] : 0;
  }
}

void run(const CrossEntropyBackward& operation, const Check& check) {
  const auto& [targets, maximum, exp_sum, logits, first_id, scale] = operation;
  check.matrix("logits", logits);
  const std::int64_t tokens = logits.rows;
  check.integers("targets", targets, 1, tokens);
  check.matrix("maximum", maximum, 1, tokens);
  check.matrix("exp_sum", exp_sum, 1, tokens);
  for (std::int64_t token = 0; token < tokens; ++token) {
    const std::int64_t target = targets.as<std::int32_t>()[token];
    const double largest = maximum.as<float>()[token], sum = exp_sum.as<float>()[token];
    float* mine = row(logits, token);
    for (std::int64_t i = 0; i < logits.columns; ++i) {
      const double probability = std::exp(mine[i] - largest) / sum;
      const double wanted = target - first_id == i ? 1 : 0;
      mine[i] = target < 0 ? 0 : static_cast<float>((probability - wanted) * scale);
    }
  }
}

}  // namespace msmoe::kernels::cpu
