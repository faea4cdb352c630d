// Non-negative least squares: min |A x - b| over x >= 0, by the active-set method of Lawson and Hanson (Solving Least
// Squares Problems, 1974, chapter 23). Terms of a cost are times: none is negative, and a term that the measurements do
// not show comes out as 0 rather than as a negative one that another makes up for.
#pragma once

#include <Eigen/Dense>

namespace msmoe::profiler {

// One row of a for each measurement, one column for each term. REQUIRES: finite, as many rows as b, at least one
// column.
Eigen::VectorXd solve_nonnegative(const Eigen::MatrixXd& a, const Eigen::VectorXd& b);

// The same with errors relative to b: every measurement weighs alike, be it a microsecond or a second. REQUIRES b > 0.
Eigen::VectorXd solve_nonnegative_relative(const Eigen::MatrixXd& a, const Eigen::VectorXd& b);

}  // namespace msmoe::profiler
