// What any pipeline schedule must keep, checked from the definition alone: it shares no code with core/schedule.cc.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "core/program.h"

namespace msmoe {

// (backward, virtual stage, micro-batch)
using PassOfMicroBatch = std::tuple<bool, std::int64_t, std::int64_t>;

// Each (chunk, micro-batch) runs once forward and once backward, backward after forward.
inline ::testing::AssertionResult stage_is_complete(const std::vector<Slot>& slots, std::int64_t vpp,
                                                    std::int64_t micro_batches) {
  std::set<std::pair<std::int64_t, std::int64_t>> forward, backward;
  for (const Slot& slot : slots) {
    const std::pair<std::int64_t, std::int64_t> key{slot.chunk, slot.micro_batch};
    if (slot.chunk < 0 || slot.chunk >= vpp || slot.micro_batch < 0 || slot.micro_batch >= micro_batches) {
      return ::testing::AssertionFailure() << "no such slot: chunk " << key.first << ", micro-batch " << key.second;
    }
    if (slot.backward && !forward.contains(key)) {
      return ::testing::AssertionFailure()
             << "backward before forward: chunk " << key.first << ", micro-batch " << key.second;
    }
    if (!(slot.backward ? backward : forward).insert(key).second) {
      return ::testing::AssertionFailure() << "twice: chunk " << key.first << ", micro-batch " << key.second;
    }
  }
  const auto all = static_cast<std::size_t>(vpp * micro_batches);
  if (forward.size() != all || backward.size() != all) {
    return ::testing::AssertionFailure() << forward.size() << " forwards and " << backward.size() << " backwards, not "
                                         << all << " of each";
  }
  return ::testing::AssertionSuccess();
}

// Stages that run their slots strictly in order get to the end. A forward of virtual stage v needs that of v - 1, a
// backward that of v + 1, the last virtual stage's backward its own forward.
inline ::testing::AssertionResult stages_finish(const std::vector<std::vector<Slot>>& stages, std::int64_t vpp) {
  const auto pp = static_cast<std::int64_t>(stages.size());
  const std::int64_t last = pp * vpp - 1;
  std::set<PassOfMicroBatch> done;
  std::vector<std::size_t> next(stages.size(), 0);
  const auto can_run = [&](std::int64_t v, const Slot& slot) {
    if (!slot.backward) return v == 0 || done.contains({false, v - 1, slot.micro_batch});
    if (v == last) return done.contains({false, v, slot.micro_batch});
    return done.contains({true, v + 1, slot.micro_batch});
  };
  for (bool moved = true; moved;) {
    moved = false;
    for (std::int64_t stage = 0; stage < pp; ++stage) {
      const std::vector<Slot>& slots = stages[static_cast<std::size_t>(stage)];
      std::size_t& head = next[static_cast<std::size_t>(stage)];
      while (head < slots.size() && can_run(slots[head].chunk * pp + stage, slots[head])) {
        done.insert({slots[head].backward, slots[head].chunk * pp + stage, slots[head].micro_batch});
        ++head;
        moved = true;
      }
    }
  }
  for (std::size_t stage = 0; stage < stages.size(); ++stage) {
    if (next[stage] < stages[stage].size()) {
      const Slot& slot = stages[stage][next[stage]];
      return ::testing::AssertionFailure() << "deadlock: stage " << stage << " waits at slot " << next[stage] << " for "
                                           << (slot.backward ? "backward" : "forward") << " of chunk " << slot.chunk
                                           << ", micro-batch " << slot.micro_batch;
    }
  }
  return ::testing::AssertionSuccess();
}

}  // namespace msmoe
