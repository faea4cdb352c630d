#include "executor/interpreter/activations.h"

#include <algorithm>
#include <cmath>

#include "core/lowering/merge.h"

namespace msmoe::executor {

Activations::Activations(const Program& program, const Stage& stage, Backend& backend)
    : program_(program), stage_(stage), backend_(backend), meter_(program, stage, layouts_) {
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
  const std::int64_t kept_bytes = place_kept();
  const auto between_bytes =
      static_cast<std::int64_t>((passed_bytes_ + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment);
  arena_bytes_ = kept_bytes + workspace_bytes_ + 2 * between_bytes;
  arena_ = backend.allocate(static_cast<std::size_t>(arena_bytes_));
  workspace_ = arena_ + kept_bytes;
  between_ = {workspace_ + workspace_bytes_, workspace_ + workspace_bytes_ + between_bytes};
}

// Time goes by passes over modules, in the order in which the stage runs them. Returns how much room there has to be.
std::int64_t Activations::place_kept() {
  std::vector<std::vector<Operator>> input, weights;  // by module of the program
  for (const Module& module : program_.modules) {
    input.push_back(input_gradients(module));
    weights.push_back(weight_gradients(module));
  }
  std::vector<Life> lives;
  int now = 0;
  // Until they are placed, tensors are kept at the indices of their lives.
  const auto begin = [&](const Pair& pair, std::size_t position, std::int16_t id) {
    const auto idx = static_cast<std::size_t>(id);
    kept_[pair][position][idx] = static_cast<std::int64_t>(lives.size());
    const double bytes = module(pair.first, position).tensors[idx].size.count;
    lives.push_back({.bytes = static_cast<std::int64_t>(std::ceil(bytes)), .first = now, .last = now});
  };
  const auto run = [&](const Pair& pair, std::size_t position, PassPart part, const std::vector<Operator>& operators) {
    std::vector<std::vector<std::int64_t>>& kept = kept_[pair];
    const Module& module = this->module(pair.first, position);
    const auto is_left = [&](std::int16_t id) {
      const bool is_kept = module.tensors[static_cast<std::size_t>(id)].kept;
      if (part == PassPart::kForward) return is_kept;
      return part == PassPart::kInputGradients && !is_kept && layout(pair.first, position).is_for_weights(id);
    };
    for (const Operator& op : operators) {
      for (const std::int16_t id : op.writes) {
        if (is_left(id) && kept[position][static_cast<std::size_t>(id)] < 0) begin(pair, position, id);
        if (part == PassPart::kForward && id == module.output && position + 1 < kept.size())
          begin(pair, position + 1, this->module(pair.first, position + 1).input);
      }
      for (const std::vector<std::int16_t>* tensors : {&op.reads, &op.writes})
        for (const std::int16_t id : *tensors)
          if (const std::int64_t life = kept[position][static_cast<std::size_t>(id)]; life >= 0)
            lives[static_cast<std::size_t>(life)].last = now;
    }
    // It has passed by.
    if (part == PassPart::kInputGradients && module.output_gradient >= 0 && is_left(module.output_gradient))
      begin(pair, position, module.output_gradient);
    ++now;
  };
  for (const Slot& slot : stage_.slots) {
    if (slot.runs_forward()) {
      const Pair pair{slot.chunk, slot.micro_batch};
      const std::vector<std::int16_t>& modules = stage_.chunks[static_cast<std::size_t>(slot.chunk)].modules;
      for (const std::int16_t which : modules)
        kept_[pair].emplace_back(program_.modules[static_cast<std::size_t>(which)].tensors.size(), -1);
      if (const std::int16_t arriving = module(pair.first, 0).input; arriving >= 0) begin(pair, 0, arriving);
      for (std::size_t position = 0; position < modules.size(); ++position)
        run(pair, position, PassPart::kForward, module(pair.first, position).forward);
    }
    if (slot.kind == SlotKind::kForward) continue;
    const Pair pair{slot.gradient_chunk(), slot.gradient_micro_batch()};
    const std::vector<std::int16_t>& modules = stage_.chunks[static_cast<std::size_t>(pair.first)].modules;
    for (std::size_t position = modules.size(); position-- > 0;) {
      const auto which = static_cast<std::size_t>(modules[position]);
      if (slot.kind == SlotKind::kBackwardInput)
        run(pair, position, PassPart::kInputGradients, input[which]);
      else if (slot.kind == SlotKind::kBackwardWeight)
        run(pair, position, PassPart::kWeightGradients, weights[which]);
      else
        run(pair, position, PassPart::kBackward, program_.modules[which].backward);
    }
  }
  const Placement placement = place_in_order(lives);
  for (auto& [pair, modules] : kept_)
    for (std::vector<std::int64_t>& tensors : modules)
      for (std::int64_t& offset : tensors)
        if (offset >= 0) offset = placement.offset[static_cast<std::size_t>(offset)];
  return placement.extent;
}

const Module& Activations::module(int chunk, std::size_t position) const {
  const std::int16_t which = stage_.chunks[static_cast<std::size_t>(chunk)].modules[position];
  return program_.modules[static_cast<std::size_t>(which)];
}
const ModuleLayout& Activations::layout(int chunk, std::size_t position) const {
  return layouts_[static_cast<std::size_t>(stage_.chunks[static_cast<std::size_t>(chunk)].modules[position])];
}

std::byte* Activations::kept(const Pair& pair, std::size_t position, std::int16_t tensor) const {
  const std::int64_t offset = kept_.at(pair)[position][static_cast<std::size_t>(tensor)];
  return offset >= 0 ? arena_ + offset : nullptr;
}

std::vector<std::byte*> Activations::places(const Pair& pair, std::size_t position, PassPart part) const {
  const std::vector<std::int64_t>& kept = kept_.at(pair)[position];
  const ModuleLayout& layout = this->layout(pair.first, position);
  std::vector<std::byte*> places(kept.size(), nullptr);
  const auto put = [&](const std::vector<std::int64_t>& offset, std::byte* base) {
    for (std::size_t id = 0; id < places.size(); ++id)
      if (offset[id] >= 0) places[id] = base + offset[id];
  };
  put(kept, arena_);
  // What the first part of a backward will leave for the second is, in the forward pass, one tensor among others.
  switch (part) {
    case PassPart::kForward: put(layout.forward.offset, workspace_); break;
    case PassPart::kBackward: put(layout.backward.offset, workspace_); break;
    case PassPart::kInputGradients: put(layout.input_gradients.offset, workspace_); break;
    case PassPart::kWeightGradients: break;
  }
  return places;
}

void Activations::scribble() {
  const std::vector<std::byte> ones(static_cast<std::size_t>(workspace_bytes_), std::byte{0xFF});
  backend_.from_host(workspace_, ones.data(), ones.size());
}

}  // namespace msmoe::executor
