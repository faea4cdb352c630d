#include "simulator/rank_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <stdexcept>

#include "core/error.h"
#include "core/plan_names.h"
#include "core/schedule.h"

namespace msmoe::simulator {
namespace {

constexpr int kLoadSteps = 64;  // of a load of 1

const std::vector<Operator>& pass_of(const Module& module, bool backward) {
  return backward ? module.backward : module.forward;
}

// Ranks of other components are not waited for inside a layer: ZeRO-2 and 3's traffic runs ahead or behind.
bool meets_in_component(GroupKind kind) {
  return kind == GroupKind::kAttention || kind == GroupKind::kContext || kind == GroupKind::kExpert ||
         kind == GroupKind::kExpertTensor || kind == GroupKind::kExpertAll;
}

RankOperator describe(const Operator& op, const std::vector<Operator>& pass, const CostModel& costs) {
  RankOperator result;
  result.stream = op.stream;
  std::copy_if(op.waits.begin(), op.waits.end(), std::back_inserter(result.waits),
               [&](std::int16_t wait) { return pass[wait].stream != op.stream; });
  result.computes = op.compute.kind != ComputeKind::kNone;
  result.group = op.transfer.group;
  result.transfers = op.transfer.collective != Collective::kNone && costs.group(op.transfer.group).size > 1;
  result.meets = result.transfers && meets_in_component(op.transfer.group);
  // What a transfer that leads brings was ready at the start; what a GEMM's tiles send on comes while all of them run.
  result.ends_together = result.meets && !op.transfer_leads && op.transfer.collective != Collective::kAllGather;
  const bool attention = op.transfer.group == GroupKind::kAttention || op.transfer.group == GroupKind::kContext;
  result.wait = attention ? RankWait::kAttention : RankWait::kExperts;
  result.part = time_part_of(op);
  result.follows = result.computes && !result.transfers && op.stream == Stream::kCompute && result.waits.empty();
  return result;
}

// The halves of a fused operator, from what the cost model says of them.
void set_halves(const OperatorCost& cost, OperatorLength& length) {
  length.compute = static_cast<double>(cost.computing.count());
  const std::int64_t alone = cost.alone.count(), exposed = alone - cost.computing.count();
  if (cost.alone >= cost.compute + cost.transfer) {
    length.after = static_cast<double>(exposed);
  } else {
    length.beside = static_cast<double>(exposed > 0 ? alone : std::min(alone, cost.transfer.count()));
  }
}

std::vector<OperatorLength> measure(const std::vector<Operator>& operators, const CostModel& costs) {
  std::vector<OperatorLength> lengths(operators.size());
  const Job job = make_pass_job(operators, costs);
  std::vector<std::int64_t> ends(operators.size());
  std::array<std::int64_t, kNumStreams> stream_ends{};
  std::vector<TaskRun> runs(operators.size());
  run(job, [&](const TaskRun& task) { runs[task.task] = task; });
  for (std::size_t op = 0; op < operators.size(); ++op) {
    set_halves(costs.cost(operators[op]), lengths[op]);
    std::int64_t& stream_end = stream_ends[static_cast<std::size_t>(operators[op].stream)];
    std::int64_t ready = stream_end;
    for (const std::int16_t wait : operators[op].waits) ready = std::max(ready, ends[wait]);
    stream_end = ends[op] = runs[op].end_ps;
    lengths[op].length = static_cast<double>(runs[op].end_ps - runs[op].start_ps);
    if (runs[op].start_ps > ready) lengths[op].issued = static_cast<double>(runs[op].start_ps);
  }
  return lengths;
}

}  // namespace

RankJob::RankJob(const Model& model, const Cluster& cluster, const Plan& plan, const CostModel& costs)
    : model_(model),
      cluster_(cluster),
      costs_(costs),
      program_(lower(model, cluster, plan)),
      times_(make_pipeline_times(program_, model, costs)),
      stage_ranks_(plan.gpus / plan.pp),
      width_(std::lcm(plan.attention_ranks(), plan.expert_ranks())) {
  if (!pipeline_shape(plan).is_plain())
    throw UserError("", "schedule",
                    fmt::format("single ranks are simulated under 1f1b and interleaved without merged passes, not {}{}",
                                choice_name(kScheduleChoices, plan.schedule), plan.merge_passes ? " merged" : ""),
                    "use schedule=1f1b or schedule=interleaved with merge_passes=off");
  lay_out_places();
  lay_out_groups();
  lay_out_slots();
  for (const bool backward : {false, true}) {
    for (const Module& module : program_.modules) {
      PassTable& table = tables_[backward ? 1 : 0].emplace_back();
      const std::vector<Operator>& pass = pass_of(module, backward);
      for (const Operator& op : pass) table.operators.push_back(describe(op, pass, costs));
    }
  }
}

// MoE layers are counted through the model; prediction layers have none of their own and take the last one's loads.
void RankJob::lay_out_places() {
  int num_moe_layers = 0;
  for (const int kind : model_.layers) num_moe_layers += model_.kinds[kind].feed_forward.is_moe() ? 1 : 0;
  int moe_layer = 0;
  for (std::int64_t v = 0; v < plan().virtual_stages(); ++v) {
    std::vector<Place>& places = places_.emplace_back();
    for (const std::int16_t module_idx : program_.stages[v % plan().pp].chunks[v / plan().pp].modules) {
      const Module& module = program_.modules[module_idx];
      const bool has_experts = (module.kind == ModuleKind::kLayer || module.kind == ModuleKind::kPredict) &&
                               model_.kinds[module.layer_kind].feed_forward.is_moe() && num_moe_layers > 0;
      places.push_back({module_idx, has_experts ? std::min(moe_layer, num_moe_layers - 1) : -1});
      if (has_experts && module.kind == ModuleKind::kLayer) ++moe_layer;
    }
  }
}

void RankJob::lay_out_groups() {
  const std::int64_t attention = plan().attention_degree, sequence = plan().attention_ranks();
  const std::int64_t etp = plan().etp, experts = plan().expert_ranks();
  const auto fill = [&](GroupKind kind, auto group_of_rank) {
    RankGroups& groups = groups_[static_cast<std::size_t>(kind)];
    for (std::int64_t rank = 0; rank < width_; ++rank) {
      groups.of.push_back(static_cast<std::int32_t>(group_of_rank(rank)));
      groups.count = std::max(groups.count, groups.of.back() + 1);
    }
  };
  fill(GroupKind::kAttention, [&](std::int64_t rank) { return rank / attention; });
  fill(GroupKind::kContext, [&](std::int64_t rank) { return rank / sequence * attention + rank % attention; });
  fill(GroupKind::kExpert, [&](std::int64_t rank) { return rank / experts * etp + rank % etp; });
  fill(GroupKind::kExpertTensor, [&](std::int64_t rank) { return rank / etp; });
  fill(GroupKind::kExpertAll, [&](std::int64_t rank) { return rank / experts; });
}

// Stage by stage as far as messages have been sent, until all have run.
void RankJob::lay_out_slots() {
  const std::int64_t last = plan().virtual_stages() - 1, micro_batches = plan().micro_batches();
  std::array<std::vector<bool>, 2> done;
  for (std::vector<bool>& pass : done) pass.resize(static_cast<std::size_t>((last + 1) * micro_batches));
  const auto is_done = [&](bool backward, std::int64_t v, std::int64_t micro_batch) {
    return done[backward ? 1 : 0][static_cast<std::size_t>(v * micro_batches + micro_batch)];
  };
  std::vector<std::size_t> next(program_.stages.size());
  std::vector<bool> gathered(static_cast<std::size_t>(last + 1));
  std::vector<std::int64_t> backwards(static_cast<std::size_t>(last + 1));
  for (bool moved = true; moved;) {
    moved = false;
    for (std::int64_t stage = 0; stage < plan().pp; ++stage) {
      const std::vector<Slot>& order = program_.stages[stage].slots;
      for (; next[stage] < order.size(); ++next[stage]) {
        const Slot& slot = order[next[stage]];
        const std::int64_t v = slot.chunk * plan().pp + stage;
        const bool backward = slot.kind == SlotKind::kBackward;
        const bool receives = plan().pp > 1 && (backward ? v < last : v > 0);
        if (backward ? !is_done(v < last, v < last ? v + 1 : v, slot.micro_batch)
                     : v > 0 && !is_done(false, v - 1, slot.micro_batch))
          break;
        done[backward ? 1 : 0][static_cast<std::size_t>(v * micro_batches + slot.micro_batch)] = true;
        slots_.push_back({.stage = static_cast<std::int32_t>(stage),
                          .virtual_stage = static_cast<std::int32_t>(v),
                          .backward = backward,
                          .micro_batch = slot.micro_batch,
                          .receives = receives,
                          .sends = plan().pp > 1 && (backward ? v > 0 : v < last),
                          .gathers = !backward && !gathered[v],
                          .reduces = backward && ++backwards[v] == micro_batches});
        gathered[v] = true;
        moved = true;
      }
    }
  }
  for (std::int64_t stage = 0; stage < plan().pp; ++stage)
    if (next[stage] < program_.stages[stage].slots.size())
      throw std::logic_error("stage " + std::to_string(stage) + " waits for a message that never comes");
}

const std::vector<OperatorLength>& RankJob::lengths_at(std::int16_t module_idx, bool backward, int load_step) {
  PassTable& table = tables_[backward ? 1 : 0][module_idx];
  const auto [found, is_new] = table.lengths.try_emplace(load_step);
  if (!is_new) return found->second;
  const Module& balanced = program_.modules[module_idx];
  if (load_step == kLoadSteps) return found->second = measure(pass_of(balanced, backward), costs_);
  const LoweringOptions options{.imbalance = static_cast<double>(load_step) / kLoadSteps,
                                .gpus_per_node = cluster_.gpus_per_node};
  const Module module = balanced.kind == ModuleKind::kPredict
                            ? lower_predict_layer(model_, plan(), options)
                            : lower_layer(model_, plan(), balanced.layer_kind, options);
  tables_[backward ? 0 : 1][module_idx].lengths.try_emplace(load_step, measure(pass_of(module, !backward), costs_));
  return found->second = measure(pass_of(module, backward), costs_);
}

PassLengths RankJob::lengths_of(const Place& place, bool backward, const RankLoads& loads) {
  PassLengths result;
  result.table = &tables_[backward ? 1 : 0][place.module];
  const std::vector<RankOperator>& operators = result.table->operators;
  for (std::vector<double>* list : {&result.length, &result.issued, &result.compute, &result.beside, &result.after})
    list->resize(operators.size() * static_cast<std::size_t>(width_));
  result.is_late.resize(operators.size());
  std::vector<int> load_steps(width_, kLoadSteps);
  for (std::int64_t rank = 0; rank < width_; ++rank) {
    int& load_step = load_steps[rank];
    if (place.moe_layer >= 0) {
      const double load = loads[place.moe_layer][rank / plan().etp % plan().ep];
      load_step = std::max(1, static_cast<int>(std::lround(load * kLoadSteps)));
    }
    const std::vector<OperatorLength>& lengths = lengths_at(place.module, backward, load_step);
    for (std::size_t op = 0; op < operators.size(); ++op) {
      const std::size_t at = op * width_ + rank;
      result.length[at] = lengths[op].length;
      result.issued[at] = lengths[op].issued;
      if (lengths[op].issued > 0) result.is_late[op] = true;
      result.compute[at] = lengths[op].compute;
      result.beside[at] = lengths[op].beside;
      result.after[at] = lengths[op].after;
    }
  }
  // An exchange takes as long as for its most loaded member, whose wires all the others' data goes through.
  for (std::size_t op = 0; op < operators.size(); ++op) {
    if (!operators[op].meets || operators[op].computes) continue;
    const RankGroups& members = groups(operators[op].group);
    std::vector<std::int64_t> most(members.count, -1);
    for (std::int64_t rank = 0; rank < width_; ++rank) {
      std::int64_t& known = most[members.of[rank]];
      if (known < 0 || load_steps[rank] > load_steps[known]) known = rank;
    }
    double* length = &result.length[op * width_];
    const std::vector<double> own(length, length + width_);
    for (std::int64_t rank = 0; rank < width_; ++rank) length[rank] = own[most[members.of[rank]]];
  }
  return result;
}

void RankJob::set_loads(const RankLoads& loads) {
  passes_.assign(2 * places_.size(), {});
  for (auto& lengths : step_) lengths.clear();
  for (std::size_t v = 0; v < places_.size(); ++v) {
    for (const bool backward : {false, true}) {
      std::vector<const PassLengths*>& passes = passes_[2 * v + (backward ? 1 : 0)];
      for (const Place& place : places_[v]) {
        const auto [found, is_new] = step_[backward ? 1 : 0].try_emplace({place.module, place.moe_layer});
        if (is_new) found->second = lengths_of(place, backward, loads);
        passes.push_back(&found->second);
      }
      if (backward) std::reverse(passes.begin(), passes.end());
    }
  }
}

}  // namespace msmoe::simulator
