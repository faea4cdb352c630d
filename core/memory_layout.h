// Memory layout: where each tensor of a module lies. The memory plan (memory_plan.h) says how much there is at once;
// here it becomes addresses.
//
// A tensor lives from the first operator, in issue order, that writes it to the last that touches it. Tensors whose
// lives overlap must not share bytes. What the layouts take is within a few percent of the most that lives at once (the
// plan's slack), and often exact.
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
// Largest first: close to what lives at once, in a time that grows with the square of the number.
Placement place(const std::vector<Life>& lives);
// In the order in which they begin, as an allocator does that takes the smallest gap: for any number, and close where
// few different sizes come and go.
Placement place_in_order(const std::vector<Life>& lives);

struct Places {
  std::vector<std::int64_t> offset;  // by tensor, in bytes; -1: not here
  std::int64_t extent = 0;           // bytes, a multiple of the alignment
  bool has(std::int16_t tensor) const { return offset[static_cast<std::size_t>(tensor)] >= 0; }
};

// The workspace of one pass over a module. What is kept from pass to pass has no place there, nor has what passes
// between modules.
struct ModuleLayout {
  Places forward, backward;
  // Of a backward in two parts the first one; the second makes nothing but weight gradients.
  Places input_gradients;
  // By tensor: what these read. It is kept from forward, or from the first part.
  std::vector<bool> read_by_weight_gradients;

  bool is_for_weights(std::int16_t tensor) const { return read_by_weight_gradients[static_cast<std::size_t>(tensor)]; }
};
ModuleLayout lay_out(const Module& module);

}  // namespace msmoe
