// A model's files as Hugging Face lays them out, put together from the masters that a training's ranks saved.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/model.h"
#include "executor/checkpoint/model_files.h"
#include "executor/parameters/rotary_order.h"
#include "executor/parameters/state_files.h"

namespace msmoe::executor {

struct ModelFormat {
  TensorType type = TensorType::kBf16;         // or kF32; router biases are F32 in either, as their steps are small
  RotaryOrder order = RotaryOrder::kHalves;    // what this family's readers expect
  std::int64_t largest_bytes = 5'000'000'000;  // of a file
};

// From one process; errors as write_model and StateFiles::read.
std::vector<FileRecord> assemble_model(const StateFiles& states, const Model& model, const std::string& folder,
                                       const ModelFormat& format);

}  // namespace msmoe::executor
