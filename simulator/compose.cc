#include "simulator/compose.h"

#include <algorithm>
#include <cassert>
#include <numeric>

#include "core/schedule.h"
#include "simulator/compose_slots.h"

namespace msmoe::simulator {
namespace {

void assert_full(const PipelineTimes& times) {
  [[maybe_unused]] const auto virtual_stages = static_cast<std::size_t>(times.pp * times.vpp);
  assert(times.forward.size() == virtual_stages && times.backward.size() == virtual_stages);
  assert(times.forward_beside_data.size() == virtual_stages && times.backward_beside_data.size() == virtual_stages);
  assert(times.forward_beside_send.size() == virtual_stages && times.backward_beside_send.size() == virtual_stages);
  assert(times.gather.size() == virtual_stages && times.reduce.size() == virtual_stages);
  assert(times.optimizer.size() == static_cast<std::size_t>(times.pp));
}

}  // namespace

SlotTimes PipelineTimes::slot(std::int64_t stage, const Slot& slot) const {
  const auto v = static_cast<std::size_t>(shape().virtual_stage(stage, slot.chunk));
  switch (slot.kind) {
    case SlotKind::kForward: return {forward[v], forward_beside_data[v], forward_beside_send[v]};
    case SlotKind::kBackward: return {backward[v], backward_beside_data[v], backward_beside_send[v]};
    case SlotKind::kBackwardInput: return backward_input[v];
    case SlotKind::kBackwardWeight: return backward_weight[v];
    case SlotKind::kMerged: return merged[merged_index(stage, slot.chunk, slot.backward_chunk)];
  }
  return {};
}

Composer::Composer() = default;
Composer::~Composer() = default;

const Composition& Composer::compose(const PipelineTimes& times) {
  assert_full(times);
  if (!times.shape().is_plain()) {
    if (!slots_) slots_ = std::make_unique<SlotComposer>();
    return slots_->compose(times);
  }
  times_ = &times;
  send_ = times.pp > 1 ? times.send : 0;
  hold_ = times.overlap_p2p ? 0 : send_;
  lay_out_turns(times);
  states_.assign(times.pp, {});
  result_.stages.assign(times.pp, {});
  start_gathers();
  run_ticks();
  finish_step();
  return result_;
}

void Composer::lay_out_turns(const PipelineTimes& times) {
  if (schedule_ == times.schedule && pp_ == times.pp && vpp_ == times.vpp && micro_batches_ == times.micro_batches)
    return;
  schedule_ = times.schedule;
  pp_ = times.pp;
  vpp_ = times.vpp;
  micro_batches_ = times.micro_batches;
  assert(schedule_ == PipelineSchedule::kInterleaved || vpp_ == 1);
  round_ = schedule_ == PipelineSchedule::k1F1B ? micro_batches_ : round_size(pp_, micro_batches_);

  turns_.clear();
  turns_.reserve(micro_batches_ * vpp_);
  for (std::int64_t first = 0; first < micro_batches_; first += round_) {
    const std::int64_t last = std::min(first + round_, micro_batches_);
    for (std::int64_t chunk = 0; chunk < vpp_; ++chunk) {
      for (std::int64_t micro_batch = first; micro_batch < last; ++micro_batch) {
        const auto wraps_from = static_cast<std::int32_t>(turns_.size()) - static_cast<std::int32_t>(last - first);
        turns_.push_back(
            {static_cast<std::int32_t>(chunk), wraps_from, micro_batch == 0, micro_batch == micro_batches_ - 1});
      }
    }
  }
  forward_wraps_.resize(turns_.size());
  backward_wraps_.resize(turns_.size());
}

void Composer::start_gathers() {
  gather_end_.resize(pp_ * vpp_);
  for (std::int64_t stage = 0; stage < pp_; ++stage) {
    StageState& state = states_[stage];
    for (std::int64_t v = stage; v < pp_ * vpp_; v += pp_) {
      state.data_end += times_->gather[v];
      gather_end_[v] = state.data_end;
    }
    if (times_->overlap_param_gather) continue;
    state.clock = state.data_end;
    result_.stages[stage].exposed_gather_ps = state.data_end;
  }
}

// In a tick, stages with d of the tick's parity (1F1B) or all (interleaved) run one forward and one backward each, as
// far as they have them. Forwards go from the last stage to the first and backwards the other way, so that a message
// from the tick before is read before the neighbour's next one takes its place.
void Composer::run_ticks() {
  const std::int64_t pitch = schedule_ == PipelineSchedule::k1F1B ? 2 : 1;
  const std::int64_t lead = (vpp_ - 1) * round_;  // forwards of the last stage before its first backward, but one
  const std::int64_t last_turn = static_cast<std::int64_t>(turns_.size()) - 1;
  const auto align_up = [&](std::int64_t d, std::int64_t tick) { return d + ((d ^ tick) & (pitch - 1)); };
  const auto align_down = [&](std::int64_t d, std::int64_t tick) { return d - ((d ^ tick) & (pitch - 1)); };

  for (std::int64_t tick = -lead - (pp_ - 1); tick <= pitch * last_turn + pp_ - 1; ++tick) {
    const std::int64_t forward_tick = tick + lead;
    const std::int64_t forward_first = align_up(std::max<std::int64_t>(0, -forward_tick), tick);
    const std::int64_t forward_last = std::min(pp_ - 1, pitch * last_turn - forward_tick);
    for (std::int64_t d = forward_first; d <= forward_last; d += pitch) {
      run_forward(pp_ - 1 - d, (forward_tick + d) / pitch);
    }
    const std::int64_t backward_first = std::max<std::int64_t>(0, tick - pitch * last_turn);
    const std::int64_t backward_last = align_down(std::min(pp_ - 1, tick), tick);
    for (std::int64_t d = backward_last; d >= backward_first; d -= pitch) {
      run_backward(pp_ - 1 - d, (tick - d) / pitch);
    }
  }
}

inline std::int64_t Composer::start_of_slot(std::int64_t stage, std::int64_t arrival) {
  const std::int64_t wait = std::max<std::int64_t>(0, arrival - states_[stage].clock);
  result_.stages[stage].exposed_send_ps += std::min(wait, send_);
  return states_[stage].clock + wait;
}

inline std::int64_t Composer::end_of_slot(std::int64_t stage, std::int64_t start, std::int64_t alone,
                                          const Beside& data, const Beside& send) {
  StageState& state = states_[stage];
  std::int64_t slowed = 0;
  if (state.sent > start) {
    const Slowdown by_send = slowdown(alone, send, state.sent - start);
    slowed += by_send.slot;
    state.sent += by_send.other;
  }
  if (state.data_end > start) {
    const Slowdown by_data = slowdown(alone, data, state.data_end - start);
    slowed += by_data.slot;
    state.data_end += by_data.other;
    for (std::int64_t v = (vpp_ - 1) * pp_ + stage; v >= 0 && gather_end_[v] > start; v -= pp_) {
      gather_end_[v] += slowdown(alone, data, gather_end_[v] - start).other;
    }
  }
  result_.stages[stage].slowed_ps += slowed;
  return start + alone + slowed;
}

inline void Composer::run_forward(std::int64_t stage, std::int64_t turn_idx) {
  const Turn& turn = turns_[turn_idx];
  const std::int64_t v = turn.chunk * pp_ + stage;
  std::int64_t arrival = 0;
  if (stage > 0) {
    arrival = states_[stage - 1].forward_arrival;
  } else if (turn.chunk > 0) {
    arrival = forward_wraps_[turn.wraps_from];
  }
  std::int64_t start = start_of_slot(stage, arrival);
  if (turn.first) {
    const std::int64_t gathered = std::max(start, gather_end_[v]);
    result_.stages[stage].exposed_gather_ps += gathered - start;
    start = gathered;
  }
  const std::int64_t end =
      end_of_slot(stage, start, times_->forward[v], times_->forward_beside_data[v], times_->forward_beside_send[v]);
  StageState& state = states_[stage];
  state.clock = end;
  if (v == pp_ * vpp_ - 1) return;
  state.clock += hold_;
  state.sent = std::max(state.sent, end) + send_;
  state.forward_arrival = state.sent;
  if (stage == pp_ - 1) forward_wraps_[turn_idx] = state.sent;
}

inline void Composer::run_backward(std::int64_t stage, std::int64_t turn_idx) {
  const Turn& turn = turns_[turn_idx];
  const std::int64_t v = (vpp_ - 1 - turn.chunk) * pp_ + stage;
  std::int64_t arrival = 0;  // the last virtual stage needs no more than its own forward, which came before
  if (stage < pp_ - 1) {
    arrival = states_[stage + 1].backward_arrival;
  } else if (turn.chunk > 0) {
    arrival = backward_wraps_[turn.wraps_from];
  }
  const std::int64_t start = start_of_slot(stage, arrival);
  const std::int64_t end =
      end_of_slot(stage, start, times_->backward[v], times_->backward_beside_data[v], times_->backward_beside_send[v]);
  StageState& state = states_[stage];
  state.clock = end;
  if (turn.last) {
    result_.stages[stage].last_slot_end_ps = end;
    if (times_->overlap_grad_reduce) state.data_end = std::max(state.data_end, end) + times_->reduce[v];
  }
  if (v == 0) return;
  state.clock += hold_;
  state.sent = std::max(state.sent, end) + send_;
  state.backward_arrival = state.sent;
  if (stage == 0) backward_wraps_[turn_idx] = state.sent;
}

void Composer::finish_step() {
  std::int64_t done = 0;
  for (std::int64_t stage = 0; stage < pp_; ++stage) {
    StageState& state = states_[stage];
    if (!times_->overlap_grad_reduce) {
      state.data_end = std::max(state.data_end, result_.stages[stage].last_slot_end_ps);
      for (std::int64_t v = stage; v < pp_ * vpp_; v += pp_) state.data_end += times_->reduce[v];
    }
    done = std::max({done, state.clock, state.data_end});
  }
  const std::int64_t optimizer_start = done + times_->norm;
  result_.step_ps = optimizer_start + *std::max_element(times_->optimizer.begin(), times_->optimizer.end());

  for (std::int64_t stage = 0; stage < pp_; ++stage) {
    StageTimes& times = result_.stages[stage];
    std::int64_t sends =
        2 * vpp_;  // of a micro-batch: the first virtual stage sends no gradient, the last no activation
    if (stage == 0) --sends;
    if (stage == pp_ - 1) --sends;
    times.exposed_send_ps += micro_batches_ * sends * hold_;
    times.exposed_reduce_ps = std::max<std::int64_t>(0, states_[stage].data_end - states_[stage].clock);
    times.busy_ps = times.slowed_ps;
    for (std::int64_t v = stage; v < pp_ * vpp_; v += pp_) {
      times.busy_ps += micro_batches_ * (times_->forward[v] + times_->backward[v]);
    }
    times.bubble_ps = result_.step_ps - times.busy_ps - times.exposed_gather_ps - times.exposed_send_ps -
                      times.exposed_reduce_ps - times_->norm - times_->optimizer[stage];
  }
}

std::int64_t lower_bound_ps(const PipelineTimes& times) {
  assert_full(times);
  if (!times.shape().is_plain()) return lower_bound_of_slots_ps(times);
  const std::int64_t virtual_stages = times.pp * times.vpp;
  const std::int64_t send = times.pp > 1 ? times.send : 0;
  const std::int64_t hold = times.overlap_p2p ? 0 : send;
  std::int64_t arrival = 0;  // the first micro-batch's, at the stage's chunk 0
  std::int64_t tail = 0;  // from the end of the stage's last slot, a backward of chunk 0, to the end of all it entails
  std::int64_t bound = 0;
  for (std::int64_t stage = 0; stage < times.pp; ++stage) {
    std::int64_t slots = 0, gathers = 0, reductions = 0, holds = 0;
    for (std::int64_t v = stage; v < virtual_stages; v += times.pp) {
      slots += times.forward[v] + times.backward[v];
      gathers += times.gather[v];
      reductions += times.reduce[v];
      holds += (v < virtual_stages - 1 ? hold : 0) + (v > 0 ? hold : 0);
    }
    const std::int64_t last_hold = stage > 0 ? hold : 0;
    arrival = std::max(arrival, times.overlap_param_gather ? times.gather[stage] : gathers);
    tail = std::max({stage > 0 ? send + times.backward[stage - 1] + tail : 0, last_hold,
                     times.overlap_grad_reduce ? times.reduce[stage] : reductions});
    bound = std::max(bound, arrival + times.micro_batches * (slots + holds) - last_hold + tail);
    arrival += times.forward[stage] + send;
  }
  const std::int64_t there_and_back = std::accumulate(times.forward.begin(), times.forward.end(), std::int64_t{0}) +
                                      std::accumulate(times.backward.begin(), times.backward.end(), std::int64_t{0}) +
                                      2 * (virtual_stages - 1) * send;
  return std::max(bound, there_and_back) + times.norm +
         *std::max_element(times.optimizer.begin(), times.optimizer.end());
}

}  // namespace msmoe::simulator
