#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <tuple>
#include <vector>

#include "kernels/cpu/operators.h"

namespace msmoe::kernels::cpu {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Rows = Eigen::Map<Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>, 0, Eigen::OuterStride<>>;

// Queries that are taken together: rows [first, first + queries), of which query i sees the first keys - queries + i +
// 1 of the rows [first_key, first_key + keys). What none of them sees takes neither time nor memory.
struct Block {
  std::int64_t first, queries, first_key, keys;

  std::int64_t seen_by(std::int64_t query) const { return keys - queries + query + 1; }
};
constexpr std::int64_t kBlockQueries = 64;

// The columns of one head, for some rows.
Rows head_of(const View& view, std::int64_t first, std::int64_t rows, std::int64_t head, std::int64_t width) {
  return {row(view, first) + head * width, rows, width, Eigen::OuterStride<>(view.columns)};
}
Rows queries_of(const Block& block, const View& view, std::int64_t head, std::int64_t width) {
  return head_of(view, block.first, block.queries, head, width);
}
Rows keys_of(const Block& block, const View& view, std::int64_t head, std::int64_t width) {
  return head_of(view, block.first_key, block.keys, head, width);
}

// Calls visit(first, length, begin, end) for each sequence: its queries and its range of keys.
template <class Operation, class Visit>
void for_each_sequence(const Operation& operation, const Visit& visit) {
  const auto& [starts, ranges, length] =
      std::tie(operation.starts, operation.key_ranges, operation.shape.sequence_length);
  const std::int64_t sequences = starts ? starts.columns - 1 : operation.query.rows / length;
  for (std::int64_t i = 0; i < sequences; ++i) {
    const std::int64_t first = starts ? starts.template as<std::int32_t>()[i] : i * length;
    const std::int64_t last = starts ? starts.template as<std::int32_t>()[i + 1] : first + length;
    const std::int32_t* begins = ranges ? ranges.template as<std::int32_t>() : nullptr;
    visit(first, last - first, ranges ? begins[i] : first, ranges ? begins[sequences + i] : last);
  }
}

template <class Operation>
void check_sequences(const Operation& operation, const Check& check) {
  const auto& [shape, starts, ranges] = std::tie(operation.shape, operation.starts, operation.key_ranges);
  const std::int64_t tokens = operation.query.rows, keys = operation.key.rows;
  if (starts) {
    check.integers("starts", starts, 1, kAny);
    check.value("the number of starts", starts.columns, 2, INT32_MAX);
    check.offsets("starts", starts, tokens);
    check.value("the last start", starts.template as<std::int32_t>()[starts.columns - 1], tokens, tokens);
  } else {
    check.multiple("the number of tokens", tokens, shape.sequence_length);
  }
  if (ranges) check.integers("key_ranges", ranges, 2, starts ? starts.columns - 1 : tokens / shape.sequence_length);
  for_each_sequence(operation, [&](std::int64_t, std::int64_t length, std::int64_t begin, std::int64_t end) {
    check.value("the length of a sequence", length, 0, shape.sequence_length);
    check.value("the begin of a range of keys", begin, 0, keys - length);
    check.value("the end of a range of keys", end, begin + length, keys);
  });
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
  check.matrix("key", operation.key, operation.key_ranges ? kAny : tokens, shape.kv_heads * shape.width);
  check.matrix("value", operation.value, operation.key.rows, shape.kv_heads * shape.value_width);
  check.matrix("out", operation.out, tokens, shape.heads * shape.value_width);
  check.matrix("log_sum_exp", operation.log_sum_exp, shape.heads, tokens);
  check_sequences(operation, check);
}

template <class Operation>
std::vector<Block> blocks_of(const Operation& operation) {
  std::vector<Block> blocks;
  for_each_sequence(operation, [&](std::int64_t first, std::int64_t length, std::int64_t begin, std::int64_t end) {
    for (std::int64_t at = 0; at < length; at += kBlockQueries) {
      const std::int64_t queries = std::min(kBlockQueries, length - at);
      blocks.push_back({first + at, queries, begin, end - begin - length + at + queries});
    }
  });
  return blocks;
}

}  // namespace

