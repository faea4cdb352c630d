#include "profiler/least_squares.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace msmoe::profiler {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

// Of all sets of free columns, the non-negative solution of least error.
double least_error_by_trying_all(const MatrixXd& a, const VectorXd& b) {
  double least = b.norm();
  for (int set = 1; set < (1 << a.cols()); ++set) {
    std::vector<Index> columns;
    for (Index column = 0; column < a.cols(); ++column)
      if (set >> column & 1) columns.push_back(column);
    const MatrixXd part = a(Eigen::all, columns);
    const VectorXd x = part.colPivHouseholderQr().solve(b);
    if ((x.array() >= 0).all()) least = std::min(least, (part * x - b).norm());
  }
  return least;
}

TEST(LeastSquares, NoSetOfTermsDoesBetter) {
  std::mt19937 random(1);
  std::normal_distribution<double> normal;
  std::uniform_int_distribution<int> columns(1, 6);
  for (int round = 0; round < 2000; ++round) {
    const Index terms = columns(random);
    const Index rows = terms + 5;
    // Terms of very different sizes, as bytes and launches are.
    const MatrixXd a = MatrixXd::NullaryExpr(rows, terms, [&](Index, Index column) {
      return normal(random) * std::pow(10.0, 3.0 * static_cast<double>(column));
    });
    const VectorXd b = VectorXd::NullaryExpr(rows, [&] { return normal(random); });
    const VectorXd x = solve_nonnegative(a, b);
    ASSERT_TRUE((x.array() >= 0).all()) << x.transpose();
    ASSERT_NEAR((a * x - b).norm(), least_error_by_trying_all(a, b), 1e-8) << "round " << round;
  }
}

TEST(LeastSquares, FindsTheTermsThatMadeTheData) {
  // t = 5 us + bytes / 3 TB/s; a term that took no part comes out as 0.
  const int rows = 12;
  MatrixXd a(rows, 3);
  VectorXd b(rows);
  for (int row = 0; row < rows; ++row) {
    const double bytes = std::pow(4.0, row);
    a.row(row) << 1, bytes, std::sqrt(bytes);
    b(row) = 5e-6 + bytes / 3e12;
  }
  const VectorXd x = solve_nonnegative_relative(a, b);
  EXPECT_NEAR(x(0), 5e-6, 1e-12);
  EXPECT_NEAR(x(1) * 3e12, 1, 1e-6);
  EXPECT_NEAR(x(2) * std::sqrt(1e6), 0, 1e-10);
}

// Twice the same term, and a term that is 0 everywhere: any split will do, none may be undefined.
TEST(LeastSquares, EqualTermsShareAndAbsentTermsAreZero) {
  MatrixXd a(4, 3);
  a << 1, 1, 0, 2, 2, 0, 3, 3, 0, 4, 4, 0;
  const VectorXd b = (VectorXd(4) << 2, 4, 6, 8).finished();
  const VectorXd x = solve_nonnegative(a, b);
  EXPECT_TRUE(x.allFinite());
  EXPECT_NEAR(x(0) + x(1), 2, 1e-9);
  EXPECT_EQ(x(2), 0);
}

TEST(LeastSquares, NothingHelpsANegativeTarget) {
  EXPECT_EQ(solve_nonnegative(MatrixXd::Ones(3, 2), -VectorXd::Ones(3)).norm(), 0);
}

}  // namespace
}  // namespace msmoe::profiler
