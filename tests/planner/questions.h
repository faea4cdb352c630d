// Questions as msmoe-plan would ask them.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "planner/question.h"

namespace msmoe::planner {

using Fixes = std::vector<simulator::Change>;

inline Question ask(const std::string& model, const std::string& cluster, std::int64_t gpus, std::int64_t global_batch,
                    std::int64_t seq_len, const Fixes& fixes = {}) {
  Plan base;
  base.model = model;
  base.cluster = cluster;
  base.gpus = gpus;
  base.global_batch = global_batch;
  base.seq_len = seq_len;
  return make_question(find_model(model), find_cluster(cluster), base, fixes);
}

// The space of this one plan.
inline Question ask_for(const Model& model, const Cluster& cluster, const Plan& plan) {
  Question question{.model = model, .cluster = cluster, .base = plan, .fixed = plan_field_names(), .feed_forward = {}};
  std::erase_if(question.fixed, [](const std::string& key) { return key == "dp" || key == "ffn"; });
  return question;
}

}  // namespace msmoe::planner
