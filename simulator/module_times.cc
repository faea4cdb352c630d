#include "simulator/module_times.h"

#include <algorithm>
#include <cassert>
#include <cmath>

#include "simulator/engine.h"

namespace msmoe::simulator {
namespace {

std::int64_t serial_ps(const std::vector<Operator>& operators, const CostModel& costs) {
  std::int64_t sum = 0;
  for (const Operator& op : operators) sum += costs.cost(op).alone.count();
  return sum;
}

// Shared resources may stop a task until the operator beside it ends, so that one must end.
constexpr double kMostSlowdown = 100;

// A module has nothing on the pipeline stream, so the operator beside it stands there. It works on alone when the
// module has ended, so what it got done before is its time less the rest.
Beside pass_beside(const Block& block, std::int64_t alone, const DataShare& share) {
  Task task;
  task.alone_ps = static_cast<std::int64_t>(kMostSlowdown * static_cast<double>(alone));
  task.share = share.share;
  task.holder = share.holder;
  task.interference = share.interference;
  task.stream = static_cast<std::uint8_t>(Stream::kPipeline);
  Job job;
  job.blocks = {block, {.tasks = {task}, .waits = {}}};
  job.devices = {{1, 0}};
  const RunResult result = run(job);
  const std::int64_t other_end = result.slot_end_ps[0][0], end = result.slot_end_ps[0][1];
  // Tasks that are slowed may happen to overlap better, which is no effect to build on.
  return {std::max(alone, end), task.alone_ps - std::max<std::int64_t>(0, other_end - end)};
}

Beside pass_beside(const Block& block, std::int64_t alone, const Shares& shares) {
  if (shares.empty() || alone == 0) return {alone, alone};
  double passes = 0, time = 0, other_time = 0;
  for (const DataShare& kind : shares) {
    const Beside beside = pass_beside(block, alone, kind);
    const double passes_of_kind = kind.time_ps / static_cast<double>(beside.other);
    passes += passes_of_kind;
    time += passes_of_kind * static_cast<double>(beside.slot);
    other_time += kind.time_ps;
  }
  const std::int64_t slot = std::max(alone, static_cast<std::int64_t>(time / passes));
  return {slot, std::min(slot, static_cast<std::int64_t>(other_time / passes))};
}

SlotTimes time_pass(const std::vector<Operator>& operators, const CostModel& costs, const Shares& data,
                    const Shares& send) {
  const Job job = make_pass_job(operators, costs);
  const std::int64_t alone = run(job).makespan_ps;
  const Block& block = job.blocks.front();
  return {alone, pass_beside(block, alone, data), pass_beside(block, alone, send)};
}

bool alike(const DataShare& a, const DataShare& b) {
  constexpr float kDifference = 0.01F;
  for (int r = 0; r < kNumResources; ++r) {
    if (std::abs(a.share[r] - b.share[r]) > kDifference) return false;
  }
  const Interference &of_a = a.interference, &of_b = b.interference;
  if (std::abs(of_a.presses - of_b.presses) > kDifference || std::abs(of_a.waits - of_b.waits) > kDifference)
    return false;
  return a.holder == b.holder;
}

}  // namespace

Shares data_shares(const Plan& plan, const ModuleParameters& parameters, const CostModel& costs) {
  Shares shares;
  const ChunkSync sync = lower_sync(plan, parameters);
  for (const bool is_reduce : {false, true}) {
    if (is_reduce ? !plan.overlap_grad_reduce : !plan.overlap_param_gather) continue;
    const Block block = make_block(is_reduce ? sync.reduce : sync.gather, costs);
    for (const Task& task : block.tasks) {
      const DataShare one{task.share, task.holder, task.interference, static_cast<double>(task.alone_ps)};
      const auto known = std::find_if(shares.begin(), shares.end(), [&](const DataShare& s) { return alike(s, one); });
      if (known != shares.end()) {
        known->time_ps += one.time_ps;
      } else if (one.time_ps > 0) {
        shares.push_back(one);
      }
    }
  }
  return shares;
}

Shares send_shares(const Plan& plan, const Model& model, const CostModel& costs) {
  if (plan.pp == 1 || !plan.overlap_p2p) return {};
  const OperatorCost cost = costs.cost(lower_pipeline_send(model, plan));
  return {{.share = cost.share,
           .holder = true,
           .interference = cost.interference,
           .time_ps = static_cast<double>(cost.alone.count())}};
}

ModuleTimes& ModuleTimes::operator+=(const ModuleTimes& other) {
  forward += other.forward;
  backward += other.backward;
  forward_beside_data += other.forward_beside_data;
  backward_beside_data += other.backward_beside_data;
  forward_beside_send += other.forward_beside_send;
  backward_beside_send += other.backward_beside_send;
  parameters += other.parameters;
  return *this;
}

ModuleTimes time_module(const Module& module, const CostModel& costs, const Shares& data, const Shares& send) {
  const SlotTimes forward = time_pass(module.forward, costs, data, send);
  const SlotTimes backward = time_pass(module.backward, costs, data, send);
  return {.forward = forward.alone,
          .backward = backward.alone,
          .forward_beside_data = forward.data,
          .backward_beside_data = backward.data,
          .forward_beside_send = forward.send,
          .backward_beside_send = backward.send,
          .parameters = module.parameters};
}

std::vector<ModuleTimes> chunk_times(const Model& model, const Plan& plan, const ModelTimes& times) {
  std::vector<ModuleTimes> chunks(plan.virtual_stages());
  std::size_t layer_idx = 0;
  for (std::int64_t v = 0; v < plan.virtual_stages(); ++v) {
    for (std::int64_t left = plan.layers_of(v, model.num_layers()); left > 0; --left) {
      chunks[v] += times.layers[model.layers[layer_idx++]];
    }
  }
  chunks.front() += times.embedding;
  for (int i = 0; i < model.predict_layers; ++i) chunks.back() += times.predict;
  chunks.back() += times.head;
  return chunks;
}

std::vector<ModuleTimes> chunk_times(const Program& program, const std::vector<ModuleTimes>& times) {
  assert(times.size() == program.modules.size());
  const Plan& plan = program.plan;
  std::vector<ModuleTimes> chunks(plan.virtual_stages());
  const PipelineShape shape = pipeline_shape(plan);
  for (std::int64_t stage = 0; stage < plan.pp; ++stage) {
    for (std::int64_t chunk = 0; chunk < shape.chunks(); ++chunk) {
      ModuleTimes& sum = chunks[shape.virtual_stage(stage, chunk)] = {};
      for (const std::int16_t module : program.stages[stage].chunks[chunk].modules) sum += times[module];
    }
  }
  return chunks;
}

const SlotTimes& PartTimes::of(const SlotPart& part) {
  const auto [found, is_new] = known_.try_emplace(part.key());
  if (is_new) {
    std::deque<std::vector<Operator>> made;
    found->second = time_pass(part_operators(modules_, plan_, part, made), costs_, data_, send_);
  }
  return found->second;
}

SlotTimes PartTimes::of(const Stage& stage, const Slot& slot) {
  SlotTimes sum;
  for (const SlotPart& part : slot_parts(modules_, stage, slot)) sum += of(part);
  return sum;
}

void add_other_slots(PipelineTimes& times, const std::vector<Stage>& stages, PartTimes& parts) {
  const PipelineShape shape = times.shape();
  if (shape.is_plain()) return;
  times.backward_input.assign(shape.parts_backward() ? shape.virtual_stages() : 0, {});
  times.backward_weight = times.backward_input;
  times.merged.assign(shape.has_merged_slots() ? shape.pp * shape.chunks() * shape.chunks() : 0, {});
  for (std::int64_t stage = 0; stage < shape.pp; ++stage) {
    const auto chunks = static_cast<std::int16_t>(shape.chunks());
    for (std::int16_t chunk = 0; chunk < chunks; ++chunk) {
      if (shape.parts_backward()) {
        const std::int64_t v = shape.virtual_stage(stage, chunk);
        times.backward_input[v] = parts.of(stages[stage], {chunk, SlotKind::kBackwardInput});
        times.backward_weight[v] = parts.of(stages[stage], {chunk, SlotKind::kBackwardWeight});
      }
      for (std::int16_t other = 0; shape.has_merged_slots() && other < chunks; ++other)
        times.merged[times.merged_index(stage, chunk, other)] =
            parts.of(stages[stage], {chunk, SlotKind::kMerged, 0, other, 0});
    }
  }
}

PipelineTimes make_pipeline_times(const Model& model, const Plan& plan, const std::vector<ModuleTimes>& chunks,
                                  const CostModel& costs) {
  PipelineTimes times;
  times.schedule = plan.schedule;
  times.pp = plan.pp;
  times.vpp = plan.vpp;
  times.micro_batches = plan.micro_batches();
  times.merge_passes = plan.merge_passes;
  times.send = costs.cost(lower_pipeline_send(model, plan)).alone.count();
  times.overlap_p2p = plan.overlap_p2p;
  times.overlap_param_gather = plan.overlap_param_gather;
  times.overlap_grad_reduce = plan.overlap_grad_reduce;

  const PipelineShape shape = times.shape();
  std::vector<ModuleParameters> stages(plan.pp);
  for (std::size_t v = 0; v < chunks.size(); ++v) {
    const ModuleTimes& chunk = chunks[v];
    times.forward.push_back(chunk.forward);
    times.backward.push_back(chunk.backward);
    times.forward_beside_data.push_back(chunk.forward_beside_data);
    times.backward_beside_data.push_back(chunk.backward_beside_data);
    times.forward_beside_send.push_back(chunk.forward_beside_send);
    times.backward_beside_send.push_back(chunk.backward_beside_send);
    // Most chunks are as the one before.
    if (v > 0 && chunk.parameters == chunks[v - 1].parameters) {
      times.gather.push_back(times.gather.back());
      times.reduce.push_back(times.reduce.back());
      continue;
    }
    const ChunkSync sync = lower_sync(plan, chunk.parameters);
    times.gather.push_back(serial_ps(sync.gather, costs));
    times.reduce.push_back(serial_ps(sync.reduce, costs));
  }
  for (std::size_t stage = 0; stage < stages.size(); ++stage) {
    for (std::int64_t chunk = 0; chunk < shape.chunks(); ++chunk)
      stages[stage] += chunks[shape.virtual_stage(static_cast<std::int64_t>(stage), chunk)].parameters;
    if (stage > 0 && stages[stage] == stages[stage - 1]) {
      times.optimizer.push_back(times.optimizer.back());
      continue;
    }
    std::int64_t norm = 0, optimizer = 0;
    for (const Operator& op : lower_optimizer(plan, stages[stage])) {
      (op.transfer.collective == Collective::kNone ? optimizer : norm) += costs.cost(op).alone.count();
    }
    times.norm = std::max(times.norm, norm);
    times.optimizer.push_back(optimizer);
  }
  return times;
}

PipelineTimes make_pipeline_times(const Program& program, const Model& model, const CostModel& costs) {
  const Plan& plan = program.plan;
  ModuleParameters mean;
  for (const Stage& stage : program.stages)
    for (const Chunk& chunk : stage.chunks) mean += chunk.parameters;
  mean = mean / static_cast<double>(plan.pp * pipeline_shape(plan).chunks());
  const Shares data = data_shares(plan, mean, costs), send = send_shares(plan, model, costs);
  std::vector<ModuleTimes> modules;
  for (const Module& module : program.modules) modules.push_back(time_module(module, costs, data, send));
  PipelineTimes times = make_pipeline_times(model, plan, chunk_times(program, modules), costs);
  PartTimes parts(program.modules, plan, costs, data, send);
  add_other_slots(times, program.stages, parts);
  return times;
}

}  // namespace msmoe::simulator
