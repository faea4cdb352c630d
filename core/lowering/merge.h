// Passes of a module parted in two, and passes of two modules merged: operator lists that the schedules with such slots
// run, made from those of the modules. What they read and write are tensors of the module they come from.
#pragma once

#include <vector>

#include "core/program.h"

namespace msmoe {

// Backward without its weight gradients, and these alone. Reductions of gradients (ZeRO-2 and 3) go with the latter,
// gathers of weights with the former.
std::vector<Operator> input_gradients(const Module& module);
std::vector<Operator> weight_gradients(const Module& module);

struct PartedMemory {
  Bytes held;        // what weight gradients read: one micro-batch leaves it between the two parts
  Bytes input_peak;  // transient bytes of the first part, with all that it writes of that
};
PartedMemory parted_memory(const Module& module);

// The forward of one module and the backward of another in one issue order. Both are cut after each exchange on the
// communication stream, and their pieces alternate, backward's first: every exchange has a piece of the other pass's
// compute beside it, as in Megatron-LM's --overlap-moe-expert-parallel-comm and in DualPipe (arXiv 2412.19437, Fig. 4).
// delay_weight_gradients: backward's weight gradients stand at its end.
std::vector<Operator> merge_passes(const Module& forward, const Module& backward, bool delay_weight_gradients);

}  // namespace msmoe
