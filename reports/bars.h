// Horizontal text bars: where the time goes, where the memory goes.
//
//   expert GEMM  1.90 s   48%  derived  ########################################
//   attention    0.95 s   24%  derived  ####################
//   pipeline     1.14 s   29%  assumed  ########################
#pragma once

#include <string>
#include <vector>

namespace msmoe::reports {

struct Bar {
  std::string label;
  double value = 0;  // REQUIRES: finite, not negative
  std::string text;  // the value as people read it: "1.90 s"
  std::string note;  // a word on it; no column where no bar has one
};

struct BarOptions {
  int width = 40;    // characters of the longest bar
  double whole = 0;  // what 100% is; 0: the sum of the values
};

// One line a bar, in the order given. The largest value fills the width; any value above zero shows at least one '#'.
std::string render_bars(const std::vector<Bar>& bars, const BarOptions& options = {});

}  // namespace msmoe::reports
