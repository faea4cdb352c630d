// The bars that the simulator is held to, and whether it clears them.
#pragma once

#include <string>
#include <vector>

#include "simulator/validation/figures.h"
#include "simulator/validation/outcome.h"

namespace msmoe::simulator::validation {

struct BarResult {
  std::string title;
  Bar bar;
  double worst = 0;  // what the bar is on: the largest size of an error, or the median of them
  std::size_t values = 0;
  bool holds() const { return worst <= bar.limit; }
};

// Throws UserError where a bar on runs matches none that is compared.
BarResult hold_runs(const RunBar& bar, const std::vector<Outcome>& outcomes);
// REQUIRES: the figure has a bar and at least one value that is compared.
BarResult hold_figure(const Figure& figure, const std::vector<FigureValue>& values);

}  // namespace msmoe::simulator::validation
