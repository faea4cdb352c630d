// Schedules that are not in the space, on the best plans of it: ZB-H1, ZB-V, DualPipe and merged passes.
//
// They would make the space five times as large, and each of their slots is walked, not counted. What they change is
// the pipeline alone, so the best few dozen plans of the space are tried under each; --fix schedule=... or
// merge_passes=on searches one of them as widely as the others.
#pragma once

#include <optional>
#include <vector>

#include "planner/search.h"

namespace msmoe::planner {

// One plan outside the space's lists, if it is valid and fits.
std::optional<Scored> score_plan(const Question& question, const Plan& plan);

// The fastest of these plans changed to each other schedule, by schedule; none where --fix names schedule, vpp or
// merge_passes, or where nothing fits.
std::vector<Alternative> other_schedules(const Question& question, const std::vector<Plan>& plans);

}  // namespace msmoe::planner
