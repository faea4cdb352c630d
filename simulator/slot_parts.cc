#include "simulator/slot_parts.h"

#include "core/lowering/merge.h"

namespace msmoe::simulator {
namespace {

std::vector<SlotPart> parts_alone(const Chunk& chunk, SlotKind kind) {
  std::vector<SlotPart> parts;
  const auto count = static_cast<std::int16_t>(chunk.modules.size());
  for (std::int16_t i = 0; i < count; ++i) {
    const auto place = static_cast<std::int16_t>(kind == SlotKind::kForward ? i : count - 1 - i);
    parts.push_back({.kind = kind, .module = chunk.modules[static_cast<std::size_t>(place)], .place = place});
  }
  return parts;
}

std::vector<SlotPart> merged_parts(const std::vector<Module>& modules, const Chunk& forward, const Chunk& backward) {
  const std::vector<SlotPart> forwards = parts_alone(forward, SlotKind::kForward);
  const std::vector<SlotPart> backwards = parts_alone(backward, SlotKind::kBackward);
  const auto is_layer = [&](const SlotPart& part) {
    const ModuleKind kind = modules[static_cast<std::size_t>(part.module)].kind;
    return kind == ModuleKind::kLayer || kind == ModuleKind::kPredict;
  };
  std::vector<SlotPart> parts;
  auto f = forwards.begin();
  auto b = backwards.begin();
  while (f != forwards.end() || b != backwards.end()) {
    if (f != forwards.end() && (b == backwards.end() || !is_layer(*f))) {
      parts.push_back(*f++);
    } else if (f == forwards.end() || !is_layer(*b)) {
      parts.push_back(*b++);
    } else {
      parts.push_back({.kind = SlotKind::kMerged, .module = f->module, .place = f->place, .backward = b->module});
      ++f;
      ++b;
    }
  }
  return parts;
}

}  // namespace

std::vector<SlotPart> slot_parts(const std::vector<Module>& modules, const Stage& stage, const Slot& slot) {
  const Chunk& chunk = stage.chunks[static_cast<std::size_t>(slot.chunk)];
  if (slot.kind != SlotKind::kMerged) return parts_alone(chunk, slot.kind);
  return merged_parts(modules, chunk, stage.chunks[static_cast<std::size_t>(slot.backward_chunk)]);
}

const std::vector<Operator>& part_operators(const std::vector<Module>& modules, const Plan& plan, const SlotPart& part,
                                            std::deque<std::vector<Operator>>& made) {
  const Module& module = modules[static_cast<std::size_t>(part.module)];
  switch (part.kind) {
    case SlotKind::kForward: return module.forward;
    case SlotKind::kBackward: return module.backward;
    case SlotKind::kBackwardInput: return made.emplace_back(input_gradients(module));
    case SlotKind::kBackwardWeight: return made.emplace_back(weight_gradients(module));
    case SlotKind::kMerged: break;
  }
  const Module& backward = modules[static_cast<std::size_t>(part.backward)];
  return made.emplace_back(merge_passes(module, backward, plan.delay_weight_gradients));
}

}  // namespace msmoe::simulator
