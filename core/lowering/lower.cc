// Program: modules lowered once per kind, laid out over chunks and stages, with every stage's slot order.
#include <cassert>
#include <map>

#include "core/program.h"
#include "core/schedule.h"

namespace msmoe {

Program lower(const Model& model, const Cluster& cluster, const Plan& plan, const LoweringOptions& given) {
  LoweringOptions options = given;
  options.gpus_per_node = cluster.gpus_per_node;
  assert(model.can_be_planned());
  Program program;
  program.plan = plan;
  for (int kind = 0; kind < kNumGroupKinds; ++kind)
    program.groups[static_cast<std::size_t>(kind)] =
        group_of(static_cast<GroupKind>(kind), plan, cluster.gpus_per_node);

  auto add = [&](Module module) {
    program.modules.push_back(std::move(module));
    return static_cast<std::int16_t>(program.modules.size() - 1);
  };
  std::map<int, std::int16_t> layer_modules;
  auto layer_module = [&](int kind) {
    const auto found = layer_modules.find(kind);
    return found != layer_modules.end() ? found->second
                                        : layer_modules[kind] = add(lower_layer(model, plan, kind, options));
  };
  const std::int16_t embedding = add(lower_embedding(model, plan, options));
  const std::int16_t head = add(lower_head(model, plan, options));
  const std::int16_t predict =
      model.predict_layers > 0 ? add(lower_predict_layer(model, plan, options)) : std::int16_t{-1};

  std::vector<Chunk> chunks(static_cast<std::size_t>(plan.virtual_stages()));
  std::size_t layer_idx = 0;
  for (std::int64_t v = 0; v < plan.virtual_stages(); ++v) {
    Chunk& chunk = chunks[static_cast<std::size_t>(v)];
    if (v == 0) chunk.modules.push_back(embedding);
    for (std::int64_t count = plan.layers_of(v, model.num_layers()); count > 0; --count)
      chunk.modules.push_back(layer_module(model.layers[layer_idx++]));
    if (v + 1 == plan.virtual_stages()) {
      chunk.modules.insert(chunk.modules.end(), static_cast<std::size_t>(model.predict_layers), predict);
      chunk.modules.push_back(head);
    }
    for (const std::int16_t module_idx : chunk.modules)
      chunk.parameters += program.modules[static_cast<std::size_t>(module_idx)].parameters;
  }
  assert(layer_idx == model.layers.size());
  program.stages = lay_out_stages(pipeline_shape(plan), chunks);
  return program;
}

}  // namespace msmoe
