#include "core/collective_table.h"

#include <algorithm>
#include <cassert>

namespace msmoe {

double interpolated_seconds(const std::vector<CollectivePoint>& points, Bytes size) {
  assert(points.size() >= 2);
  const auto upper = std::lower_bound(points.begin() + 1, points.end() - 1, size,
                                      [](const CollectivePoint& point, Bytes wanted) { return point.size < wanted; });
  const CollectivePoint& low = *(upper - 1);
  const double slope = (to_seconds(upper->time) - to_seconds(low.time)) / (upper->size.count - low.size.count);
  return std::max(to_seconds(points.front().time), to_seconds(low.time) + slope * (size.count - low.size.count));
}

}  // namespace msmoe
