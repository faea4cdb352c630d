#include "planner/mesh_table.h"

#include <algorithm>
#include <utility>

#include "core/schedule.h"
#include "simulator/cost_model.h"

namespace msmoe::planner {
namespace {

std::int64_t total_ps(const std::vector<Operator>& operators, const simulator::CostModel& costs) {
  std::int64_t total = 0;
  for (const Operator& op : operators) total += costs.cost(op).alone.count();
  return total;
}

}  // namespace

// Times of parted and merged passes with nothing beside them, and what they are times of.
struct MeshTable::OtherSlots {
  OtherSlots(const Question& question, const Plan& plan_, std::vector<Module> modules_)
      : plan(plan_), modules(std::move(modules_)), costs(question.cluster, plan), parts(modules, plan, costs, {}, {}) {}

  Plan plan;
  std::vector<Module> modules;
  simulator::CostModel costs;
  simulator::PartTimes parts;
};

MeshTable::MeshTable(const Question& question, const Mesh& mesh)
    : question_(question),
      mesh_(mesh),
      variants_(planner::variants(question, mesh)),
      pipelines_(planner::pipelines(question, mesh)) {
  for (auto& list : modules_) list.resize(variants_.size());
}

Plan MeshTable::plan(int pipeline_idx, int variant_idx) const {
  Plan plan = question_.base;
  apply(mesh_, plan);
  apply(pipelines_[static_cast<std::size_t>(pipeline_idx)], plan);
  apply(variants_[static_cast<std::size_t>(variant_idx)], plan);
  return plan;
}

std::vector<Module> MeshTable::lower_modules(const Plan& plan) const {
  const Model& model = question_.model;
  const LoweringOptions options{.gpus_per_node = question_.cluster.gpus_per_node};
  std::vector<Module> modules;
  for (std::size_t kind = 0; kind < model.kinds.size(); ++kind)
    modules.push_back(lower_layer(model, plan, static_cast<int>(kind), options));
  modules.push_back(lower_embedding(model, plan, options));
  modules.push_back(lower_head(model, plan, options));
  if (model.predict_layers > 0) modules.push_back(lower_predict_layer(model, plan, options));
  return modules;
}

// What of pp a module depends on: the data groups that ZeRO-2 and 3 reduce over, and whether embedding and head, where
// they have to do with each other, are on one stage.
std::int64_t MeshTable::stages_that_matter(const Model& model, const Plan& plan) {
  if (plan.zero >= 2) return plan.pp;
  return model.tied_embeddings || model.predict_layers > 0 ? std::min<std::int64_t>(plan.pp, 2) : 0;
}

MeshTable::VariantModules& MeshTable::modules(int variant_idx, const Plan& plan) {
  VariantModules& entry =
      modules_[static_cast<std::size_t>(std::max(plan.zero, 1) - 1)][static_cast<std::size_t>(variant_idx)];
  const std::int64_t stages = stages_that_matter(question_.model, plan);
  if (entry.lowered && entry.for_stages == stages) return entry;
  entry = {};
  entry.lowered = true;
  entry.for_stages = stages;
  operators_ = lower_modules(plan);
  operators_of_ = &entry;
  for (const Module& module : operators_) entry.memory.push_back(summarize(module, !pipeline_shape(plan).is_plain()));
  return entry;
}

const MeshTable::VariantModules& MeshTable::timed_modules(int variant_idx, const Plan& plan) {
  VariantModules& entry = modules(variant_idx, plan);
  if (entry.timed) return entry;
  entry.timed = true;
  const simulator::CostModel costs(question_.cluster, plan);
  if (operators_of_ != &entry) operators_ = lower_modules(plan);
  operators_of_ = &entry;
  for (const Module& module : operators_) entry.times.push_back(simulator::time_module(module, costs, {}, {}));
  if (!pipeline_shape(plan).is_plain()) entry.other_slots = std::make_shared<OtherSlots>(question_, plan, operators_);
  // Between nodes or not depends on gpus alone (core/group.cc), so one send time serves all pipelines.
  entry.send_ps = costs.cost(lower_pipeline_send(question_.model, plan)).alone.count();
  return entry;
}

MeshTable::Cursor::Cursor(MeshTable& table) : table_(table), plan_(table.question_.base) { apply(table.mesh_, plan_); }

void MeshTable::Cursor::move_to_pipeline(int pipeline_idx) {
  apply(table_.pipelines_[static_cast<std::size_t>(pipeline_idx)], plan_);
  contents_ = contents_of(table_.question_.model, plan_);
  classify_virtual_stages();
  find_memory_stages();
  reset_times();
  // Parameters, and so what is synchronised, do not depend on the variant; the table's cache does.
  move_to_variant(0);
  const simulator::CostModel costs(table_.question_.cluster, plan_);
  const std::vector<ModuleParameters> parameters = time_synchronisation(costs);
  time_optimizers(parameters, costs);
}

bool MeshTable::Cursor::same_content(std::int64_t a, std::int64_t b) const {
  for (int module_idx = 0; module_idx < contents_.num_modules; ++module_idx)
    if (contents_.count(a, module_idx) != contents_.count(b, module_idx)) return false;
  return true;
}

void MeshTable::Cursor::classify_virtual_stages() {
  class_of_.clear();
  class_example_.clear();
  for (std::int64_t v = 0; v < plan_.virtual_stages(); ++v) {
    // The class seen last is the likeliest.
    auto class_idx = static_cast<int>(class_example_.size()) - 1;
    while (class_idx >= 0 && !same_content(class_example_[static_cast<std::size_t>(class_idx)], v)) --class_idx;
    if (class_idx < 0) {
      class_idx = static_cast<int>(class_example_.size());
      class_example_.push_back(static_cast<int>(v));
    }
    class_of_.push_back(class_idx);
  }
}

// Later stages of 1F1B and interleaved hold no more micro-batches, so a stage like the one before it is never worse.
void MeshTable::Cursor::find_memory_stages() {
  memory_stages_.clear();
  for (std::int64_t stage = 0; stage < plan_.pp; ++stage) {
    bool like_previous = stage > 0 && plan_.schedule <= PipelineSchedule::kInterleaved;
    for (std::int64_t chunk = 0; like_previous && chunk < plan_.vpp; ++chunk)
      like_previous = same_content(chunk * plan_.pp + stage, chunk * plan_.pp + stage - 1);
    if (!like_previous) memory_stages_.push_back(stage);
  }
}

void MeshTable::Cursor::reset_times() {
  times_.schedule = plan_.schedule;
  times_.pp = plan_.pp;
  times_.vpp = plan_.vpp;
  times_.merge_passes = plan_.merge_passes;
  times_.overlap_p2p = plan_.overlap_p2p;
  times_.overlap_param_gather = plan_.overlap_param_gather;
  times_.overlap_grad_reduce = plan_.overlap_grad_reduce;
  const auto virtual_stages = static_cast<std::size_t>(plan_.virtual_stages());
  for (auto* list : {&times_.forward, &times_.backward, &times_.gather, &times_.reduce})
    list->assign(virtual_stages, 0);
  for (auto* list : {&times_.forward_beside_data, &times_.backward_beside_data, &times_.forward_beside_send,
                     &times_.backward_beside_send})
    list->assign(virtual_stages, {});
  times_.optimizer.assign(static_cast<std::size_t>(plan_.pp), 0);
  times_.norm = 0;
}

// Fills gather and reduce; returns the parameters of each class of virtual stages.
std::vector<ModuleParameters> MeshTable::Cursor::time_synchronisation(const simulator::CostModel& costs) {
  const auto& memory = table_.modules(variant_idx_, plan_).memory;
  std::vector<ModuleParameters> parameters;
  std::vector<std::int64_t> gather, reduce;
  for (const int example : class_example_) {
    ModuleParameters sum;
    for (int module_idx = 0; module_idx < contents_.num_modules; ++module_idx) {
      const int count = contents_.count(example, module_idx);
      sum += count * memory[static_cast<std::size_t>(module_idx)].parameters;
    }
    const ChunkSync sync = lower_sync(plan_, sum);
    gather.push_back(total_ps(sync.gather, costs));
    reduce.push_back(total_ps(sync.reduce, costs));
    parameters.push_back(sum);
  }
  for (std::size_t v = 0; v < class_of_.size(); ++v) {
    times_.gather[v] = gather[static_cast<std::size_t>(class_of_[v])];
    times_.reduce[v] = reduce[static_cast<std::size_t>(class_of_[v])];
  }
  return parameters;
}

void MeshTable::Cursor::time_optimizers(const std::vector<ModuleParameters>& class_parameters,
                                        const simulator::CostModel& costs) {
  const PipelineShape shape = pipeline_shape(plan_);
  ModuleParameters previous{-1, -1};
  for (std::int64_t stage = 0; stage < plan_.pp; ++stage) {
    ModuleParameters sum;
    for (std::int64_t chunk = 0; chunk < shape.chunks(); ++chunk) {
      const int class_idx = class_of_[static_cast<std::size_t>(shape.virtual_stage(stage, chunk))];
      sum += class_parameters[static_cast<std::size_t>(class_idx)];
    }
    const auto index = static_cast<std::size_t>(stage);
    if (sum == previous) {
      times_.optimizer[index] = times_.optimizer[index - 1];
      continue;
    }
    previous = sum;
    std::int64_t norm = 0;
    for (const Operator& op : lower_optimizer(plan_, sum))
      (op.transfer.collective == Collective::kNone ? times_.optimizer[index] : norm) += costs.cost(op).alone.count();
    times_.norm = std::max(times_.norm, norm);
  }
}

void MeshTable::Cursor::move_to_variant(int variant_idx) {
  variant_idx_ = variant_idx;
  apply(table_.variants_[static_cast<std::size_t>(variant_idx)], plan_);
}

bool MeshTable::Cursor::is_valid() const {
  return msmoe::is_valid(table_.question_.model, table_.question_.cluster, plan_);
}

Bytes MeshTable::Cursor::states() {
  const auto& modules = table_.modules(variant_idx_, plan_).memory;
  Bytes worst;
  for (const std::int64_t stage : memory_stages_)
    worst = std::max(worst, stage_memory(table_.question_.cluster, plan_, contents_, modules, stage).states());
  return worst;
}

StageMemory MeshTable::Cursor::memory() {
  const auto& modules = table_.modules(variant_idx_, plan_).memory;
  StageMemory worst;
  for (const std::int64_t stage : memory_stages_) {
    StageMemory memory = stage_memory(table_.question_.cluster, plan_, contents_, modules, stage);
    if (memory.total() > worst.total()) worst = memory;
  }
  return worst;
}

void MeshTable::Cursor::fill_slots(const std::vector<simulator::ModuleTimes>& modules) {
  times_.micro_batches = plan_.micro_batches();
  times_.send = table_.timed_modules(variant_idx_, plan_).send_ps;
  for (std::size_t v = 0; v < class_of_.size(); ++v) {
    const auto example = static_cast<std::size_t>(class_example_[static_cast<std::size_t>(class_of_[v])]);
    if (example < v) {
      times_.forward[v] = times_.forward[example];
      times_.backward[v] = times_.backward[example];
      times_.forward_beside_data[v] = times_.forward_beside_data[example];
      times_.backward_beside_data[v] = times_.backward_beside_data[example];
      times_.forward_beside_send[v] = times_.forward_beside_send[example];
      times_.backward_beside_send[v] = times_.backward_beside_send[example];
      continue;
    }
    simulator::ModuleTimes sum;
    for (int module_idx = 0; module_idx < contents_.num_modules; ++module_idx) {
      const int count = contents_.count(static_cast<std::int64_t>(v), module_idx);
      const simulator::ModuleTimes& one = modules[static_cast<std::size_t>(module_idx)];
      sum.forward += count * one.forward;
      sum.backward += count * one.backward;
      sum.forward_beside_data += count * one.forward_beside_data;
      sum.backward_beside_data += count * one.backward_beside_data;
      sum.forward_beside_send += count * one.forward_beside_send;
      sum.backward_beside_send += count * one.backward_beside_send;
    }
    times_.forward[v] = sum.forward;
    times_.backward[v] = sum.backward;
    times_.forward_beside_data[v] = sum.forward_beside_data;
    times_.backward_beside_data[v] = sum.backward_beside_data;
    times_.forward_beside_send[v] = sum.forward_beside_send;
    times_.backward_beside_send[v] = sum.backward_beside_send;
  }
}

std::vector<Stage> MeshTable::Cursor::stages() const {
  const Model& model = table_.question_.model;
  const auto embedding = static_cast<std::int16_t>(model.kinds.size());
  std::vector<Chunk> chunks(static_cast<std::size_t>(plan_.virtual_stages()));
  std::size_t layer_idx = 0;
  for (std::int64_t v = 0; v < plan_.virtual_stages(); ++v) {
    for (std::int64_t left = plan_.layers_of(v, model.num_layers()); left > 0; --left)
      chunks[static_cast<std::size_t>(v)].modules.push_back(static_cast<std::int16_t>(model.layers[layer_idx++]));
  }
  std::vector<std::int16_t>& first = chunks.front().modules;
  std::vector<std::int16_t>& last = chunks.back().modules;
  first.insert(first.begin(), embedding);
  last.insert(last.end(), static_cast<std::size_t>(model.predict_layers), static_cast<std::int16_t>(embedding + 2));
  last.push_back(static_cast<std::int16_t>(embedding + 1));
  return lay_out_stages(pipeline_shape(plan_), chunks);
}

std::int64_t MeshTable::Cursor::bound_ps() {
  const VariantModules& modules = table_.timed_modules(variant_idx_, plan_);
  fill_slots(modules.times);
  if (modules.other_slots) simulator::add_other_slots(times_, stages(), modules.other_slots->parts);
  return simulator::lower_bound_ps(times_);
}

std::int64_t MeshTable::Cursor::step_ps() {
  const simulator::CostModel costs(table_.question_.cluster, plan_);
  const std::vector<Module> modules = table_.lower_modules(plan_);
  ModuleParameters mean;  // of the chunks
  const std::int64_t num_chunks = plan_.virtual_stages();
  for (std::size_t module_idx = 0; module_idx < modules.size(); ++module_idx) {
    int count = 0;
    for (std::int64_t v = 0; v < num_chunks; ++v) count += contents_.count(v, static_cast<int>(module_idx));
    mean += count * modules[module_idx].parameters;
  }
  mean = mean / static_cast<double>(num_chunks);
  const simulator::Shares data = simulator::data_shares(plan_, mean, costs),
                          send = simulator::send_shares(plan_, table_.question_.model, costs);
  std::vector<simulator::ModuleTimes> times;
  for (const Module& module : modules) times.push_back(simulator::time_module(module, costs, data, send));
  fill_slots(times);
  if (!pipeline_shape(plan_).is_plain()) {
    simulator::PartTimes parts(modules, plan_, costs, data, send);
    simulator::add_other_slots(times_, stages(), parts);
  }
  return composer_.compose(times_).step_ps;
}

}  // namespace msmoe::planner
