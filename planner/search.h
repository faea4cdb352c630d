// The search: every plan of the space is checked by rule, by memory and by a lower bound; only plans whose bound could
// still win are composed.
//
//   1  For each mesh, all pipelines x variants: invalid? over memory? else a bound on the step, remembered.
//   2  Plans in order of their bound, in batches: composed, until the bound exceeds the worst of the best K. What is
//      left cannot enter them, since bound <= step for every plan.
//   3  The same, with other admission rules, for the Pareto set and for the best plan of each alternative choice.
//
// Batches and orders are fixed, so the answer does not depend on the number of threads.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/plan.h"
#include "core/units.h"
#include "planner/question.h"

namespace msmoe::planner {

struct Scored {
  Plan plan;
  Duration step;
  Bytes memory;  // of the worst stage
};

// A plan that only memory keeps out, and the smallest change that lets it in.
struct NearMiss {
  Plan plan;
  Bytes over;
  std::int64_t stage = 0;
  std::string change;  // "recompute=selective", or empty where no single change helps
  Duration step;       // with that change
};

// The best plan that makes another choice than the winner in one field.
struct Alternative {
  std::string field, value;
  Scored best;
};

struct SearchResult {
  std::vector<Scored> best;    // by step, then by order in the space
  std::vector<Scored> pareto;  // each is faster than all that need less memory; from most memory to least
  std::vector<Alternative> alternatives;
  std::vector<Alternative> other_schedules;  // of the fastest of these plans, as planner/other_schedules.h has them
  std::vector<NearMiss> near_misses;
  std::int64_t considered = 0;  // plans of the space
  std::int64_t invalid = 0;
  std::int64_t over_memory = 0;     // valid, but too big
  std::int64_t over_by_states = 0;  // of these, by weights, gradients and optimizer states alone
  std::int64_t simulated = 0;
  std::map<std::string, std::int64_t> rejections;  // by the first rule broken
  double seconds = 0;
};

struct SearchHooks {
  std::function<void(std::int64_t total)> start;   // meshes to screen
  std::function<void(std::int64_t done)> advance;  // from any thread
};

// exhaustive: composes every plan that fits, ignoring bounds. For tests; the answer is the same.
SearchResult search(const Question& question, const SearchHooks& hooks = {}, bool exhaustive = false);

// The fastest plan alone, if any fits.
std::optional<Scored> fastest(const Question& question);

// The first step alone: its counts, and no plans.
SearchResult screen_space(const Question& question);

}  // namespace msmoe::planner
