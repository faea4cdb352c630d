// What any pipeline schedule must keep, checked from the definitions alone: it shares no code with core/schedule.cc.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "core/program.h"

namespace msmoe {

// Where virtual stages stand.
enum class Placement {
  kRoundRobin,     // chunk c of stage i is c * pp + i
  kV,              // two chunks: i, and 2 pp - 1 - i
  kBidirectional,  // two chunks: i for the first half of the micro-batches, pp - 1 - i for the others
};

class ScheduleChecker {
 public:
  ScheduleChecker(Placement placement, std::int64_t pp, std::int64_t chunks, std::int64_t micro_batches)
      : placement_(placement), pp_(pp), chunks_(chunks), micro_batches_(micro_batches) {}

  // Each (chunk, micro-batch) runs once forward, then once each half of backward: the input's, then the weights'.
  ::testing::AssertionResult stage_is_complete(const std::vector<Slot>& slots) const {
    std::set<Pair> forward, input, weight;
    const auto once = [](std::set<Pair>& done, Pair pair, const std::set<Pair>* after) {
      return (after == nullptr || after->contains(pair)) && done.insert(pair).second;
    };
    for (const Slot& slot : slots) {
      const Pair pair{slot.chunk, slot.micro_batch};
      const Pair gradient =
          slot.kind == SlotKind::kMerged ? Pair{slot.backward_chunk, slot.backward_micro_batch} : pair;
      bool right = exists(pair) && exists(gradient);
      if (slot.kind == SlotKind::kBackward || slot.kind == SlotKind::kBackwardInput || slot.kind == SlotKind::kMerged)
        right = right && once(input, gradient, &forward);
      if (slot.kind == SlotKind::kBackward || slot.kind == SlotKind::kBackwardWeight || slot.kind == SlotKind::kMerged)
        right = right && once(weight, gradient, &input);
      // Last, since a merged slot's two passes know nothing of each other.
      if (slot.kind == SlotKind::kForward || slot.kind == SlotKind::kMerged)
        right = right && once(forward, pair, nullptr);
      if (!right) return ::testing::AssertionFailure() << "twice, too early or not there: " << name(slot);
    }
    const std::size_t all = expected();
    if (forward.size() != all || input.size() != all || weight.size() != all)
      return ::testing::AssertionFailure() << forward.size() << " forwards, " << input.size() << " and "
                                           << weight.size() << " gradients, not " << all << " of each";
    return ::testing::AssertionSuccess();
  }

  // Stages that run their slots strictly in order get to the end. A forward of virtual stage v needs that of v - 1, an
  // input gradient that of v + 1, the last virtual stage's its own forward.
  ::testing::AssertionResult stages_finish(const std::vector<std::vector<Slot>>& stages) const {
    std::set<Output> done;
    std::vector<std::size_t> next(stages.size(), 0);
    for (bool moved = true; moved;) {
      moved = false;
      for (std::size_t stage = 0; stage < stages.size(); ++stage) {
        for (; next[stage] < stages[stage].size(); ++next[stage]) {
          std::vector<Output> made;
          if (!can_run(static_cast<std::int64_t>(stage), stages[stage][next[stage]], done, made)) break;
          done.insert(made.begin(), made.end());
          moved = true;
        }
      }
    }
    for (std::size_t stage = 0; stage < stages.size(); ++stage)
      if (next[stage] < stages[stage].size())
        return ::testing::AssertionFailure() << "deadlock: stage " << stage << " waits at slot " << next[stage]
                                             << " to run " << name(stages[stage][next[stage]]);
    return ::testing::AssertionSuccess();
  }

 private:
  using Pair = std::pair<std::int64_t, std::int64_t>;           // chunk, micro-batch
  using Output = std::tuple<bool, std::int64_t, std::int64_t>;  // backward, virtual stage, micro-batch

  std::int64_t virtual_stages() const { return placement_ == Placement::kBidirectional ? pp_ : pp_ * chunks_; }
  std::int64_t virtual_stage(std::int64_t stage, std::int64_t chunk) const {
    if (placement_ == Placement::kRoundRobin) return chunk * pp_ + stage;
    return chunk == 0 ? stage : virtual_stages() - 1 - stage;
  }
  bool exists(Pair pair) const {
    if (pair.first < 0 || pair.first >= chunks_ || pair.second < 0 || pair.second >= micro_batches_) return false;
    return placement_ != Placement::kBidirectional || (pair.first == 0) == (pair.second < micro_batches_ / 2);
  }
  std::size_t expected() const {
    return static_cast<std::size_t>(placement_ == Placement::kBidirectional ? micro_batches_
                                                                            : chunks_ * micro_batches_);
  }

  bool can_run(std::int64_t stage, const Slot& slot, const std::set<Output>& done, std::vector<Output>& made) const {
    const auto input = [&](std::int64_t chunk, std::int64_t micro_batch) {
      const std::int64_t v = virtual_stage(stage, chunk);
      made.emplace_back(true, v, micro_batch);
      if (v + 1 == virtual_stages()) return done.contains({false, v, micro_batch});
      return done.contains({true, v + 1, micro_batch});
    };
    const auto forward = [&](std::int64_t chunk, std::int64_t micro_batch) {
      const std::int64_t v = virtual_stage(stage, chunk);
      made.emplace_back(false, v, micro_batch);
      return v == 0 || done.contains({false, v - 1, micro_batch});
    };
    switch (slot.kind) {
      case SlotKind::kForward: return forward(slot.chunk, slot.micro_batch);
      case SlotKind::kBackward:
      case SlotKind::kBackwardInput: return input(slot.chunk, slot.micro_batch);
      case SlotKind::kBackwardWeight: return true;
      case SlotKind::kMerged: {
        const bool both = forward(slot.chunk, slot.micro_batch);
        return input(slot.backward_chunk, slot.backward_micro_batch) && both;
      }
    }
    return false;
  }

  static std::string name(const Slot& slot) {
    return fmt::format("slot of kind {}: chunk {}, micro-batch {}", static_cast<int>(slot.kind), slot.chunk,
                       slot.micro_batch);
  }

  Placement placement_;
  std::int64_t pp_, chunks_, micro_batches_;
};

}  // namespace msmoe
