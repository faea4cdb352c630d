// The first weights of a training: random ones that are the same under every plan, or those of a model's files.
#pragma once

#include <cstdint>

#include "core/model.h"
#include "executor/checkpoint/model_files.h"
#include "executor/parameters/parameter_store.h"
#include "executor/parameters/rotary_order.h"

namespace msmoe::executor {

struct InitialValues {
  std::uint64_t seed = 0;
  double deviation = 0.02;  // initializer_range of config.json
};

// A function of the seed, what the parameter is and the element's index in the whole tensor, and of nothing else.
// Matrices: normal with mean 0, by Box and Muller's transform, two elements from one pair of uniform numbers. Norms: 1.
// Biases: 0.
float initial_value(const InitialValues& values, const Parameter& parameter, std::int64_t element_idx);

// Masters and weights; moments are 0 as they were allocated. Collective as ParameterStore::publish_masters() is.
void initialize(ParameterStore& store, const InitialValues& values);

// The same from files of fp32, bf16 or fp16 under Hugging Face's names. A UserError where a tensor that this rank needs
// is missing, or has another shape or another type.
void load_weights(ParameterStore& store, const Model& model, const ModelReader& files, RotaryOrder order);

}  // namespace msmoe::executor
