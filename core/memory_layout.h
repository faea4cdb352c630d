// Memory layout: where each tensor of a module lies. The memory plan (memory_plan.h) says how much there is at once;
// here it becomes addresses.
//
// A tensor lives from the first operator of a pass, in issue order, that writes it to the last that touches it. Tensors
// whose lives overlap must not share bytes: largest first, each takes the lowest place that is free all its life. That
// is within a few percent of the most that lives at once (the plan's slack), and often exact.
#pragma once

#include <cstdint>
#include <vector>

#include "core/program.h"

namespace msmoe {

inline constexpr std::int64_t kTensorAlignment = 256;  // bytes

// Memory that is wanted from one moment to another, both included.
struct Life {
  std::int64_t bytes = 0;
  int first = 0, last = 0;
};
struct Placement {
  std::vector<std::int64_t> offset;  // by life, in bytes, a multiple of the alignment
  std::int64_t extent = 0;           // likewise
};
Placement place(const std::vector<Life>& lives);

struct Places {
  std::vector<std::int64_t> offset;  // by tensor, in bytes; -1: not here
  std::int64_t extent = 0;           // bytes, a multiple of the alignment
  bool has(std::int16_t tensor) const { return offset[static_cast<std::size_t>(tensor)] >= 0; }
};

// What passes between modules has no place in any of them, but where weight gradients read it after it has passed.
struct ModuleLayout {
  // Of one micro-batch. Kept tensors live from forward to the input gradients; those that weight gradients read live
  // until these are there, as do the others that they read, which the input gradients' part of a backward makes.
  Places kept, kept_for_weights, made_for_weights;
  // Of one pass at a time. A pass of weight gradients makes nothing but these.
  Places forward, backward, input_gradients;

  bool is_for_weights(std::int16_t tensor) const {
    return kept_for_weights.has(tensor) || made_for_weights.has(tensor);
  }
};
ModuleLayout lay_out(const Module& module);

}  // namespace msmoe
