// msmoe-profile: measures a machine, case by case, into a profile.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "profiler/machine.h"

namespace msmoe::profiler {

struct Command {
  std::string cluster;            // the description of this machine, a file or the name of one that ships
  std::string output;             // -o; by default NAME.profile.json here
  std::vector<std::string> only;  // kinds of cases; empty: all
  bool quick = false;             // fewer cases
  // Profiles of one kind of GPU whose points are fitted again, together; of a case that several have, the last one's
  // counts. Nothing is measured then.
  std::vector<std::string> refit;
};

// Returns the exit code. Points are gathered in OUTPUT.points as they are measured, and what is there already is not
// measured again; once all are there they are fitted, the profile is written and that file removed. Throws UserError
// for an unknown kind or cluster, a cluster of another GPU, or points of another machine; std::runtime_error where the
// machine or the disk refuses.
int run(const Command& command, const std::function<std::unique_ptr<Machine>()>& open = open_machine);

}  // namespace msmoe::profiler
