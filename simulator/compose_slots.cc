#include "simulator/compose_slots.h"

#include <algorithm>
#include <cassert>
#include <limits>

namespace msmoe::simulator {

const Composition& SlotComposer::compose(const PipelineTimes& times) {
  start(times);
  for (std::int64_t stage = shape_.pp - 1; stage >= 0; --stage) ready_.push_back(stage);
  while (!ready_.empty()) {
    const std::int64_t stage = ready_.back();
    ready_.pop_back();
    while (run_next(stage)) {
    }
  }
  finish_step();
  return result_;
}

void SlotComposer::start(const PipelineTimes& times) {
  times_ = &times;
  const PipelineShape shape = times.shape();
  if (slots_.empty() || !(shape == shape_)) {
    shape_ = shape;
    slots_.clear();
    for (std::int64_t stage = 0; stage < shape_.pp; ++stage) slots_.push_back(stage_slots(shape_, stage));
  }
  arrivals_.assign(static_cast<std::size_t>(2 * shape_.virtual_stages() * shape_.micro_batches), -1);
  states_.assign(static_cast<std::size_t>(shape_.pp), {});
  result_.stages.assign(static_cast<std::size_t>(shape_.pp), {});
  for (std::int64_t stage = 0; stage < shape_.pp; ++stage) {
    StageState& state = states_[static_cast<std::size_t>(stage)];
    for (std::int64_t chunk = 0; chunk < shape_.chunks(); ++chunk) {
      state.data_end += times.gather[static_cast<std::size_t>(shape_.virtual_stage(stage, chunk))];
      state.gather_end.push_back(state.data_end);
    }
    state.gathered.assign(state.gather_end.size(), false);
    state.gradients_left.assign(state.gather_end.size(), 0);
    for (const Slot& slot : slots_[static_cast<std::size_t>(stage)])
      if (slot.makes_weight_gradients()) ++state.gradients_left[static_cast<std::size_t>(slot.gradient_chunk())];
    if (times.overlap_param_gather) continue;
    state.clock = state.data_end;
    result_.stages[static_cast<std::size_t>(stage)].exposed_gather_ps = state.data_end;
  }
}

// When what a pass of a virtual stage needs is there; negative: not yet.
std::int64_t SlotComposer::arrival(bool backward, std::int64_t virtual_stage, std::int64_t micro_batch) const {
  if (!backward) return virtual_stage == 0 ? 0 : arrivals_[at(false, virtual_stage - 1, micro_batch)];
  const bool last = virtual_stage + 1 == shape_.virtual_stages();
  return last ? 0 : arrivals_[at(true, virtual_stage + 1, micro_batch)];
}

std::int64_t SlotComposer::end_of_slot(std::int64_t stage, std::int64_t start, const SlotTimes& slot) {
  StageState& state = states_[static_cast<std::size_t>(stage)];
  StageTimes& result = result_.stages[static_cast<std::size_t>(stage)];
  std::int64_t slowed = 0;
  if (state.sent > start) {
    const Slowdown by_send = slowdown(slot.alone, slot.send, state.sent - start);
    slowed += by_send.slot;
    state.sent += by_send.other;
  }
  if (state.data_end > start) {
    const Slowdown by_data = slowdown(slot.alone, slot.data, state.data_end - start);
    slowed += by_data.slot;
    state.data_end += by_data.other;
    for (std::int64_t& gather_end : state.gather_end)
      if (gather_end > start) gather_end += slowdown(slot.alone, slot.data, gather_end - start).other;
  }
  result.slowed_ps += slowed;
  result.busy_ps += slot.alone + slowed;
  return start + slot.alone + slowed;
}

// The output of a virtual stage to the stage that needs it, which may go on.
void SlotComposer::send(std::int64_t stage, bool backward, std::int64_t virtual_stage, std::int64_t micro_batch) {
  const std::int64_t to = backward ? virtual_stage - 1 : virtual_stage + 1;
  if (to < 0 || to == shape_.virtual_stages()) return;
  StageState& state = states_[static_cast<std::size_t>(stage)];
  std::int64_t& arrival = arrivals_[at(backward, virtual_stage, micro_batch)];
  if (!shape_.sends(std::min(virtual_stage, to))) {
    arrival = state.clock;
    return;
  }
  state.sent = std::max(state.sent, state.clock) + times_->send;
  arrival = state.sent;
  if (!times_->overlap_p2p) {
    state.clock = state.sent;
    result_.stages[static_cast<std::size_t>(stage)].exposed_send_ps += times_->send;
  }
  ready_.push_back(shape_.stage_of(to, micro_batch));
}

bool SlotComposer::run_next(std::int64_t stage) {
  StageState& state = states_[static_cast<std::size_t>(stage)];
  StageTimes& result = result_.stages[static_cast<std::size_t>(stage)];
  const std::vector<Slot>& slots = slots_[static_cast<std::size_t>(stage)];
  if (state.next == slots.size()) return false;
  const Slot& slot = slots[state.next];
  const std::int64_t v = shape_.virtual_stage(stage, slot.chunk);
  const std::int64_t gradient_v = shape_.virtual_stage(stage, slot.gradient_chunk());
  std::int64_t arrived = 0;
  if (slot.runs_forward()) {
    arrived = arrival(false, v, slot.micro_batch);
    if (arrived < 0) return false;
  }
  if (slot.makes_input_gradients()) {
    const std::int64_t gradient = arrival(true, gradient_v, slot.gradient_micro_batch());
    if (gradient < 0) return false;
    arrived = std::max(arrived, gradient);
  }
  ++state.next;

  const std::int64_t wait = std::max<std::int64_t>(0, arrived - state.clock);
  result.exposed_send_ps += shape_.pp > 1 ? std::min(wait, times_->send) : 0;
  std::int64_t start = state.clock + wait;
  if (slot.runs_forward() && !state.gathered[static_cast<std::size_t>(slot.chunk)]) {
    state.gathered[static_cast<std::size_t>(slot.chunk)] = true;
    const std::int64_t gathered = std::max(start, state.gather_end[static_cast<std::size_t>(slot.chunk)]);
    result.exposed_gather_ps += gathered - start;
    start = gathered;
  }
  const std::int64_t end = end_of_slot(stage, start, times_->slot(stage, slot));
  state.clock = end;
  result.last_slot_end_ps = end;
  if (slot.runs_forward()) send(stage, false, v, slot.micro_batch);
  if (slot.makes_input_gradients()) send(stage, true, gradient_v, slot.gradient_micro_batch());
  if (slot.makes_weight_gradients() && --state.gradients_left[static_cast<std::size_t>(slot.gradient_chunk())] == 0 &&
      times_->overlap_grad_reduce)
    state.data_end = std::max(state.data_end, end) + times_->reduce[static_cast<std::size_t>(gradient_v)];
  return true;
}

void SlotComposer::finish_step() {
  std::int64_t done = 0;
  for (std::int64_t stage = 0; stage < shape_.pp; ++stage) {
    StageState& state = states_[static_cast<std::size_t>(stage)];
    assert(state.next == slots_[static_cast<std::size_t>(stage)].size());
    if (!times_->overlap_grad_reduce) {
      state.data_end = std::max(state.data_end, result_.stages[static_cast<std::size_t>(stage)].last_slot_end_ps);
      for (std::int64_t chunk = 0; chunk < shape_.chunks(); ++chunk)
        state.data_end += times_->reduce[static_cast<std::size_t>(shape_.virtual_stage(stage, chunk))];
    }
    done = std::max({done, state.clock, state.data_end});
  }
  result_.step_ps = done + times_->norm + *std::max_element(times_->optimizer.begin(), times_->optimizer.end());
  for (std::int64_t stage = 0; stage < shape_.pp; ++stage) {
    const StageState& state = states_[static_cast<std::size_t>(stage)];
    StageTimes& times = result_.stages[static_cast<std::size_t>(stage)];
    times.exposed_reduce_ps = std::max<std::int64_t>(0, state.data_end - state.clock);
    times.bubble_ps = result_.step_ps - times.busy_ps - times.exposed_gather_ps - times.exposed_send_ps -
                      times.exposed_reduce_ps - times_->norm - times_->optimizer[static_cast<std::size_t>(stage)];
  }
}

namespace {

// The least that a stage needs from the start of the step to the end of its last reduction.
std::int64_t least_stage_time(const PipelineTimes& times, const PipelineShape& shape, std::int64_t stage,
                              const std::vector<Slot>& slots) {
  std::int64_t gathers = 0, reductions = 0, work = 0;
  std::int64_t least_reduction = std::numeric_limits<std::int64_t>::max();
  for (std::int64_t chunk = 0; chunk < shape.chunks(); ++chunk) {
    const auto v = static_cast<std::size_t>(shape.virtual_stage(stage, chunk));
    gathers += times.gather[v];
    reductions += times.reduce[v];
    least_reduction = std::min(least_reduction, times.reduce[v]);
  }
  for (const Slot& slot : slots) work += times.slot(stage, slot).alone;
  // Every stage starts with a forward of the first micro-batch that reaches it, which no stage before merges.
  const std::int64_t first = shape.virtual_stage(stage, slots.front().chunk);
  std::int64_t arrival = 0;
  for (std::int64_t v = 0; v < first; ++v)
    arrival += times.forward[static_cast<std::size_t>(v)] + (shape.sends(v) ? times.send : 0);
  arrival = std::max(arrival, times.overlap_param_gather ? times.gather[static_cast<std::size_t>(first)] : gathers);
  return arrival + work + (times.overlap_grad_reduce ? least_reduction : reductions);
}

}  // namespace

std::int64_t lower_bound_of_slots_ps(const PipelineTimes& times) {
  const PipelineShape shape = times.shape();
  std::int64_t bound = 0, there_and_back = 0;
  for (std::int64_t stage = 0; stage < shape.pp; ++stage) {
    const std::vector<Slot> slots = stage_slots(shape, stage);
    bound = std::max(bound, least_stage_time(times, shape, stage, slots));
    for (const Slot& slot : slots) {
      const std::int64_t v = shape.virtual_stage(stage, slot.chunk);
      const std::int64_t gradient_v = shape.virtual_stage(stage, slot.gradient_chunk());
      const std::int64_t alone = times.slot(stage, slot).alone;
      if (slot.runs_forward() && slot.micro_batch == 0)
        there_and_back += alone + (v + 1 < shape.virtual_stages() && shape.sends(v) ? times.send : 0);
      if (slot.makes_input_gradients() && slot.gradient_micro_batch() == 0)
        there_and_back += alone + (gradient_v > 0 && shape.sends(gradient_v - 1) ? times.send : 0);
    }
  }
  return std::max(bound, there_and_back) + times.norm +
         *std::max_element(times.optimizer.begin(), times.optimizer.end());
}

}  // namespace msmoe::simulator
