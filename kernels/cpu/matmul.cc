#include <Eigen/Core>

#include "kernels/cpu/operators.h"

namespace msmoe::kernels::cpu {
namespace {

using Matrix = Eigen::Map<Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;

Matrix matrix(const View& view) { return {view.as<float>(), view.rows, view.columns}; }
Matrix rows_of(const View& view, std::int64_t first, std::int64_t count) {
  return {view.as<float>() + first * view.columns, count, view.columns};
}

template <class Left, class Right>
void multiply(const Left& left, const Right& right, Matrix out, bool accumulate) {
  if (!accumulate) out.setZero();
  if (out.size() > 0 && left.cols() > 0) out.noalias() += left * right;
}

}  // namespace

void run(const Gemm& operation, const Check& check) {
  const auto& [a, b, c, transpose_a, transpose_b, accumulate, sms] = operation;
  check.matrix("a", a);
  const std::int64_t m = transpose_a ? a.columns : a.rows, k = transpose_a ? a.rows : a.columns;
  check.matrix("b", b, transpose_b ? kAny : k, transpose_b ? k : kAny);
  check.matrix("c", c, m, transpose_b ? b.rows : b.columns);
  check.value("sms", sms, 0, INT32_MAX);
  const Matrix left = matrix(a), right = matrix(b), out = matrix(c);
  if (transpose_a && transpose_b)
    multiply(left.transpose(), right.transpose(), out, accumulate);
  else if (transpose_a)
    multiply(left.transpose(), right, out, accumulate);
  else if (transpose_b)
    multiply(left, right.transpose(), out, accumulate);
  else
    multiply(left, right, out, accumulate);
}

void run(const GroupedGemm& operation, const Check& check) {
  const auto& [pass, rows, weights, out, offsets, accumulate, sms] = operation;
  check.integers("offsets", offsets, 1, kAny);
  check.positive("the number of offsets", offsets.columns);
  const std::int64_t experts = offsets.columns - 1;
  check.matrix("rows", rows);
  switch (pass) {
    case GroupedPass::kForward:
      check.matrix("out", out, rows.rows);
      check.matrix("weights", weights, experts * out.columns, rows.columns);
      break;
    case GroupedPass::kInputGradient:
      check.matrix("weights", weights, experts * rows.columns);
      check.matrix("out", out, rows.rows, weights.columns);
      break;
    case GroupedPass::kWeightGradient:
      check.matrix("weights", weights, rows.rows);
      check.matrix("out", out, experts * rows.columns, weights.columns);
      break;
  }
  check.that(!accumulate || pass == GroupedPass::kWeightGradient, "accumulate is set",
             "false but for weight gradients");
  check.value("sms", sms, 0, INT32_MAX);
  check.offsets("offsets", offsets, rows.rows);

  for (std::int64_t expert = 0; expert < experts; ++expert) {
    const std::int64_t first = offsets.as<std::int32_t>()[expert];
    const std::int64_t count = offsets.as<std::int32_t>()[expert + 1] - first;
    const Matrix mine = rows_of(rows, first, count);
    if (pass == GroupedPass::kForward) {
      const Matrix weight = rows_of(weights, expert * out.columns, out.columns);
      multiply(mine, weight.transpose(), rows_of(out, first, count), false);
    } else if (pass == GroupedPass::kInputGradient) {
      multiply(mine, rows_of(weights, expert * rows.columns, rows.columns), rows_of(out, first, count), false);
    } else {
      multiply(mine.transpose(), rows_of(weights, first, count), rows_of(out, expert * rows.columns, rows.columns),
               accumulate);
    }
  }
}

}  // namespace msmoe::kernels::cpu
