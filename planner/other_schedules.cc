#include "planner/other_schedules.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/plan_names.h"
#include "planner/mesh_table.h"
#include "planner/parallel_for.h"

namespace msmoe::planner {
namespace {

using Changes = std::vector<std::pair<std::string, std::string>>;

struct OtherSchedule {
  const char *field, *value;
  Changes changes;
};
const std::vector<OtherSchedule>& others() {
  static const std::vector<OtherSchedule> all = {
      {"schedule", "zb_h1", {{"schedule", "zb_h1"}, {"vpp", "1"}}},
      {"schedule", "zb_v", {{"schedule", "zb_v"}, {"vpp", "2"}}},
      {"schedule", "dualpipe", {{"schedule", "dualpipe"}, {"vpp", "1"}}},
      {"merge_passes", "on", {{"merge_passes", "on"}}},
  };
  return all;
}

}  // namespace

std::optional<Scored> score_plan(const Question& question, const Plan& plan) {
  if (!is_valid(question.model, question.cluster, plan)) return std::nullopt;
  Question single = question;
  single.base = plan;
  single.fixed = plan_field_names();
  single.feed_forward.reset();
  single.dp = 0;
  MeshTable table(single, {plan.attention, plan.attention_degree, plan.context_degree, plan.ep, plan.etp});
  if (table.pipelines().empty()) return std::nullopt;
  MeshTable::Cursor cursor(table);
  cursor.move_to_pipeline(0);
  cursor.move_to_variant(0);
  const Bytes memory = cursor.memory().total();
  if (memory > question.cluster.gpu.memory) return std::nullopt;
  return Scored{plan, Duration{cursor.step_ps()}, memory};
}

std::vector<Alternative> other_schedules(const Question& question, const std::vector<Plan>& plans) {
  std::vector<Alternative> found;
  for (const char* key : {"schedule", "vpp", "merge_passes"})
    if (question.is_fixed(key)) return found;
  for (const OtherSchedule& other : others()) {
    // Plans that differ in what the schedule overwrites become one.
    std::vector<Plan> changed;
    for (Plan plan : plans) {
      for (const auto& [key, value] : other.changes) set_plan_field(plan, key, value);
      if (std::find(changed.begin(), changed.end(), plan) == changed.end()) changed.push_back(std::move(plan));
    }
    std::vector<std::optional<Scored>> scored(changed.size());
    parallel_for(question.jobs, changed.size(),
                 [&](std::size_t index) { scored[index] = score_plan(question, changed[index]); });
    const Scored* best = nullptr;
    for (const std::optional<Scored>& one : scored)
      if (one && (best == nullptr || one->step < best->step)) best = &*one;
    if (best != nullptr) found.push_back({other.field, other.value, *best});
  }
  return found;
}

}  // namespace msmoe::planner