void run(const Attention& operation, const Check& check) {
  check_views(operation, check);
  const AttentionShape& shape = operation.shape;
  for (const Block& block : blocks_of(operation)) {
    for (std::int64_t head = 0; head < shape.heads; ++head) {
      const std::int64_t kv_head = head / (shape.heads / shape.kv_heads);
      const Matrix query = queries_of(block, operation.query, head, shape.width).cast<double>();
      const Matrix key = keys_of(block, operation.key, kv_head, shape.width).cast<double>();
      const Matrix value = keys_of(block, operation.value, kv_head, shape.value_width).cast<double>();
      Matrix weights = shape.scale * query * key.transpose();
      for (std::int64_t i = 0; i < block.queries; ++i) {
        auto seen = weights.row(i).head(block.seen_by(i)).array();
        const double maximum = seen.maxCoeff();
        seen = (seen - maximum).exp();
        const double sum = seen.sum();
        seen /= sum;
        weights.row(i).tail(block.keys - block.seen_by(i)).setZero();
        row(operation.log_sum_exp, head)[block.first + i] = static_cast<float>(maximum + std::log(sum));
      }
      queries_of(block, operation.out, head, shape.value_width) = (weights * value).cast<float>();
    }
  }
}

// With P = softmax(S), S = scale Q K^T, and dO the gradient of O = P V:
//   dV = P^T dO,  dP = dO V^T,  dS = P (dP - D) elementwise, D_i = sum_j P_ij dP_ij = dO_i . O_i,
//   dQ = scale dS K,  dK = scale dS^T Q,  and queries that share keys and values, of whatever head or sequence, add up
//   there.
void run(const AttentionBackward& operation, const Check& check) {
  check_views(operation, check);
  const AttentionShape& shape = operation.shape;
  const std::int64_t tokens = operation.query.rows, rows = operation.key.rows;
  check.matrix("out_gradient", operation.out_gradient, tokens, shape.heads * shape.value_width);
  check.matrix("query_gradient", operation.query_gradient, tokens, shape.heads * shape.width);
  check.matrix("key_gradient", operation.key_gradient, rows, shape.kv_heads * shape.width);
  check.matrix("value_gradient", operation.value_gradient, rows, shape.kv_heads * shape.value_width);
  if (rows == 0) return;

  const std::int64_t sharers = shape.heads / shape.kv_heads;
  const std::vector<Block> blocks = blocks_of(operation);
  for (std::int64_t kv_head = 0; kv_head < shape.kv_heads; ++kv_head) {
    Matrix key_gradient = Matrix::Zero(rows, shape.width), value_gradient = Matrix::Zero(rows, shape.value_width);
    for (const Block& block : blocks) {
      const Matrix key = keys_of(block, operation.key, kv_head, shape.width).cast<double>();
      const Matrix value = keys_of(block, operation.value, kv_head, shape.value_width).cast<double>();
      for (std::int64_t head = kv_head * sharers; head < (kv_head + 1) * sharers; ++head) {
        const Matrix query = queries_of(block, operation.query, head, shape.width).cast<double>();
        const Matrix out = queries_of(block, operation.out, head, shape.value_width).cast<double>();
        const Matrix out_gradient = queries_of(block, operation.out_gradient, head, shape.value_width).cast<double>();
        Matrix weights = shape.scale * query * key.transpose();
        Matrix scores_gradient = out_gradient * value.transpose();
        for (std::int64_t i = 0; i < block.queries; ++i) {
          const double log_sum_exp = row(operation.log_sum_exp, head)[block.first + i];
          const double mean = out_gradient.row(i).dot(out.row(i));
          const std::int64_t seen = block.seen_by(i), hidden = block.keys - seen;
          auto weight = weights.row(i).head(seen).array();
          weight = (weight - log_sum_exp).exp();
          scores_gradient.row(i).head(seen).array() = weight * (scores_gradient.row(i).head(seen).array() - mean);
          weights.row(i).tail(hidden).setZero();
          scores_gradient.row(i).tail(hidden).setZero();
        }
        value_gradient.middleRows(block.first_key, block.keys).noalias() += weights.transpose() * out_gradient;
        key_gradient.middleRows(block.first_key, block.keys).noalias() +=
            shape.scale * scores_gradient.transpose() * query;
        queries_of(block, operation.query_gradient, head, shape.width) =
            (shape.scale * scores_gradient * key).cast<float>();
      }
    }
    head_of(operation.key_gradient, 0, rows, kv_head, shape.width) = key_gradient.cast<float>();
    head_of(operation.value_gradient, 0, rows, kv_head, shape.value_width) = value_gradient.cast<float>();
  }
}

}  // namespace msmoe::kernels::cpu
