// Pass: one run over a chunk's modules, forward or backward.
#pragma once

#include <cstdint>
#include <utility>

namespace msmoe::executor {

using Pair = std::pair<int, int>;  // chunk, micro-batch
enum class PassPart : std::uint8_t { kForward, kBackward, kInputGradients, kWeightGradients };

}  // namespace msmoe::executor
