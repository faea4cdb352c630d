// What a slot runs, one part after the other: a module's pass, half of a backward, or a forward merged with a backward.
#pragma once

#include <cstdint>
#include <deque>
#include <tuple>
#include <vector>

#include "core/program.h"

namespace msmoe::simulator {

struct SlotPart {
  SlotKind kind = SlotKind::kForward;
  std::int16_t module = -1;    // index into Program::modules; of kMerged, the forward's
  std::int16_t place = -1;     // of it in its chunk
  std::int16_t backward = -1;  // of kMerged, the backward's module

  // Parts with equal keys have equal operators.
  auto key() const { return std::tuple(kind, module, backward); }
};
using SlotPartKey = std::tuple<SlotKind, std::int16_t, std::int16_t>;

// Forward goes through the chunk's modules from first to last, backward from last to first. In a merged slot the i-th
// layer of the one runs beside the i-th layer of the other; embedding, head, and layers without a partner run alone.
std::vector<SlotPart> slot_parts(const std::vector<Module>& modules, const Stage& stage, const Slot& slot);

// A module's own list, or one that is added to `made`.
const std::vector<Operator>& part_operators(const std::vector<Module>& modules, const Plan& plan, const SlotPart& part,
                                            std::deque<std::vector<Operator>>& made);

}  // namespace msmoe::simulator
