// What a broken rule about pipeline schedules says.
#include <fmt/format.h>

#include <algorithm>

#include "core/plan_names.h"
#include "core/plan_rules.h"

namespace msmoe::sentence {

std::string schedule(const RuleCase& c) {
  const char* const name = choice_name(kScheduleChoices, c.plan.schedule);
  if (c.plan.schedule == PipelineSchedule::kZbV)
    return fmt::format("schedule=zb_v runs two chunks a stage, not VPP={}; use VPP=2", c.plan.vpp);
  if (c.plan.vpp == 1) return "schedule=interleaved needs more than VPP=1 chunk a stage; use VPP=2 or schedule=1f1b";
  return fmt::format("schedule={} runs one chunk a stage, not VPP={}; use schedule=interleaved or VPP=1", name,
                     c.plan.vpp);
}

std::string interleaved_stages(const RuleCase&) {
  return "schedule=interleaved needs more than PP=1 stage; use PP=2, or schedule=1f1b with VPP=1";
}

std::string parted_backward_stages(const RuleCase& c) {
  return fmt::format("schedule={} needs more than PP=1 stage; use PP=2, or schedule=1f1b with VPP=1",
                     choice_name(kScheduleChoices, c.plan.schedule));
}

std::string dualpipe_stages(const RuleCase& c) {
  return fmt::format("schedule=dualpipe pairs its stages, and PP={} is odd; use PP={} or PP={}", c.plan.pp,
                     std::max<std::int64_t>(2, c.plan.pp - 1), c.plan.pp + 1);
}

std::string dualpipe_micro_batches(const RuleCase& c) {
  const std::int64_t nearest = std::max(2 * c.plan.pp, c.micro_batches + c.micro_batches % 2);
  return fmt::format(
      "schedule=dualpipe feeds an even number of micro-batches from both ends, at least 2 x PP={}, and global_batch={} "
      "/ "
      "(micro_batch={} x DP={}) = {}; use global_batch={}",
      2 * c.plan.pp, c.plan.global_batch, c.plan.micro_batch, c.dp, c.micro_batches,
      nearest * c.plan.micro_batch * c.dp);
}

std::string merged_schedule(const RuleCase& c) {
  const char* const name = choice_name(kScheduleChoices, c.plan.schedule);
  if (c.plan.schedule == PipelineSchedule::kDualPipe)
    return "schedule=dualpipe merges its passes by itself; use merge_passes=off";
  return fmt::format(
      "merge_passes needs schedule=interleaved, or schedule=1f1b with PP=1, not schedule={} with PP={}; "
      "use schedule=interleaved with VPP=2",
      name, c.plan.pp);
}

std::string merged_overlap(const RuleCase&) {
  return "merge_passes hides exchanges, and overlap=none runs them one after the other; use overlap=inter";
}

std::string delayed_weight_gradients(const RuleCase&) {
  return "delay_weight_gradients is about merged passes; use merge_passes=on or schedule=dualpipe with it";
}

std::string megatron_schedule(const RuleCase& c) {
  return fmt::format("Megatron has no schedule={}; use schedule=1f1b or schedule=interleaved",
                     choice_name(kScheduleChoices, c.plan.schedule));
}

std::string torchtitan_schedule(const RuleCase& c) {
  if (c.plan.merge_passes) return "torchtitan does not merge these passes; use merge_passes=off";
  return fmt::format("torchtitan has no schedule={}; use schedule=1f1b, interleaved or zb_v",
                     choice_name(kScheduleChoices, c.plan.schedule));
}

}  // namespace msmoe::sentence
