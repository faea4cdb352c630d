#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/operators.h"
#include "kernels/cpu/turn.h"

namespace msmoe::kernels::cpu {
namespace {

// A row, or a part of one, for arithmetic in fp32.
using Array = Eigen::Map<Eigen::ArrayXf>;

auto sigmoid(const Array& x) { return (1 + (-x).exp()).inverse(); }

void check_rotation(const Rope& operation, const Check& check) {
  const auto& [vectors, positions, out, width, rotated, base, backward] = operation;
  check.matrix("vectors", vectors);
  if (out) check.matrix("out", out, vectors.rows, vectors.columns);
  check.integers("positions", positions, 1, vectors.rows);
  check.positive("width", width);
  check.multiple("the number of columns", vectors.columns, width);
  check.value("rotated", rotated, 0, width);
  check.multiple("rotated", rotated, 2);
  check.that(base > 0, "base is not positive", "more than 0");
}

}  // namespace

void run(const RmsNorm& operation, const Check& check) {
  const auto& [input, residual, weight, out, sum, inverse_rms, epsilon] = operation;
  check.matrix("input", input);
  const std::int64_t tokens = input.rows, width = input.columns;
  check.positive("width", width);
  check.that(static_cast<bool>(residual) == static_cast<bool>(sum), "one of residual and sum is null", "both or none");
  if (residual) check.matrix("residual", residual, tokens, width);
  if (sum) check.matrix("sum", sum, tokens, width);
  check.matrix("weight", weight, 1, width);
  check.matrix("out", out, tokens, width);
  check.matrix("inverse_rms", inverse_rms, 1, tokens);

  for (std::int64_t token = 0; token < tokens; ++token) {
    const float* normalized = row(input, token);
    if (residual) {
      for (std::int64_t i = 0; i < width; ++i) row(sum, token)[i] = row(input, token)[i] + row(residual, token)[i];
      normalized = row(sum, token);
    }
    double squares = 0;
    for (std::int64_t i = 0; i < width; ++i) squares += static_cast<double>(normalized[i]) * normalized[i];
    const double inverse = 1 / std::sqrt(squares / static_cast<double>(width) + epsilon);
    for (std::int64_t i = 0; i < width; ++i)
      row(out, token)[i] = static_cast<float>(normalized[i] * inverse * weight.as<float>()[i]);
    inverse_rms.as<float>()[token] = static_cast<float>(inverse);
  }
}

void run(const RmsNormBackward& operation, const Check& check) {
  const auto& [input, weight, inverse_rms, out_gradient, residual_gradient, input_gradient, weight_gradient] =
      operation;
  check.matrix("input", input);
  const std::int64_t tokens = input.rows, width = input.columns;
  check.positive("width", width);
  check.matrix("weight", weight, 1, width);
  check.matrix("inverse_rms", inverse_rms, 1, tokens);
  check.matrix("out_gradient", out_gradient, tokens, width);
  if (residual_gradient) check.matrix("residual_gradient", residual_gradient, tokens, width);
  check.matrix("input_gradient", input_gradient, tokens, width);
  check.matrix("weight_gradient", weight_gradient, 1, width);

  std::vector<double> weight_sums(static_cast<std::size_t>(width), 0);
  for (std::int64_t token = 0; token < tokens; ++token) {
    const float *x = row(input, token), *gradient = row(out_gradient, token);
    const double r = inverse_rms.as<float>()[token];
    double mean = 0;
    for (std::int64_t i = 0; i < width; ++i) mean += static_cast<double>(gradient[i]) * weight.as<float>()[i] * x[i];
    mean /= static_cast<double>(width);
    for (std::int64_t i = 0; i < width; ++i) {
      weight_sums[static_cast<std::size_t>(i)] += gradient[i] * x[i] * r;
      const double g = static_cast<double>(gradient[i]) * weight.as<float>()[i];
      const double around = residual_gradient ? row(residual_gradient, token)[i] : 0;
      row(input_gradient, token)[i] = static_cast<float>(r * (g - x[i] * r * r * mean) + around);
    }
  }
  for (std::int64_t i = 0; i < width; ++i)
    weight_gradient.as<float>()[i] += static_cast<float>(weight_sums[static_cast<std::size_t>(i)]);
}

void run(const Rope& operation, const Check& check) {
  check_rotation(operation, check);
  const auto& [vectors, positions, out, width, rotated, base, backward] = operation;
  const View& turned = out ? out : vectors;
  if (out) std::copy_n(vectors.as<float>(), vectors.size(), out.as<float>());
  for (std::int64_t pair = 0; pair < rotated / 2; ++pair) {
    const double frequency = turn_frequency(pair, rotated, base);
    for (std::int64_t token = 0; token < vectors.rows; ++token) {
      const double position = positions.as<std::int32_t>()[token];
      const Turn turn(backward ? -position : position, frequency, rotated);
      for (std::int64_t end = width; end <= vectors.columns; end += width) {
        float* first = row(turned, token) + end - rotated + pair;
        turn.apply(first[0], first[rotated / 2], first);
      }
    }
  }
}

void run(const SwiGlu& operation, const Check& check) {
  const auto& [gate_up, gate_weights, out] = operation;
  check.matrix("out", out);
  const std::int64_t rows = out.rows, width = out.columns;
  check.matrix("gate_up", gate_up, rows, 2 * width);
  if (gate_weights) check.matrix("gate_weights", gate_weights, 1, rows);
  for (std::int64_t r = 0; r < rows; ++r) {
    const Array gates(row(gate_up, r), width), ups(row(gate_up, r) + width, width);
    const float gate_weight = gate_weights ? gate_weights.as<float>()[r] : 1;
    Array(row(out, r), width) = gate_weight * (gates * sigmoid(gates)) * ups;
  }
}

// silu(g) = g s with s = sigmoid(g), so silu'(g) = s + g s (1 - s).
void run(const SwiGluBackward& operation, const Check& check) {
  const auto& [gate_up, gate_weights, out_gradient, gate_up_gradient, gate_weight_gradient, out] = operation;
  check.matrix("out_gradient", out_gradient);
  const std::int64_t rows = out_gradient.rows, width = out_gradient.columns;
  check.matrix("gate_up", gate_up, rows, 2 * width);
  check.matrix("gate_up_gradient", gate_up_gradient, rows, 2 * width);
  if (rows > 0)
    check.that(static_cast<bool>(gate_weights) == static_cast<bool>(gate_weight_gradient),
               "one of gate_weights and gate_weight_gradient is null", "both or none");
  if (gate_weights) {
    check.matrix("gate_weights", gate_weights, 1, rows);
    check.matrix("gate_weight_gradient", gate_weight_gradient, 1, rows);
  }
  if (out) check.matrix("out", out, rows, width);
  Eigen::ArrayXf s(width), silu(width);
  for (std::int64_t r = 0; r < rows; ++r) {
    const Array gates(row(gate_up, r), width), ups(row(gate_up, r) + width, width);
    const Array gradient(row(out_gradient, r), width);
    const float gate_weight = gate_weights ? gate_weights.as<float>()[r] : 1;
    s = sigmoid(gates);
    silu = gates * s;
    if (gate_weights)
      gate_weight_gradient.as<float>()[r] = static_cast<float>((gradient * silu * ups).cast<double>().sum());
    Array(row(gate_up_gradient, r), width) = gate_weight * gradient * ups * (s + silu * (1 - s));
    Array(row(gate_up_gradient, r) + width, width) = gate_weight * gradient * silu;
    if (out) Array(row(out, r), width) = gate_weight * silu * ups;
  }
}

void run(const Add& operation, const Check& check) {
  const auto& [a, b, out] = operation;
  check.matrix("a", a);
  check.matrix("b", b, a.rows, a.columns);
  check.matrix("out", out, a.rows, a.columns);
  for (std::int64_t i = 0; i < out.size(); ++i) out.as<float>()[i] = a.as<float>()[i] + b.as<float>()[i];
}

void run(const Embedding& operation, const Check& check) {
  const auto& [table, ids, out, first_id] = operation;
  check.matrix("table", table);
  check.matrix("out", out, kAny, table.columns);
  check.integers("ids", ids, 1, out.rows);
  for (std::int64_t token = 0; token < out.rows; ++token) {
    const std::int64_t id = ids.as<std::int32_t>()[token] - first_id;
    if (id >= 0 && id < table.rows)
      std::copy_n(row(table, id), table.columns, row(out, token));
    else
      std::fill_n(row(out, token), out.columns, 0.0F);
  }
}

void run(const EmbeddingBackward& operation, const Check& check) {
  const auto& [out_gradient, ids, table_gradient, first_id] = operation;
  check.matrix("table_gradient", table_gradient);
  check.matrix("out_gradient", out_gradient, kAny, table_gradient.columns);
  check.integers("ids", ids, 1, out_gradient.rows);
  for (std::int64_t token = 0; token < out_gradient.rows; ++token) {
    const std::int64_t id = ids.as<std::int32_t>()[token] - first_id;
    if (id < 0 || id >= table_gradient.rows) continue;
    for (std::int64_t i = 0; i < out_gradient.columns; ++i) row(table_gradient, id)[i] += row(out_gradient, token)[i];
  }
}

}  // namespace msmoe::kernels::cpu
