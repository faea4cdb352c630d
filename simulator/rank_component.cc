#include "simulator/rank_component.h"

#include <algorithm>
#include <numeric>
namespace msmoe::simulator {
namespace {

double& at(std::array<double, kNumTimeParts>& parts, TimePart part) { return parts[static_cast<std::size_t>(part)]; }
double& at(std::array<double, kNumRankWaits>& waits, RankWait wait) { return waits[static_cast<std::size_t>(wait)]; }

std::int64_t message_key(const RankJob& job, bool backward, std::int64_t virtual_stage, std::int64_t micro_batch) {
  return (micro_batch * job.plan().virtual_stages() + virtual_stage) * 2 + (backward ? 1 : 0);
}

// How much later a slot and what has `left` to do beside it end (compose.h).
struct RankSlowdown {
  double slot = 0, other = 0;
};
RankSlowdown rank_slowdown(std::int64_t alone, const Beside& beside, double left) {
  const double share = std::min(1.0, left / static_cast<double>(std::max<std::int64_t>(beside.other, 1)));
  return {share * static_cast<double>(beside.slot - alone), share * static_cast<double>(beside.slot - beside.other)};
}

}  // namespace

double RankTimes::waiting() const { return std::accumulate(waits.begin(), waits.end(), 0.0); }

RankComponent::RankComponent(const RankJob& job)
    : job_(job),
      width_(static_cast<std::size_t>(job.width())),
      send_(job.plan().pp > 1 ? static_cast<double>(job.times().send) : 0),
      hold_(job.times().overlap_p2p ? 0 : send_),
      busy_(width_),
      now_(width_),
      factor_(width_),
      start_(width_),
      length_(width_) {}

void RankComponent::run(const std::vector<double>& factors, const LognormalFactors* noise, std::uint64_t key,
                        ComponentStep& step) {
  const PipelineTimes& times = job_.times();
  const auto stages = static_cast<std::size_t>(times.pp), virtual_stages = stages * static_cast<std::size_t>(times.vpp);
  noise_ = noise;
  step_ = &step;
  step.ranks.assign(stages * width_, {});
  step.reduce_ready.assign(virtual_stages, 0);
  step.data_end.assign(stages, 0);
  step.last_end.assign(stages, 0);
  step.parts.assign(stages, {});
  clock_.assign(stages, Row(width_, 0));
  sent_ = clock_;
  gather_end_.assign(virtual_stages, 0);
  for (std::size_t v = 0; v < virtual_stages; ++v) {
    step.data_end[v % stages] += static_cast<double>(times.gather[v]);
    gather_end_[v] = step.data_end[v % stages];
  }
  if (!times.overlap_param_gather) {
    for (std::size_t stage = 0; stage < stages; ++stage) {
      clock_[stage].assign(width_, step.data_end[stage]);
      at(step.parts[stage], TimePart::kParamGather) += static_cast<double>(width_) * step.data_end[stage];
      for (std::size_t rank = 0; rank < width_; ++rank) step.ranks[stage * width_ + rank].wires = step.data_end[stage];
    }
  }
  std::uint64_t slot_idx = 0;
  for (const RankSlot& slot : job_.slots()) {
    key_ = mix_bits(key + kSplitMixStep * ++slot_idx);
    factors_ = &factors[static_cast<std::size_t>(slot.stage) * width_];
    ranks_ = &step.ranks[static_cast<std::size_t>(slot.stage) * width_];
    parts_ = &step.parts[static_cast<std::size_t>(slot.stage)];
    run_slot(slot);
  }
  for (std::size_t stage = 0; stage < stages; ++stage)
    for (std::size_t rank = 0; rank < width_; ++rank) step.ranks[stage * width_ + rank].end = clock_[stage][rank];
}

void RankComponent::run_slot(const RankSlot& slot) {
  now_ = clock_[slot.stage];
  if (slot.receives) receive(slot);
  if (slot.gathers) gather(slot);
  const double started = *std::max_element(now_.begin(), now_.end());
  slot_start_ = now_;
  busy_.assign(width_, 0);
  std::uint64_t place = 0;
  for (const PassLengths* pass : job_.passes(slot)) run_pass(*pass, mix_bits(key_ + ++place));
  slow_down(slot, started);
  clock_[slot.stage] = now_;
  const double ended = *std::max_element(now_.begin(), now_.end());
  step_->last_end[slot.stage] = ended;
  if (slot.reduces) {
    step_->reduce_ready[slot.virtual_stage] = ended;
    double& data_end = step_->data_end[slot.stage];
    if (job_.times().overlap_grad_reduce)
      data_end = std::max(data_end, ended) + static_cast<double>(job_.times().reduce[slot.virtual_stage]);
  }
  if (slot.sends) send(slot);
}

void RankComponent::receive(const RankSlot& slot) {
  const auto found = messages_.find(message_key(job_, slot.backward, slot.virtual_stage, slot.micro_batch));
  for (std::size_t rank = 0; rank < width_; ++rank) {
    const double wait = found->second[rank] - now_[rank];
    if (wait <= 0) continue;
    now_[rank] = found->second[rank];
    const double on_its_way = std::min(wait, send_);
    ranks_[rank].wires += on_its_way;
    at(ranks_[rank].waits, RankWait::kStages) += wait - on_its_way;
    at(*parts_, TimePart::kExposedSend) += on_its_way;
  }
  spare_.push_back(std::move(found->second));
  messages_.erase(found);
}

void RankComponent::gather(const RankSlot& slot) {
  for (std::size_t rank = 0; rank < width_; ++rank) {
    const double wait = gather_end_[slot.virtual_stage] - now_[rank];
    if (wait <= 0) continue;
    now_[rank] += wait;
    ranks_[rank].wires += wait;
    at(*parts_, TimePart::kParamGather) += wait;
  }
}

// started: when the last rank did. Data-parallel operators are the stage's, messages each rank's own.
void RankComponent::slow_down(const RankSlot& slot, double started) {
  const PipelineTimes& times = job_.times();
  const std::size_t v = slot.virtual_stage;
  const std::int64_t alone = slot.backward ? times.backward[v] : times.forward[v];
  double by_data = 0;
  double& data_end = step_->data_end[slot.stage];
  if (data_end > started) {
    const Beside& beside = slot.backward ? times.backward_beside_data[v] : times.forward_beside_data[v];
    const RankSlowdown slowed = rank_slowdown(alone, beside, data_end - started);
    by_data = slowed.slot;
    data_end += slowed.other;
    for (std::size_t other = slot.stage; other < gather_end_.size(); other += static_cast<std::size_t>(times.pp))
      if (gather_end_[other] > started)
        gather_end_[other] += rank_slowdown(alone, beside, gather_end_[other] - started).other;
  }
  const Beside& send = slot.backward ? times.backward_beside_send[v] : times.forward_beside_send[v];
  for (std::size_t rank = 0; rank < width_; ++rank) {
    double slowed = by_data;
    double& sent = sent_[slot.stage][rank];
    if (sent > slot_start_[rank]) {
      const RankSlowdown by_send = rank_slowdown(alone, send, sent - slot_start_[rank]);
      slowed += by_send.slot;
      sent += by_send.other;
    }
    now_[rank] += slowed;
    ranks_[rank].busy += busy_[rank] + slowed;
    at(*parts_, TimePart::kSlowdown) += slowed;
  }
}

void RankComponent::send(const RankSlot& slot) {
  Row row;
  if (!spare_.empty()) {
    row = std::move(spare_.back());
    spare_.pop_back();
  }
  row.resize(width_);
  for (std::size_t rank = 0; rank < width_; ++rank) {
    double& sent = sent_[slot.stage][rank];
    sent = std::max(sent, now_[rank]) + send_;
    row[rank] = sent;
    clock_[slot.stage][rank] += hold_;
    ranks_[rank].wires += hold_;
  }
  at(*parts_, TimePart::kExposedSend) += static_cast<double>(width_) * hold_;
  const std::int64_t to = slot.virtual_stage + (slot.backward ? -1 : 1);
  messages_.emplace(message_key(job_, slot.backward, to, slot.micro_batch), std::move(row));
}

void RankComponent::take_latest(const RankGroups& groups, double* row) {
  latest_.assign(groups.count, 0);
  for (std::size_t rank = 0; rank < width_; ++rank)
    latest_[groups.of[rank]] = std::max(latest_[groups.of[rank]], row[rank]);
  for (std::size_t rank = 0; rank < width_; ++rank) row[rank] = latest_[groups.of[rank]];
}

void RankComponent::run_pass(const PassLengths& pass, std::uint64_t key) {
  const std::vector<RankOperator>& operators = pass.table->operators;
  if (operators.empty()) return;
  if (end_.size() < operators.size() * width_) {
    end_.resize(operators.size() * width_);
    late_.resize(operators.size() * width_);
  }
  stream_end_.fill(now_.data());
  stream_tail_.fill(-1);
  for (std::size_t op = 0; op < operators.size(); ++op) {
    set_lengths(pass, op, key);
    if (operators[op].follows && !pass.is_late[op]) {
      follow(pass, op);
    } else {
      start_operator(pass, op);
      end_operator(operators[op], op);
      if (operators[op].stream == Stream::kCompute) account(pass, op);
    }
    const auto stream = static_cast<std::size_t>(operators[op].stream);
    stream_end_[stream] = &end_[op * width_];
    stream_tail_[stream] = static_cast<int>(op);
  }
  join(operators);
}

// Most operators: nothing to wait for.
void RankComponent::follow(const PassLengths& pass, std::size_t op_idx) {
  const double* before = stream_end_[static_cast<std::size_t>(Stream::kCompute)];
  double* end = &end_[op_idx * width_];
  double computed = 0;
  for (std::size_t rank = 0; rank < width_; ++rank) {
    end[rank] = before[rank] + length_[rank];
    busy_[rank] += length_[rank];
    computed += length_[rank];
  }
  at(*parts_, pass.table->operators[op_idx].part) += computed;
}

void RankComponent::start_operator(const PassLengths& pass, std::size_t op_idx) {
  const RankOperator& op = pass.table->operators[op_idx];
  const double* free = stream_end_[static_cast<std::size_t>(op.stream)];
  const double* issued = &pass.issued[op_idx * width_];
  for (std::size_t rank = 0; rank < width_; ++rank) start_[rank] = std::max(free[rank], now_[rank] + issued[rank]);
  for (const std::int16_t wait : op.waits) {
    const double* ended = &end_[static_cast<std::size_t>(wait) * width_];
    for (std::size_t rank = 0; rank < width_; ++rank) start_[rank] = std::max(start_[rank], ended[rank]);
  }
  if (!op.meets) return;
  double* late = &late_[op_idx * width_];
  std::copy_n(start_.begin(), width_, late);
  take_latest(job_.groups(op.group), start_.data());
  for (std::size_t rank = 0; rank < width_; ++rank) late[rank] = start_[rank] - late[rank];
}

// Stragglers and noise stretch what computes; of a fused operator, its compute half.
void RankComponent::set_lengths(const PassLengths& pass, std::size_t op_idx, std::uint64_t key) {
  const RankOperator& op = pass.table->operators[op_idx];
  std::copy_n(&pass.length[op_idx * width_], width_, length_.begin());
  if (!op.computes) return;
  std::copy_n(factors_, width_, factor_.begin());
  if (noise_ != nullptr) {
    const std::uint64_t first = mix_bits(key + op_idx);
    for (std::size_t rank = 0; rank < width_; ++rank)
      factor_[rank] *= noise_->of(mix_bits(first + kSplitMixStep * rank));
  }
  if (!op.transfers) {
    for (std::size_t rank = 0; rank < width_; ++rank) length_[rank] *= factor_[rank];
    return;
  }
  const double* compute = &pass.compute[op_idx * width_];
  const double* beside = &pass.beside[op_idx * width_];
  const double* after = &pass.after[op_idx * width_];
  for (std::size_t rank = 0; rank < width_; ++rank) {
    const double alone = std::max(compute[rank], beside[rank]) + after[rank];
    const double stretched = std::max(compute[rank] * factor_[rank], beside[rank]) + after[rank];
    if (alone > 0) length_[rank] *= stretched / alone;
  }
}

void RankComponent::end_operator(const RankOperator& op, std::size_t op_idx) {
  double* end = &end_[op_idx * width_];
  for (std::size_t rank = 0; rank < width_; ++rank) end[rank] = start_[rank] + length_[rank];
  if (!op.ends_together || !op.computes) return;
  double* late = &late_[op_idx * width_];
  for (std::size_t rank = 0; rank < width_; ++rank) late[rank] -= end[rank];
  take_latest(job_.groups(op.group), end);
  for (std::size_t rank = 0; rank < width_; ++rank) late[rank] += end[rank];
}

// The compute stream stood still for `gap` until operator `waited` ended: first for the others of its group, the rest
// for its wires.
void RankComponent::wait_for_operator(std::size_t rank, double gap, int waited,
                                      const std::vector<RankOperator>& operators) {
  double others = 0;
  if (waited >= 0 && operators[waited].meets) {
    others = std::min(gap, late_[static_cast<std::size_t>(waited) * width_ + rank]);
    at(ranks_[rank].waits, operators[waited].wait) += others;
    at(*parts_, TimePart::kUnevenRanks) += others;
  }
  ranks_[rank].wires += gap - others;
  at(*parts_, TimePart::kExposedCommunication) += gap - others;
}

void RankComponent::account(const PassLengths& pass, std::size_t op_idx) {
  const std::vector<RankOperator>& operators = pass.table->operators;
  const RankOperator& op = operators[op_idx];
  const double* stream = stream_end_[static_cast<std::size_t>(Stream::kCompute)];
  const double* end = &end_[op_idx * width_];
  const double* late = &late_[op_idx * width_];
  const double* compute = &pass.compute[op_idx * width_];
  double computed = 0, exposed = 0;
  for (std::size_t rank = 0; rank < width_; ++rank) {
    // Before it, and after it for the slowest of its group.
    const double gap = end[rank] - stream[rank] - length_[rank];
    const double others = op.meets ? std::min(gap, late[rank]) : 0;
    if (others > 0) {
      at(ranks_[rank].waits, op.wait) += others;
      at(*parts_, TimePart::kUnevenRanks) += others;
    }
    if (gap > others) {
      int waited = -1;
      for (const std::int16_t wait : op.waits)
        if (waited < 0 || end_[wait * width_ + rank] > end_[static_cast<std::size_t>(waited) * width_ + rank])
          waited = wait;
      wait_for_operator(rank, gap - others, waited, operators);
    }
    double wires = op.computes ? 0 : length_[rank];
    if (op.computes && op.transfers)  // what compute cannot hide
      wires = std::max(0.0, length_[rank] - compute[rank] * factor_[rank]);
    ranks_[rank].wires += wires;
    busy_[rank] += length_[rank] - wires;
    exposed += wires;
    computed += length_[rank] - wires;
  }
  at(*parts_, TimePart::kExposedCommunication) += exposed;
  if (op.computes) at(*parts_, op.part) += computed;
}

void RankComponent::join(const std::vector<RankOperator>& operators) {
  const auto compute = static_cast<std::size_t>(Stream::kCompute);
  for (std::size_t rank = 0; rank < width_; ++rank) {
    std::size_t last = compute;
    for (std::size_t stream = 0; stream < stream_end_.size(); ++stream)
      if (stream_end_[stream][rank] > stream_end_[last][rank]) last = stream;
    const double gap = stream_end_[last][rank] - stream_end_[compute][rank];
    if (gap > 0) wait_for_operator(rank, gap, stream_tail_[last], operators);
    start_[rank] = stream_end_[last][rank];
  }
  now_ = start_;
}

}  // namespace msmoe::simulator
