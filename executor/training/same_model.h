// Whether a checkpoint is of the model that is to be trained on.
#pragma once

#include <string>

#include "core/model.h"
#include "executor/model_numerics.h"

namespace msmoe::executor {

// Compares what the checkpoint's config.json means with the model: sizes, layers, numerics, and every parameter's
// shape. Keys that bear on none of these may differ. A UserError names file, key, and both values.
void require_same_model(const std::string& config_path, const Model& model, const ModelNumerics& numerics);

}  // namespace msmoe::executor
