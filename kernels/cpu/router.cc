#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include "kernels/cpu/operators.h"

namespace msmoe::kernels::cpu {
namespace {

// Keeps the gates of a token finite when all its scores vanish, as in DeepSeek-V3's own code.
constexpr double kTinySum = 1e-20;

double log_sum_exp(std::span<const float> logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  return largest + std::log(sum);
}

std::span<float> span_of(const View& view, std::int64_t index) {
  return {row(view, index), static_cast<std::size_t>(view.columns)};
}

float number_or_lowest(float value) { return std::isnan(value) ? -std::numeric_limits<float>::infinity() : value; }

// The `count` of these candidates with the largest values, best first; of equals the lower number first. Candidates
// come in order, and no value is NaN.
std::vector<std::int64_t> best_of(const std::vector<float>& values, std::vector<std::int64_t> candidates, int count) {
  const auto at = [&](std::int64_t i) { return values[static_cast<std::size_t>(i)]; };
  std::stable_sort(candidates.begin(), candidates.end(), [&](std::int64_t a, std::int64_t b) { return at(a) > at(b); });
  candidates.resize(static_cast<std::size_t>(count));
  return candidates;
}

std::vector<std::int64_t> numbers_below(std::size_t count) {
  std::vector<std::int64_t> numbers(count);
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

// The experts of the best groups, in order.
std::vector<std::int64_t> candidates_of(const RouterShape& shape, const std::vector<float>& values) {
  std::vector<std::int64_t> candidates = numbers_below(values.size());
  if (shape.top_groups == shape.groups) return candidates;
  const std::size_t size = values.size() / static_cast<std::size_t>(shape.groups);
  const std::size_t counted = shape.scoring == Scoring::kSigmoid ? std::min<std::size_t>(2, size) : 1;
  std::vector<float> group_values;
  for (std::size_t first = 0; first < values.size(); first += size) {
    std::vector<float> group(values.begin() + static_cast<std::ptrdiff_t>(first),
                             values.begin() + static_cast<std::ptrdiff_t>(first + size));
    const auto end = group.begin() + static_cast<std::ptrdiff_t>(counted);
    std::partial_sort(group.begin(), end, group.end(), std::greater<>());
    group_values.push_back(number_or_lowest(std::accumulate(group.begin(), end, 0.0F)));
  }
  const auto best = best_of(group_values, numbers_below(group_values.size()), shape.top_groups);
  std::erase_if(candidates, [&](std::int64_t expert) {
    return std::find(best.begin(), best.end(), expert / static_cast<std::int64_t>(size)) == best.end();
  });
  return candidates;
}

std::vector<std::int64_t> choose(const RouterShape& shape, std::vector<float> values) {
  std::transform(values.begin(), values.end(), values.begin(), number_or_lowest);
  return best_of(values, candidates_of(shape, values), shape.top_k);
}

void check_shape(const RouterShape& shape, std::int64_t experts, const Check& check) {
  check.positive("the number of experts", experts);
  check.positive("groups", shape.groups);
  check.multiple("the number of experts", experts, shape.groups);
  check.value("top_groups", shape.top_groups, 1, shape.groups);
  check.value("top_k", shape.top_k, 1, experts / shape.groups * shape.top_groups);
}

double chosen_sum(std::span<const float> scores, const std::int32_t* experts, int top_k) {
  double sum = kTinySum;
  for (int c = 0; c < top_k; ++c) sum += scores[static_cast<std::size_t>(experts[c])];
  return sum;
}

}  // namespace

void run(const Router& operation, const Check& check) {
  const auto& [shape, logits, bias, scores, experts, gates, counts, losses] = operation;
  check.matrix("logits", logits);
  const std::int64_t tokens = logits.rows, expert_count = logits.columns;
  check_shape(shape, expert_count, check);
  if (bias) check.matrix("bias", bias, 1, expert_count);
  check.matrix("scores", scores, tokens, expert_count);
  check.integers("experts", experts, tokens, shape.top_k);
  check.matrix("gates", gates, tokens, shape.top_k);
  check.integers("counts", counts, 1, expert_count);
  if (losses) check.matrix("losses", losses, 1, 2);

  std::fill_n(counts.as<std::int32_t>(), expert_count, 0);
  std::vector<double> probability_sums(static_cast<std::size_t>(expert_count), 0);
  double squares = 0;
  for (std::int64_t token = 0; token < tokens; ++token) {
    const std::span<const float> mine = span_of(logits, token);
    const std::span<float> score = span_of(scores, token);
    const double normalizer = log_sum_exp(mine);
    squares += normalizer * normalizer;
    for (std::size_t e = 0; e < score.size(); ++e)
      score[e] = static_cast<float>(shape.scoring == Scoring::kSoftmax ? std::exp(mine[e] - normalizer)
                                                                       : 1 / (1 + std::exp(-double{mine[e]})));
    std::vector<float> values(score.begin(), score.end());
    for (std::size_t e = 0; bias && e < values.size(); ++e) values[e] += bias.as<float>()[e];
    std::int32_t* chosen = experts.as<std::int32_t>() + token * shape.top_k;
    const std::vector<std::int64_t> best = choose(shape, std::move(values));
    std::transform(best.begin(), best.end(), chosen, [](std::int64_t e) { return static_cast<std::int32_t>(e); });
    const double factor = shape.scale / (shape.normalize ? chosen_sum(score, chosen, shape.top_k) : 1);
    for (int c = 0; c < shape.top_k; ++c) {
      row(gates, token)[c] = static_cast<float>(score[static_cast<std::size_t>(chosen[c])] * factor);
      ++counts.as<std::int32_t>()[chosen[c]];
    }
    const double sum = std::accumulate(score.begin(), score.end(), kTinySum);
    for (std::size_t e = 0; e < score.size(); ++e) probability_sums[e] += score[e] / sum;
  }
  if (!losses) return;
  double balance = 0;
  for (std::size_t e = 0; e < probability_sums.size(); ++e)
    balance += counts.as<std::int32_t>()[e] * probability_sums[e];
  const double count = std::max(static_cast<double>(tokens), 1.0);
  losses.as<float>()[0] =
      static_cast<float>(static_cast<double>(expert_count) / (shape.top_k * count) * balance / count);
  losses.as<float>()[1] = static_cast<float>(squares / count);
}

// For one token with logits l, scores s, chosen experts C, gate gradients G, of T tokens, E experts, k choices; the sum
// of the chosen scores D = sum over C of s, the sum of all S, p = s / S and l* = log sum exp(l):
//
//   gates   g_c = scale s_c / D     d/ds_c = scale / D (G_c - sum over c' in C of G_c' s_c' / D)   with normalization
//           g_c = scale s_c         d/ds_c = scale G_c                                             without
//   auxiliary  sum_e a_e p_e,  a_e = aux_scale E counts_e / (k T^2)
//                                   d/ds_e = (a_e - sum_j a_j p_j) / S
//   z       z_scale l*^2 / T        d/dl_e = z_scale 2 l* / T softmax(l)_e
//
// and with d the sum of what reaches s: softmax passes s_e (d_e - sum_j d_j s_j) on to l_e, sigmoid d_e s_e (1 - s_e).
void run(const RouterBackward& operation, const Check& check) {
  const auto& [shape, logits, scores, experts, counts, gate_gradient, logit_gradient, aux_scale, z_scale] = operation;
  check.matrix("logits", logits);
  const std::int64_t tokens = logits.rows, expert_count = logits.columns;
  check_shape(shape, expert_count, check);
  check.matrix("scores", scores, tokens, expert_count);
  check.integers("experts", experts, tokens, shape.top_k);
  check.integers("counts", counts, 1, expert_count);
  check.matrix("gate_gradient", gate_gradient, tokens, shape.top_k);
  check.matrix("logit_gradient", logit_gradient, tokens, expert_count);
  check.indices("experts", experts, 0, expert_count - 1);

  const auto count = static_cast<double>(tokens);
  std::vector<double> balance(static_cast<std::size_t>(expert_count));
  for (std::size_t e = 0; e < balance.size(); ++e)
    balance[e] =
        aux_scale * static_cast<double>(expert_count) * counts.as<std::int32_t>()[e] / (shape.top_k * count * count);
  std::vector<double> score_gradient(balance.size());
  for (std::int64_t token = 0; token < tokens; ++token) {
    const std::span<const float> mine = span_of(logits, token), score = span_of(scores, token);
    const std::int32_t* chosen = experts.as<std::int32_t>() + token * shape.top_k;
    const double sum = std::accumulate(score.begin(), score.end(), kTinySum);
    const double mean = std::inner_product(score.begin(), score.end(), balance.begin(), 0.0) / sum;
    for (std::size_t e = 0; e < balance.size(); ++e) score_gradient[e] = (balance[e] - mean) / sum;

    const double divisor = shape.normalize ? chosen_sum(score, chosen, shape.top_k) : 1;
    double common = 0;
    for (int c = 0; shape.normalize && c < shape.top_k; ++c)
      common += row(gate_gradient, token)[c] * score[static_cast<std::size_t>(chosen[c])] / divisor;
    for (int c = 0; c < shape.top_k; ++c)
      score_gradient[static_cast<std::size_t>(chosen[c])] +=
          shape.scale / divisor * (row(gate_gradient, token)[c] - common);

    const double through = std::inner_product(score.begin(), score.end(), score_gradient.begin(), 0.0);
    const double normalizer = log_sum_exp(mine);
    for (std::size_t e = 0; e < balance.size(); ++e) {
      const double s = score[e];
      const double scored =
          shape.scoring == Scoring::kSoftmax ? s * (score_gradient[e] - through) : score_gradient[e] * s * (1 - s);
      const double z = z_scale * 2 * normalizer / count * std::exp(mine[e] - normalizer);
      row(logit_gradient, token)[e] = static_cast<float>(scored + z);
    }
  }
}

}  // namespace msmoe::kernels::cpu
