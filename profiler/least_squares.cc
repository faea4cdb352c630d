#include "profiler/least_squares.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <vector>

namespace msmoe::profiler {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

// The unconstrained solution over the free columns, 0 elsewhere.
VectorXd solve_free(const MatrixXd& a, const VectorXd& b, const std::vector<bool>& is_free) {
  std::vector<Index> columns;
  for (Index column = 0; column < a.cols(); ++column)
    if (is_free[static_cast<std::size_t>(column)]) columns.push_back(column);
  VectorXd x = VectorXd::Zero(a.cols());
  if (columns.empty()) return x;
  const MatrixXd part = a(Eigen::all, columns);
  x(columns) = part.colPivHouseholderQr().solve(b);
  return x;
}

}  // namespace

// Columns are scaled to length 1 first: terms of a cost differ by many orders of magnitude.
VectorXd solve_nonnegative(const MatrixXd& a, const VectorXd& b) {
  assert(a.rows() == b.size() && a.cols() > 0);
  VectorXd scale = a.colwise().norm();
  scale = (scale.array() > 0).select(scale, 1);
  const MatrixXd scaled = a * scale.cwiseInverse().asDiagonal();
  const double tolerance = 1e-12 * b.norm();

  std::vector<bool> is_free(static_cast<std::size_t>(a.cols()), false);
  VectorXd x = VectorXd::Zero(a.cols());
  // Each round frees one column; in exact arithmetic no set of free columns comes twice. The bound guards against
  // rounding alone.
  for (Index round = 0; round < 10 * a.cols(); ++round) {
    const VectorXd gradient = scaled.transpose() * (b - scaled * x);
    Index steepest = -1;
    for (Index column = 0; column < a.cols(); ++column)
      if (!is_free[static_cast<std::size_t>(column)] && gradient(column) > tolerance &&
          (steepest < 0 || gradient(column) > gradient(steepest)))
        steepest = column;
    if (steepest < 0) break;
    is_free[static_cast<std::size_t>(steepest)] = true;

    VectorXd target = solve_free(scaled, b, is_free);
    // Walk towards the target as far as all stay non-negative; who hits 0 is fixed there.
    for (;;) {
      double step = 1;
      for (Index column = 0; column < a.cols(); ++column)
        if (is_free[static_cast<std::size_t>(column)] && target(column) <= 0)
          step = std::min(step, x(column) / (x(column) - target(column) + std::numeric_limits<double>::min()));
      if (step >= 1 && (target.array() >= 0).all()) break;
      x += step * (target - x);
      bool fixed = false;
      for (Index column = 0; column < a.cols(); ++column)
        if (is_free[static_cast<std::size_t>(column)] && target(column) <= 0 && x(column) <= 1e-14) {
          is_free[static_cast<std::size_t>(column)] = false;
          x(column) = 0;
          fixed = true;
        }
      if (!fixed) break;
      target = solve_free(scaled, b, is_free);
    }
    x = target.cwiseMax(0);
  }
  return x.cwiseQuotient(scale);
}

VectorXd solve_nonnegative_relative(const MatrixXd& a, const VectorXd& b) {
  assert((b.array() > 0).all());
  return solve_nonnegative(b.cwiseInverse().asDiagonal() * a, VectorXd::Ones(b.size()));
}

}  // namespace msmoe::profiler
