// Question: what the user asks msmoe-plan, and what of the plan is fixed beforehand.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/cluster.h"
#include "core/model.h"
#include "core/plan.h"
#include "core/plan_names.h"
#include "simulator/what_if.h"

namespace msmoe::planner {

enum class Objective { kTime, kCost, kMemory };

struct Question {
  Model model;
  Cluster cluster;
  // gpus, global_batch, seq_len, precision, and every field that --fix names, are taken from here.
  Plan base;
  std::vector<std::string> fixed;                      // the keys that --fix named
  std::optional<FeedForwardParallelism> feed_forward;  // --fix ffn: ep leaves etp at 1, tp leaves ep at 1
  std::int64_t dp = 0;                                 // --fix dp; 0: free
  Objective objective = Objective::kTime;
  int top = 5;   // plans to report
  int jobs = 2;  // threads; the answer does not depend on it

  bool is_fixed(const std::string& key) const;
};

// What a search starts from: in bf16 where the device has it, in fp32 otherwise. On a CPU's core nothing runs beside
// anything else, and operators take what they were measured to take.
Plan base_plan(const Gpu& gpu);

// Throws UserError where base and --fix cannot be met by any plan of this model (not plannable, contradictory keys).
Question make_question(Model model, Cluster cluster, Plan base, const std::vector<simulator::Change>& fixes);

}  // namespace msmoe::planner
