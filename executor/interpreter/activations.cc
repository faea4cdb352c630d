#include "executor/interpreter/activations.h"

#include <algorithm>
#include <cassert>

namespace msmoe::executor {
namespace {

// The most pairs of each chunk between their first pass and their last.
std::vector<int> most_in_flight(const Stage& stage) {
  std::vector<int> now(stage.chunks.size(), 0), most(stage.chunks.size(), 0);
  for (const Slot& slot : stage.slots) {
    if (slot.runs_forward()) {
      const auto chunk = static_cast<std::size_t>(slot.chunk);
      most[chunk] = std::max(most[chunk], ++now[chunk]);
    }
    if (slot.makes_weight_gradients()) --now[static_cast<std::size_t>(slot.gradient_chunk())];
  }
  return most;
}

bool parts_backward(const Stage& stage) {
  return std::any_of(stage.slots.begin(), stage.slots.end(),
                     [](const Slot& slot) { return slot.kind == SlotKind::kBackwardWeight; });
}

}  // namespace

Activations::Activations(const Program& program, const Stage& stage, Backend& backend)
    : program_(program), stage_(stage) {
  const bool parted = parts_backward(stage);
  std::int64_t workspace = 0;
  for (const Module& module : program.modules) layouts_.push_back(lay_out(module));
  for (const Chunk& chunk : stage.chunks) {
    ChunkMemory memory;
    for (const std::int16_t module_idx : chunk.modules) {
      const Module& module = program.modules[static_cast<std::size_t>(module_idx)];
      const ModuleLayout& layout = layouts_[static_cast<std::size_t>(module_idx)];
      memory.kept_offset.push_back(memory.kept_bytes);
      memory.kept_bytes += layout.kept.extent;
      memory.held_offset.push_back(memory.held_bytes);
      if (parted) memory.held_bytes += layout.held.extent;
      workspace = std::max({workspace, layout.forward.extent, layout.backward.extent,
                            parted ? std::max(layout.input.extent, layout.weights.extent) : 0});
      const std::int16_t passed = module.output >= 0 ? module.output : module.input;
      passed_bytes_ = std::max(passed_bytes_,
                               static_cast<std::size_t>(module.tensors[static_cast<std::size_t>(passed)].size.count));
    }
    chunks_.push_back(std::move(memory));
  }
  const auto take = [&](std::int64_t bytes) {
    arena_bytes_ += bytes;
    return backend.allocate(static_cast<std::size_t>(bytes));
  };
  const std::vector<int> in_flight = most_in_flight(stage);
  for (std::size_t chunk = 0; chunk < chunks_.size(); ++chunk)
    for (int block = 0; block < in_flight[chunk]; ++block)
      chunks_[chunk].free.push_back(take(chunks_[chunk].kept_bytes + chunks_[chunk].held_bytes));
  workspace_ = take(workspace);
  for (std::byte*& buffer : between_) buffer = take(static_cast<std::int64_t>(passed_bytes_));
}

void Activations::begin(const Pair& pair) {
  std::vector<std::byte*>& free = chunks_[static_cast<std::size_t>(pair.first)].free;
  assert(!free.empty() && !blocks_.contains(pair));
  blocks_[pair] = free.back();
  free.pop_back();
}

void Activations::end(const Pair& pair) {
  const auto block = blocks_.find(pair);
  assert(block != blocks_.end());
  chunks_[static_cast<std::size_t>(pair.first)].free.push_back(block->second);
  blocks_.erase(block);
}

const ModuleLayout& Activations::layout(int chunk, std::size_t position) const {
  return layouts_[static_cast<std::size_t>(stage_.chunks[static_cast<std::size_t>(chunk)].modules[position])];
}

std::byte* Activations::kept(const Pair& pair, std::size_t position, std::int16_t tensor) const {
  const ChunkMemory& memory = chunks_[static_cast<std::size_t>(pair.first)];
  const Places& kept = layout(pair.first, position).kept;
  assert(kept.has(tensor));
  return blocks_.at(pair) + memory.kept_offset[position] + kept.offset[static_cast<std::size_t>(tensor)];
}

std::vector<std::byte*> Activations::places(const Pair& pair, std::size_t position, PassPart part) const {
  const ChunkMemory& memory = chunks_[static_cast<std::size_t>(pair.first)];
  const ModuleLayout& layout = this->layout(pair.first, position);
  std::byte* block = blocks_.at(pair);
  std::vector<std::byte*> places(layout.kept.offset.size(), nullptr);
  const auto put = [&](const Places& where, std::byte* base) {
    for (std::size_t id = 0; id < places.size(); ++id)
      if (where.offset[id] >= 0) places[id] = base + where.offset[id];
  };
  switch (part) {
    case PassPart::kForward: put(layout.forward, workspace_); break;
    case PassPart::kBackward: put(layout.backward, workspace_); break;
    case PassPart::kInputGradients: put(layout.input, workspace_); break;
    case PassPart::kWeightGradients: put(layout.weights, workspace_); break;
  }
  if (part == PassPart::kInputGradients || part == PassPart::kWeightGradients)
    put(layout.held, block + memory.kept_bytes + memory.held_offset[position]);
  put(layout.kept, block + memory.kept_offset[position]);
  return places;
}

}  // namespace msmoe::executor
