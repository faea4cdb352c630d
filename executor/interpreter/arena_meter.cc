#include "executor/interpreter/arena_meter.h"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace msmoe::executor {
namespace {

Bytes size_of(const Module& module, std::int16_t tensor) {
  return module.tensors[static_cast<std::size_t>(tensor)].size;
}

}  // namespace

void ArenaMeter::add(Bytes& sum, Bytes& most, Bytes bytes) { most = std::max(most, sum += bytes); }

std::vector<ArenaMeter::Kept>& ArenaMeter::kept_of(const Pair& pair) {
  std::vector<Kept>& kept = kept_[pair];
  kept.resize(stage_.chunks[static_cast<std::size_t>(pair.first)].modules.size());
  return kept;
}

void ArenaMeter::keep(const Pair& pair, std::size_t position, std::int16_t tensor) {
  const auto which = static_cast<std::size_t>(module_idx(pair.first, position));
  Kept& kept = kept_of(pair)[position];
  const Bytes size = size_of(program_.modules[which], tensor);
  (layouts_[which].is_for_weights(tensor) ? kept.until_weight_gradients : kept.until_input_gradients) += size;
  add(activations_, most_activations_, size);
}

void ArenaMeter::release(Bytes& kept) {
  activations_ -= kept;
  kept = {};
}

void ArenaMeter::receive_input(const Pair& pair) { keep(pair, 0, module(pair.first, 0).input); }

void ArenaMeter::receive_gradient(const Pair& pair) {
  const Module& last = module(pair.first, kept_of(pair).size() - 1);
  add(passing_, most_passing_, size_of(last, last.output_gradient));
}

void ArenaMeter::end(const Pair& pair) {
  for (Kept& kept : kept_of(pair)) {
    release(kept.until_input_gradients);
    release(kept.until_weight_gradients);
  }
  kept_.erase(pair);
}

void ArenaMeter::begin_pass(const Pair& pair, std::size_t position, PassPart part,
                            const std::vector<Operator>& operators) {
  assert(std::abs(transient_.count) < 1);  // with a bounded capacity sizes are no whole numbers
  transient_ = {};
  pair_ = pair;
  position_ = position;
  part_ = part;
  module_ = &module(pair.first, position);
  layout_ = &layouts_[static_cast<std::size_t>(module_idx(pair.first, position))];
  touches_.assign(module_->tensors.size(), 0);
  lives_.assign(module_->tensors.size(), false);
  for (const Operator& op : operators)
    for (const std::vector<std::int16_t>* tensors : {&op.reads, &op.writes})
      for (const std::int16_t id : *tensors) ++touches_[static_cast<std::size_t>(id)];
}

void ArenaMeter::begin(const Operator& op) {
  for (const std::int16_t id : op.writes) {
    if (lives_[static_cast<std::size_t>(id)]) continue;
    lives_[static_cast<std::size_t>(id)] = true;
    const bool has_next = position_ + 1 < kept_of(pair_).size();
    if (module_->tensors[static_cast<std::size_t>(id)].kept) {
      if (part_ == PassPart::kForward) keep(pair_, position_, id);
    } else if (id == module_->output && part_ == PassPart::kForward && has_next) {
      keep(pair_, position_ + 1, module(pair_.first, position_ + 1).input);
    } else if (id == module_->output || id == module_->input_gradient) {
      add(passing_, most_passing_, size_of(*module_, id));
    } else {
      add(transient_, module_->kind == ModuleKind::kHead ? most_of_head_ : most_of_layers_, size_of(*module_, id));
    }
  }
}

void ArenaMeter::end(const Operator& op) {
  for (const std::vector<std::int16_t>* tensors : {&op.reads, &op.writes}) {
    for (const std::int16_t id : *tensors) {
      if (--touches_[static_cast<std::size_t>(id)] > 0 || !lives_[static_cast<std::size_t>(id)]) continue;
      const bool stays = module_->tensors[static_cast<std::size_t>(id)].kept || id == module_->input_gradient ||
                         (part_ == PassPart::kInputGradients && layout_->is_for_weights(id)) ||
                         (part_ == PassPart::kForward && id == module_->output);
      if (stays) continue;
      lives_[static_cast<std::size_t>(id)] = false;
      (id == module_->output ? passing_ : transient_) -= size_of(*module_, id);
    }
  }
}

void ArenaMeter::end_pass() {
  Kept& kept = kept_of(pair_)[position_];
  if (part_ == PassPart::kInputGradients) {
    // What is needed yet was of this pass, or was passing by.
    release(kept.until_input_gradients);
    for (std::size_t idx = 0; idx < lives_.size(); ++idx) {
      const auto id = static_cast<std::int16_t>(idx);
      if (!layout_->is_for_weights(id) || module_->tensors[idx].kept) continue;
      if (lives_[idx]) transient_ -= size_of(*module_, id);
      keep(pair_, position_, id);
    }
  }
  const bool passes_gradients = part_ == PassPart::kBackward || part_ == PassPart::kInputGradients;
  if (passes_gradients && module_->output_gradient >= 0) passing_ -= size_of(*module_, module_->output_gradient);
  if (part_ == PassPart::kBackward) release(kept.until_input_gradients);
  if (part_ == PassPart::kBackward || part_ == PassPart::kWeightGradients) release(kept.until_weight_gradients);
  assert(std::abs(transient_.count) < 1);  // with a bounded capacity sizes are no whole numbers
  transient_ = {};
}

ArenaPeak ArenaMeter::peak() const {
  return {.activations = most_activations_,
          .workspace = most_of_layers_ + most_passing_,
          .logits = std::max(Bytes{}, most_of_head_ - most_of_layers_)};
}

}  // namespace msmoe::executor
