// StepLine: a step as one line for people, columns under one another.
//
//   step 2/9  loss 10.7510    1.23M tok/s  41.2% MFU  norm  4.87  lr 6.00e-06  aux 0.0119  load 2.95x   3.42 h left
//
// tok/s, MFU and time left are from the median of the last steps; the metrics files have each step's own. norm: of the
// gradient. aux: the auxiliary loss. load: rows of the fullest expert over the mean. The first steps of a run load
// kernels, tune and fill pools: they are said to be slow and left out. Values that are not finite are named at the end
// of the line, behind "<--".
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "executor/telling/moving_median.h"
#include "executor/telling/step_metrics.h"

namespace msmoe::executor {

struct StepLineOptions {
  std::int64_t last_step = 0;   // of the whole training: N of "step i/N"
  std::int64_t slow_steps = 1;  // how many steps of this run, resumed or not, are warm-up
  std::size_t window = 20;      // steps whose median counts
  MfuBasis basis;
};

class StepLine {
 public:
  explicit StepLine(StepLineOptions options);

  // Without the newline. To be called once a step, in order. Columns of what the model has not (experts, a peak) are
  // left out.
  std::string tell(const StepMetrics& metrics);

 private:
  std::string rates() const;
  std::string time_left(std::int64_t step) const;

  StepLineOptions options_;
  std::int64_t steps_told_ = 0;
  MovingMedian seconds_per_step_;
  MovingMedian tokens_per_second_;
};

}  // namespace msmoe::executor
