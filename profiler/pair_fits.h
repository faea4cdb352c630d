// The contention of pairs (core/contention.h) from measured ones.
//
//   crowds, waits  alternating weighted least squares: each transfer's slow-down, solved for w c, is a product of two
//   yields         least squares of the operator's slow-down, by operator
//
// Stores of SMs to a peer ("push") count among what operators yield to and are no collective that crowding is fitted
// for.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/contention.h"
#include "core/gpu.h"
#include "profiler/point.h"

namespace msmoe::profiler {

struct PairFit {
  Contention contention;
  // |predicted - measured| of both sides' slow-downs, of the pairs held out: 0.1 is ten points.
  std::vector<double> errors;
};

// Nothing where a kind of operator or of collective lacks a pair to fit, or the times of collectives with as many
// blocks as NCCL likes. name: of the GPU.
std::optional<PairFit> fit_pairs(const std::vector<Point>& points, const Gpu& gpu, const std::string& name);

}  // namespace msmoe::profiler
