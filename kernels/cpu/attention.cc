#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <tuple>
#include <vector>

#include "kernels/cpu/operators.h"
#include "kernels/cpu/product.h"

namespace msmoe::kernels::cpu {
namespace {

// fp32, as on GPUs: products, weights and their sums.
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vector = Eigen::Map<const Eigen::VectorXf>;

// Queries that are taken together: rows [first, first + queries), of which query i sees the first keys - queries + i +
// 1 of the rows [first_key, first_key + keys). What none of them sees takes neither time nor memory.
struct Block {
  std::int64_t first, queries, first_key, keys;

  std::int64_t seen_by(std::int64_t query) const { return keys - queries + query + 1; }
};
constexpr std::int64_t kBlockQueries = 64;

// The columns of one head, from some row on.
float* head_of(const View& view, std::int64_t first, std::int64_t head, std::int64_t width) {
  return row(view, first) + head * width;
}
Factor factor(const View& view, std::int64_t first, std::int64_t head, std::int64_t width, bool transposed = false) {
  return {head_of(view, first, head, width), view.columns, transposed};
}
Factor factor(const Matrix& matrix, bool transposed = false) { return {matrix.data(), matrix.cols(), transposed}; }
Sum sum_in(Matrix& matrix) { return {matrix.data(), matrix.cols()}; }

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
  const auto scale = static_cast<float>(shape.scale);
  Matrix weights;
  for (const Block& block : blocks_of(operation)) {
    weights.resize(block.queries, block.keys);
    for (std::int64_t head = 0; head < shape.heads; ++head) {
      const std::int64_t kv_head = head / (shape.heads / shape.kv_heads);
      multiply({block.queries, block.keys, shape.width}, factor(operation.query, block.first, head, shape.width),
               factor(operation.key, block.first_key, kv_head, shape.width, /*transposed=*/true), sum_in(weights),
               scale);
      for (std::int64_t i = 0; i < block.queries; ++i) {
        auto seen = weights.row(i).head(block.seen_by(i)).array();
        const float maximum = seen.maxCoeff();
        seen = (seen - maximum).exp();
        const float sum = seen.sum();
        seen *= 1 / sum;
        weights.row(i).tail(block.keys - block.seen_by(i)).setZero();
        row(operation.log_sum_exp, head)[block.first + i] = maximum + std::log(sum);
      }
      multiply({block.queries, shape.value_width, block.keys}, factor(weights),
               factor(operation.value, block.first_key, kv_head, shape.value_width),
               {head_of(operation.out, block.first, head, shape.value_width), operation.out.columns});
    }
  }
}

// With P = softmax(S), S = scale Q K^T, and dO the gradient of O = P V:
//   dV = P^T dO,  dP = dO V^T,  dS = P (dP - D) elementwise, D_i = sum_j P_ij dP_ij = dO_i . O_i,
//   dQ = scale dS K,  dK = scale dS^T Q,  and queries that share keys and values, of whatever head or sequence, add up
//   there.
void run(const AttentionBackward& operation, const Check& check) {
  check_views(operation, check);
  const auto& [shape, query, key, value, out, log_sum_exp, out_gradient, query_gradient, key_gradient, value_gradient,
               starts, key_ranges] = operation;
  check.matrix("out_gradient", out_gradient, query.rows, shape.heads * shape.value_width);
  check.matrix("query_gradient", query_gradient, query.rows, shape.heads * shape.width);
  check.matrix("key_gradient", key_gradient, key.rows, shape.kv_heads * shape.width);
  check.matrix("value_gradient", value_gradient, key.rows, shape.kv_heads * shape.value_width);

  const auto scale = static_cast<float>(shape.scale);
  const std::int64_t width = shape.width, value_width = shape.value_width;
  std::fill_n(key_gradient.as<float>(), key_gradient.size(), 0.0F);
  std::fill_n(value_gradient.as<float>(), value_gradient.size(), 0.0F);
  Matrix weights, scores_gradient;
  for (const Block& block : blocks_of(operation)) {
    weights.resize(block.queries, block.keys);
    scores_gradient.resize(block.queries, block.keys);
    for (std::int64_t head = 0; head < shape.heads; ++head) {
      const std::int64_t kv_head = head / (shape.heads / shape.kv_heads);
      const Factor queries = factor(query, block.first, head, width);
      const Factor out_gradients = factor(out_gradient, block.first, head, value_width);
      multiply({block.queries, block.keys, width}, queries, factor(key, block.first_key, kv_head, width, true),
               sum_in(weights), scale);
      multiply({block.queries, block.keys, value_width}, out_gradients,
               factor(value, block.first_key, kv_head, value_width, true), sum_in(scores_gradient));
      for (std::int64_t i = 0; i < block.queries; ++i) {
        const std::int64_t seen = block.seen_by(i), hidden = block.keys - seen, token = block.first + i;
        const float mean = Vector(head_of(out_gradient, token, head, value_width), value_width)
                               .dot(Vector(head_of(out, token, head, value_width), value_width));
        auto weight = weights.row(i).head(seen).array();
        auto gradient = scores_gradient.row(i).head(seen).array();
        weight = (weight - row(log_sum_exp, head)[token]).exp();
        gradient = weight * (gradient - mean);
        weights.row(i).tail(hidden).setZero();
        scores_gradient.row(i).tail(hidden).setZero();
      }
      multiply({block.keys, value_width, block.queries}, factor(weights, true), out_gradients,
               {head_of(value_gradient, block.first_key, kv_head, value_width), value_gradient.columns, true});
      multiply({block.keys, width, block.queries}, factor(scores_gradient, true), queries,
               {head_of(key_gradient, block.first_key, kv_head, width), key_gradient.columns, true}, scale);
      multiply({block.queries, width, block.keys}, factor(scores_gradient),
               factor(key, block.first_key, kv_head, width),
               {head_of(query_gradient, block.first, head, width), query_gradient.columns}, scale);
    }
  }
}

}  // namespace msmoe::kernels::cpu
