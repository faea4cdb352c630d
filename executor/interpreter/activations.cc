#include "executor/interpreter/activations.h"

#include <algorithm>
#include <cassert>

namespace msmoe::executor {

Activations::Activations(const Program& program, const Stage& stage, Backend& backend)
    : stage_(stage), backend_(backend), meter_(program, stage, layouts_) {
  for (const Module& module : program.modules) layouts_.push_back(lay_out(module));
  for (const Chunk& chunk : stage.chunks) {
    for (const std::int16_t module_idx : chunk.modules) {
      const Module& module = program.modules[static_cast<std::size_t>(module_idx)];
      const ModuleLayout& layout = layouts_[static_cast<std::size_t>(module_idx)];
      workspace_bytes_ =
          std::max({workspace_bytes_, layout.forward.extent, layout.backward.extent, layout.input_gradients.extent});
      const std::int16_t passed = module.output >= 0 ? module.output : module.input;
      passed_bytes_ = std::max(passed_bytes_,
                               static_cast<std::size_t>(module.tensors[static_cast<std::size_t>(passed)].size.count));
    }
  }
  // The two buffers and the workspace live as long as all blocks do.
  const std::int64_t blocks_bytes = place_blocks();
  const auto between_bytes =
      static_cast<std::int64_t>((passed_bytes_ + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment);
  arena_bytes_ = blocks_bytes + workspace_bytes_ + 2 * between_bytes;
  arena_ = backend.allocate(static_cast<std::size_t>(arena_bytes_));
  workspace_ = arena_ + blocks_bytes;
  between_ = {workspace_ + workspace_bytes_, workspace_ + workspace_bytes_ + between_bytes};
}

// By the passes over modules in the order in which the stage runs them. Returns how much room the blocks need together.
std::int64_t Activations::place_blocks() {
  std::vector<Life> lives;
  int now = 0;
  // Until they are placed, blocks are indices of their lives.
  const auto live = [&](std::int64_t bytes, int first) {
    lives.push_back({.bytes = bytes, .first = first, .last = first});
    return static_cast<std::int64_t>(lives.size()) - 1;
  };
  const auto last = [&](std::int64_t life) { lives[static_cast<std::size_t>(life)].last = now; };
  for (const Slot& slot : stage_.slots) {
    if (slot.runs_forward()) {
      std::vector<Blocks>& blocks = blocks_[{slot.chunk, slot.micro_batch}];
      for (std::size_t position = 0; position < stage_.chunks[static_cast<std::size_t>(slot.chunk)].modules.size();
           ++position, ++now) {
        // The module before writes the input.
        const int first = position > 0 ? now - 1 : now;
        const ModuleLayout& layout = this->layout(slot.chunk, position);
        blocks.push_back(
            {.kept = live(layout.kept.extent, first), .kept_for_weights = live(layout.kept_for_weights.extent, first)});
      }
    }
    if (slot.kind == SlotKind::kForward) continue;
    std::vector<Blocks>& blocks = blocks_.at({slot.gradient_chunk(), slot.gradient_micro_batch()});
    for (std::size_t position = blocks.size(); position-- > 0; ++now) {
      Blocks& of_module = blocks[position];
      if (slot.kind == SlotKind::kBackwardInput)
        of_module.made_for_weights = live(layout(slot.gradient_chunk(), position).made_for_weights.extent, now);
      if (slot.makes_input_gradients()) last(of_module.kept);
      if (!slot.makes_weight_gradients()) continue;
      last(of_module.kept_for_weights);
      if (of_module.made_for_weights >= 0) last(of_module.made_for_weights);
    }
  }
  const Placement placement = place(lives);
  for (auto& [pair, blocks] : blocks_)
    for (Blocks& of_module : blocks)
      for (std::int64_t* block : {&of_module.kept, &of_module.kept_for_weights, &of_module.made_for_weights})
        if (*block >= 0) *block = placement.offset[static_cast<std::size_t>(*block)];
  return placement.extent;
}

const ModuleLayout& Activations::layout(int chunk, std::size_t position) const {
  return layouts_[static_cast<std::size_t>(stage_.chunks[static_cast<std::size_t>(chunk)].modules[position])];
}

std::byte* Activations::in_block(const Places& places, std::int64_t block, std::int16_t tensor) const {
  return places.has(tensor) && block >= 0 ? arena_ + block + places.offset[static_cast<std::size_t>(tensor)] : nullptr;
}

std::byte* Activations::kept(const Pair& pair, std::size_t position, std::int16_t tensor) const {
  const ModuleLayout& layout = this->layout(pair.first, position);
  const Blocks& blocks = blocks_.at(pair)[position];
  std::byte* place = in_block(layout.kept, blocks.kept, tensor);
  if (place == nullptr) place = in_block(layout.kept_for_weights, blocks.kept_for_weights, tensor);
  assert(place != nullptr);
  return place;
}

std::byte* Activations::made_for_weights(const Pair& pair, std::size_t position, std::int16_t tensor) const {
  return in_block(layout(pair.first, position).made_for_weights, blocks_.at(pair)[position].made_for_weights, tensor);
}

std::vector<std::byte*> Activations::places(const Pair& pair, std::size_t position, PassPart part) const {
  const ModuleLayout& layout = this->layout(pair.first, position);
  const Blocks& blocks = blocks_.at(pair)[position];
  std::vector<std::byte*> places(layout.kept.offset.size(), nullptr);
  const auto put = [&](const Places& where, std::byte* base) {
    for (std::size_t id = 0; id < places.size(); ++id)
      if (where.offset[id] >= 0) places[id] = base + where.offset[id];
  };
  put(layout.kept, arena_ + blocks.kept);
  put(layout.kept_for_weights, arena_ + blocks.kept_for_weights);
  switch (part) {
    case PassPart::kForward: put(layout.forward, workspace_); break;
    case PassPart::kBackward: put(layout.backward, workspace_); break;
    case PassPart::kInputGradients:
      put(layout.input_gradients, workspace_);
      put(layout.made_for_weights, arena_ + blocks.made_for_weights);
      break;
    case PassPart::kWeightGradients: put(layout.made_for_weights, arena_ + blocks.made_for_weights); break;
  }
  return places;
}

void Activations::scribble(const Pair& pair, std::size_t position, PassPart part) {
  const auto fill = [&](std::int64_t offset, std::int64_t bytes) {
    const std::vector<std::byte> ones(static_cast<std::size_t>(bytes), std::byte{0xFF});
    backend_.from_host(arena_ + offset, ones.data(), ones.size());
  };
  fill(workspace_ - arena_, workspace_bytes_);
  const std::vector<Blocks>& blocks = blocks_.at(pair);
  if (part == PassPart::kForward && position + 1 < blocks.size()) {
    const ModuleLayout& next = layout(pair.first, position + 1);
    fill(blocks[position + 1].kept, next.kept.extent);
    fill(blocks[position + 1].kept_for_weights, next.kept_for_weights.extent);
  }
  if (part == PassPart::kInputGradients)
    fill(blocks[position].made_for_weights, layout(pair.first, position).made_for_weights.extent);
}

}  // namespace msmoe::executor
