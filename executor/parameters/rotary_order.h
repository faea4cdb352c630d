// In which order a file has the rows of a projection that rotary positions turn in pairs (x_i, y_i), i < r / 2:
//
//   halves        x_0 x_1 ... y_0 y_1 ...     ours, and that of most families' files
//   interleaved   x_0 y_0 x_1 y_1 ...         DeepSeek-V2, V3 and kin, whose code parts them again after the projection
//
// Only latent attention has such files: the last r rows of each query head, and the last r of the compressed keys.
#pragma once

#include <cstdint>

#include "core/model.h"
#include "executor/checkpoint/model_parameters.h"
#include "executor/model_numerics.h"

namespace msmoe::executor {

enum class RotaryOrder : std::uint8_t { kHalves, kInterleaved };
inline RotaryOrder rotary_order(const ModelNumerics& numerics) {
  return numerics.rope_interleaved ? RotaryOrder::kInterleaved : RotaryOrder::kHalves;
}

// Where a file in this order has our row (of a vector: element) of a parameter; and the other way.
std::int64_t row_in_file(RotaryOrder order, const Model& model, const Parameter& parameter, std::int64_t row);
std::int64_t row_from_file(RotaryOrder order, const Model& model, const Parameter& parameter, std::int64_t file_row);

}  // namespace msmoe::executor
