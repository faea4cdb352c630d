// Mesh: where a rank stands in a plan, and which ranks it shares each kind of group with (core/plan.h, "The mesh").
//
//   rank = attention + attention_degree * (context + context_degree * (data + dp * stage))
//   inside a stage also       expert_tensor + etp * (expert + ep * expert_data)
#pragma once

#include <vector>

#include "core/group.h"
#include "core/plan.h"

namespace msmoe::executor {

struct MeshPlace {
  int attention = 0;  // of attention_degree
  int context = 0;    // of context_degree
  int data = 0;       // of dp()
  int stage = 0;      // of pp
  int expert_tensor = 0, expert = 0, expert_data = 0;
  bool operator==(const MeshPlace&) const = default;
};

// REQUIRES: a valid plan; 0 <= rank < plan.gpus.
MeshPlace place_of(const Plan& plan, int rank);

// The ranks of the job that share this rank's group, ascending, the rank itself among them; as many as group_of() says.
// kPipeline: all stages of the rank's place in a stage, in order of stage. kDenseData and kExpertData under DualPipe:
// with the ranks that hold the other copy of the stage.
std::vector<int> ranks_of_group(GroupKind kind, const Plan& plan, int rank);

}  // namespace msmoe::executor
