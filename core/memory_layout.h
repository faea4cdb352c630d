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

struct Places {
  std::vector<std::int64_t> offset;  // by tensor, in bytes; -1: not here
  std::int64_t extent = 0;           // bytes, a multiple of the alignment
  bool has(std::int16_t tensor) const { return offset[static_cast<std::size_t>(tensor)] >= 0; }
};

// kept: of one micro-batch, from forward to backward. The others are of one pass at a time; what passes between modules
// has no place in any of them.
struct ModuleLayout {
  Places kept;
  Places forward;
  Places backward;
  // Of a backward in two parts: what its second part reads beside what is kept, of one micro-batch; and each part's
  // own.
  Places held, input, weights;
};
ModuleLayout lay_out(const Module& module);

}  // namespace msmoe
