// Fits of the cost terms to measured points, and how well they predict the points that were kept out of them.
//
// Coefficients are fitted by non-negative least squares of relative errors. Where a product has a choice of tiles, each
// point takes the tile that the coefficients of the round before make the quickest, until nothing improves.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/collective_table.h"
#include "core/profile.h"
#include "profiler/point.h"

namespace msmoe::profiler {

struct ProfileFits {
  std::vector<Fit> fits;  // of every operator that was measured, and of those that the simulator takes together
  std::vector<CollectiveTable> collectives;
  std::optional<Contention> contention;
  // "gemm", "grouped_gemm", "attention", "collectives", "pairs", "layers": all of a kind taken together. Layers were
  // not fitted to; of them all points count. Those of pairs are |predicted - measured| slow-down.
  std::map<std::string, FitErrors> errors;
};

// gpu: the peaks that the terms are of. name: as the driver calls it.
ProfileFits fit_profile(const std::vector<Point>& points, const Gpu& gpu, const std::string& name);

// One fit of points that share a form, to those that are not held out. REQUIRES: one of those at least.
Fit fit_points(const std::vector<const Point*>& points, const std::string& of, const Gpu& gpu);

}  // namespace msmoe::profiler
