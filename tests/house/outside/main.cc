// Prints the parameters of a model that ships, and runs one task through the installed event engine.
#include <fmt/core.h>

#include "core/model.h"
#include "simulator/engine.h"

int main() {
  const msmoe::Model model = msmoe::find_model("mixtral-8x7b");
  fmt::print("{} parameters\n", msmoe::count_parameters(model).total);

  msmoe::simulator::Job job;
  job.blocks.push_back({.tasks = {{.alone_ps = 1000}}, .waits = {{}}});
  job.devices.push_back({0});  // one device, which runs block 0 once
  fmt::print("{} ps\n", msmoe::simulator::run(job).makespan_ps);
}
