// Whether a timeline is one of a pipeline that trains: checked from what each slot is and when it ran, with no code of
// core/schedule.cc's, of the engine's or of the job builder's.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "simulator/job.h"
#include "tests/core/schedule_checker.h"

namespace msmoe::simulator {

class PipelineChecker {
 public:
  PipelineChecker(const IndexedJob& indexed, const std::vector<TaskRun>& runs, Placement placement, std::int64_t pp,
                  std::int64_t chunks)
      : placement_(placement), pp_(pp), virtual_stages_(placement == Placement::kBidirectional ? pp : pp * chunks) {
    std::map<std::pair<std::int32_t, std::int32_t>, Span> slots;
    for (const TaskRun& run : runs) {
      if (indexed.index.slot(run).role != SlotRole::kPass) continue;
      const TaskOrigin& origin = indexed.index.task(indexed.job, run);
      if (origin.op != nullptr && origin.op->name == std::string("pipeline_send")) continue;
      Span& span = slots[{run.device, run.slot}];
      span.start = std::min(span.start, run.start_ps);
      span.end = std::max(span.end, run.end_ps);
    }
    for (const auto& [place, span] : slots) add(place.first, indexed.index.slots[place.first][place.second].slot, span);
  }

  // What is wrong; empty if nothing is.
  std::vector<std::string> check(std::int64_t micro_batches) {
    for (std::int64_t v = 0; v < virtual_stages_; ++v) {
      for (std::int64_t m = 0; m < micro_batches; ++m) {
        const Span* forward = only({'F', v, m});
        const Span* input = only({'I', v, m});
        const Span* weight = only({'W', v, m});
        if (forward == nullptr || input == nullptr || weight == nullptr) continue;
        if (v > 0) follows("forward", v, m, *forward, only({'F', v - 1, m}));
        follows("backward", v, m, *input, v + 1 < virtual_stages_ ? only({'I', v + 1, m}) : forward);
        if (weight != input && weight->start != input->start) follows("weight gradient", v, m, *weight, input);
      }
    }
    return wrongs_;
  }

  // (chunk, micro-batch) pairs of a stage between the start of their forward and the end of their weight gradients, at
  // most. A slot's start counts before another's end at the same time where the stage runs them in that order.
  std::int64_t peak_in_flight(std::int32_t stage) const {
    std::vector<std::pair<std::int64_t, int>> changes;
    for (const auto& [key, spans] : spans_) {
      const auto& [kind, v, m] = key;
      if (spans.front().device != stage || kind == 'I') continue;
      if (kind == 'F') changes.emplace_back(spans.front().start, 1);
      if (kind == 'W') changes.emplace_back(spans.front().end, -1);
    }
    std::sort(changes.begin(), changes.end());
    std::int64_t now = 0, most = 0;
    for (const auto& [time, change] : changes) most = std::max(most, now += change);
    return most;
  }

 private:
  struct Span {
    std::int64_t start = std::numeric_limits<std::int64_t>::max(), end = 0;
    std::int32_t device = 0;
  };
  using Key = std::tuple<char, std::int64_t, std::int64_t>;  // F, I or W; virtual stage; micro-batch

  void add(std::int32_t device, const Slot& slot, Span span) {
    span.device = device;
    const auto v = [&](std::int64_t chunk) {
      if (placement_ == Placement::kRoundRobin) return chunk * pp_ + device;
      return chunk == 0 ? device : virtual_stages_ - 1 - device;
    };
    switch (slot.kind) {
      case SlotKind::kForward: spans_[{'F', v(slot.chunk), slot.micro_batch}].push_back(span); break;
      case SlotKind::kBackward:
        spans_[{'I', v(slot.chunk), slot.micro_batch}].push_back(span);
        spans_[{'W', v(slot.chunk), slot.micro_batch}].push_back(span);
        break;
      case SlotKind::kBackwardInput: spans_[{'I', v(slot.chunk), slot.micro_batch}].push_back(span); break;
      case SlotKind::kBackwardWeight: spans_[{'W', v(slot.chunk), slot.micro_batch}].push_back(span); break;
      case SlotKind::kMerged:
        spans_[{'F', v(slot.chunk), slot.micro_batch}].push_back(span);
        spans_[{'I', v(slot.backward_chunk), slot.backward_micro_batch}].push_back(span);
        spans_[{'W', v(slot.backward_chunk), slot.backward_micro_batch}].push_back(span);
    }
  }

  const Span* only(const Key& key) {
    const auto found = spans_.find(key);
    if (found != spans_.end() && found->second.size() == 1) return &found->second.front();
    const auto& [kind, v, m] = key;
    wrongs_.push_back(fmt::format("{} of virtual stage {}, micro-batch {} ran {} times", kind, v, m,
                                  found == spans_.end() ? 0 : found->second.size()));
    return nullptr;
  }

  void follows(const char* what, std::int64_t v, std::int64_t m, const Span& span, const Span* before) {
    if (before != nullptr && span.start < before->end)
      wrongs_.push_back(
          fmt::format("{} of virtual stage {}, micro-batch {} starts at {}, before what it needs ends at {}", what, v,
                      m, span.start, before->end));
  }

  Placement placement_;
  std::int64_t pp_, virtual_stages_;
  std::map<Key, std::vector<Span>> spans_;
  std::vector<std::string> wrongs_;
};

}  // namespace msmoe::simulator
