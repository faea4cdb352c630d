#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/operators.h"

namespace msmoe::kernels::cpu {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Rows = Eigen::Map<Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>, 0, Eigen::OuterStride<>>;

struct Sequence {
  std::int64_t first, length;
};

// The columns of one head, for the tokens of one sequence.
Rows head_of(const View& view, const Sequence& sequence, std::int64_t head, std::int64_t width) {
  return {row(view, sequence.first) + head * width, sequence.length, width, Eigen::OuterStride<>(view.columns)};
}

template <class Operation>
void check_views(const Operation& operation, const Check& check) {
  const AttentionShape& shape = operation.shape;
  check.positive("width", shape.width);
  check.positive("value_width", shape.value_width);
  check.positive("heads", shape.heads);
  check.positive("kv_heads", shape.kv_heads);
  check.positive("sequence_length", shape.sequence_length);
  check.multiple("heads", shape.heads, shape.kv_heads);
  check.matrix("query", operation.query, kAny, shape.heads * shape.width);
  const std::int64_t tokens = operation.query.rows;
  check.matrix("key", operation.key, tokens, shape.kv_heads * shape.width);
  check.matrix("value", operation.value, tokens, shape.kv_heads * shape.value_width);
  check.matrix("out", operation.out, tokens, shape.heads * shape.value_width);
  check.matrix("log_sum_exp", operation.log_sum_exp, shape.heads, tokens);
  if (!operation.starts) {
    check.multiple("the number of tokens", tokens, shape.sequence_length);
    return;
  }
  check.integers("starts", operation.starts, 1, kAny);
  check.value("the number of starts", operation.starts.columns, 2, INT32_MAX);
  check.offsets("starts", operation.starts, tokens);
  const std::int32_t* starts = operation.starts.template as<std::int32_t>();
  const std::int64_t sequences = operation.starts.columns - 1;
  check.value("the last start", starts[sequences], tokens, tokens);
  for (std::int64_t i = 0; i < sequences; ++i)
    check.value("the length of a sequence", starts[i + 1] - starts[i], 0, shape.sequence_length);
}

std::vector<Sequence> sequences_of(const View& starts, const AttentionShape& shape, std::int64_t tokens) {
  std::vector<Sequence> sequences;
  if (!starts) {
    for (std::int64_t first = 0; first < tokens; first += shape.sequence_length)
      sequences.push_back({first, shape.sequence_length});
    return sequences;
  }
  const std::int32_t* bounds = starts.as<std::int32_t>();
  for (std::int64_t i = 0; i + 1 < starts.columns; ++i)
    if (bounds[i + 1] > bounds[i]) sequences.push_back({bounds[i], bounds[i + 1] - bounds[i]});
  return sequences;
}

}  // namespace

void run(const Attention& operation, const Check& check) {
  check_views(operation, check);
  const AttentionShape& shape = operation.shape;
  for (const Sequence& sequence : sequences_of(operation.starts, shape, operation.query.rows)) {
    for (std::int64_t head = 0; head < shape.heads; ++head) {
      const std::int64_t kv_head = head / (shape.heads / shape.kv_heads);
      const Matrix query = head_of(operation.query, sequence, head, shape.width).cast<double>();
      const Matrix key = head_of(operation.key, sequence, kv_head, shape.width).cast<double>();
      const Matrix value = head_of(operation.value, sequence, kv_head, shape.value_width).cast<double>();
      Matrix weights = shape.scale * query * key.transpose();
      for (std::int64_t i = 0; i < sequence.length; ++i) {
        double maximum = weights(i, 0), sum = 0;
        for (std::int64_t j = 1; j <= i; ++j) maximum = std::max(maximum, weights(i, j));
        for (std::int64_t j = 0; j <= i; ++j) sum += std::exp(weights(i, j) - maximum);
        const double log_sum_exp = maximum + std::log(sum);
        for (std::int64_t j = 0; j < sequence.length; ++j)
          weights(i, j) = j <= i ? std::exp(weights(i, j) - log_sum_exp) : 0;
        row(operation.log_sum_exp, head)[sequence.first + i] = static_cast<float>(log_sum_exp);
      }
      head_of(operation.out, sequence, head, shape.value_width) = (weights * value).cast<float>();
    }
  }
}

// With P = softmax(S), S = scale Q K^T, and dO the gradient of O = P V:
//   dV = P^T dO,  dP = dO V^T,  dS = P (dP - D) elementwise, D_i = sum_j P_ij dP_ij = dO_i . O_i,
//   dQ = scale dS K,  dK = scale dS^T Q,  and heads that share keys and values add up there.
void run(const AttentionBackward& operation, const Check& check) {
  check_views(operation, check);
  const AttentionShape& shape = operation.shape;
  const std::int64_t tokens = operation.query.rows;
  check.matrix("out_gradient", operation.out_gradient, tokens, shape.heads * shape.value_width);
  check.matrix("query_gradient", operation.query_gradient, tokens, shape.heads * shape.width);
  check.matrix("key_gradient", operation.key_gradient, tokens, shape.kv_heads * shape.width);
  check.matrix("value_gradient", operation.value_gradient, tokens, shape.kv_heads * shape.value_width);

  const std::int64_t sharers = shape.heads / shape.kv_heads;
  for (const Sequence& sequence : sequences_of(operation.starts, shape, tokens)) {
    for (std::int64_t kv_head = 0; kv_head < shape.kv_heads; ++kv_head) {
      const Matrix key = head_of(operation.key, sequence, kv_head, shape.width).cast<double>();
      const Matrix value = head_of(operation.value, sequence, kv_head, shape.value_width).cast<double>();
      Matrix key_gradient = Matrix::Zero(sequence.length, shape.width);
      Matrix value_gradient = Matrix::Zero(sequence.length, shape.value_width);
      for (std::int64_t head = kv_head * sharers; head < (kv_head + 1) * sharers; ++head) {
        const Matrix query = head_of(operation.query, sequence, head, shape.width).cast<double>();
        const Matrix out = head_of(operation.out, sequence, head, shape.value_width).cast<double>();
        const Matrix out_gradient = head_of(operation.out_gradient, sequence, head, shape.value_width).cast<double>();
        Matrix weights = shape.scale * query * key.transpose();
        Matrix scores_gradient = out_gradient * value.transpose();
        for (std::int64_t i = 0; i < sequence.length; ++i) {
          const double log_sum_exp = row(operation.log_sum_exp, head)[sequence.first + i];
          const double mean = out_gradient.row(i).dot(out.row(i));
          for (std::int64_t j = 0; j < sequence.length; ++j) {
            weights(i, j) = j <= i ? std::exp(weights(i, j) - log_sum_exp) : 0;
            scores_gradient(i, j) = weights(i, j) * (scores_gradient(i, j) - mean);
          }
        }
        value_gradient += weights.transpose() * out_gradient;
        key_gradient += shape.scale * scores_gradient.transpose() * query;
        head_of(operation.query_gradient, sequence, head, shape.width) =
            (shape.scale * scores_gradient * key).cast<float>();
      }
      head_of(operation.key_gradient, sequence, kv_head, shape.width) = key_gradient.cast<float>();
      head_of(operation.value_gradient, sequence, kv_head, shape.value_width) = value_gradient.cast<float>();
    }
  }
}

}  // namespace msmoe::kernels::cpu
