// The median of the last values: one slow step (a checkpoint, a straggler) does not move it, as it would a mean.
#pragma once

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <deque>
#include <optional>
#include <vector>

namespace msmoe::executor {

class MovingMedian {
 public:
  explicit MovingMedian(std::size_t window) : window_(window) { assert(window > 0); }

  // REQUIRES: not NaN, which has no place in an order.
  void add(double value) {
    assert(value == value);
    values_.push_back(value);
    if (values_.size() > window_) values_.pop_front();
  }

  // Of an even number of values the mean of the two in the middle; none where there are no values yet.
  std::optional<double> value() const {
    if (values_.empty()) return std::nullopt;
    std::vector<double> sorted(values_.begin(), values_.end());
    std::sort(sorted.begin(), sorted.end());
    const std::size_t middle = sorted.size() / 2;
    return sorted.size() % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  }

 private:
  std::size_t window_;
  std::deque<double> values_;
};

}  // namespace msmoe::executor
