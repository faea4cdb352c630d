// Measured times of collectives by message size.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/units.h"

namespace msmoe {

// size: nccl-tests' "size" column.
struct CollectivePoint {
  Bytes size;
  Duration time;
};
struct CollectiveTable {
  std::string collective;  // "all_gather", "reduce_scatter", "all_to_all", "all_reduce"
  int ranks = 0;
  int ranks_per_node = 0;
  std::vector<CollectivePoint> points;  // sorted by size, strictly increasing
  std::string source;
};

// A table as nccl-tests prints it (comment lines start with '#'; the columns size and time of the out-of-place
// half are used). Throws UserError naming the line.
std::vector<CollectivePoint> parse_nccl_tests_table(const std::string& file, std::string_view text);

// Linear between two points, beyond the last at the last slope, below the first no less than the first.
// REQUIRES: two points at least, sorted by size.
double interpolated_seconds(const std::vector<CollectivePoint>& points, Bytes size);

}  // namespace msmoe
