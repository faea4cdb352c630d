#include "core/memory_plan.h"

#include <algorithm>
#include <cassert>
#include <numeric>

#include "core/group.h"
#include "core/lowering/merge.h"
#include "core/plan_names.h"
#include "core/schedule.h"

namespace msmoe {
namespace {

// All-to-all also keeps buffers for every peer, beside those of the communicator (assumed).
constexpr Bytes kPeerBuffers{8 * kMiB};
// What a caching allocator, or an arena with tensors of unequal lifetimes, leaves unused (assumed).
constexpr double kSlackFraction = 0.03;

double ranks_of(const Plan& plan, GroupKind kind) { return static_cast<double>(group_of(kind, plan, 1).size); }

// Bytes per rank of something replicated over both data groups, and sharded over them where wanted.
Bytes per_rank(const Plan& plan, const ModuleParameters& parameters, double bytes_each, bool sharded) {
  const double dense_ranks = sharded ? ranks_of(plan, GroupKind::kDenseData) : 1;
  const double expert_ranks = sharded ? ranks_of(plan, GroupKind::kExpertData) : 1;
  return {bytes_each * (parameters.dense / dense_ranks + parameters.expert / expert_ranks)};
}

// What has replicas to be sharded over: experts on one rank each are whole where they are.
ModuleParameters sharded_part(const Plan& plan, const ModuleParameters& parameters) {
  return {ranks_of(plan, GroupKind::kDenseData) > 1 ? parameters.dense : 0,
          ranks_of(plan, GroupKind::kExpertData) > 1 ? parameters.expert : 0};
}

Bytes communicators(const Cluster& cluster, const Plan& plan) {
  Bytes total;
  for (const GroupKind kind : {GroupKind::kAttention, GroupKind::kContext, GroupKind::kExpert, GroupKind::kExpertTensor,
                               GroupKind::kDenseData, GroupKind::kExpertData, GroupKind::kWorld})
    if (group_of(kind, plan, 1).size > 1) total += cluster.communicator_memory;
  if (plan.pp > 1) total += cluster.communicator_memory;
  const bool all_to_all = plan.dispatch != Dispatch::kAllGather;
  if (all_to_all) total += kPeerBuffers * static_cast<double>(plan.ep - 1);
  return total;
}

// The largest sum over chunks of kept bytes * pairs in flight. After the warm-up of P forwards the schedule adds
// forward P + i and then removes backward i; forwards visit the chunks upwards in rounds of g, backwards downwards. The
// sum is linear in i between the ends of the chunks' turns, so only those need a look, over one period of g * vpp and
// over the last round where it is a shorter one.
double activations_in_flight(const PipelineShape& shape, const double* chunk_kept, std::int64_t in_flight) {
  const std::int64_t vpp = shape.vpp;
  if (std::all_of(chunk_kept, chunk_kept + vpp, [&](double kept) { return kept == chunk_kept[0]; }))
    return chunk_kept[0] * static_cast<double>(in_flight);
  const std::int64_t m = shape.micro_batches;
  const std::int64_t group = round_size(shape.pp, m), period = group * vpp;
  const std::int64_t rest = m % group, whole = (m - rest) * vpp;  // micro-batches of a shorter round, slots before it
  auto visits = [&](std::int64_t slots, std::int64_t position) {
    if (slots > whole) return m - rest + std::clamp<std::int64_t>(slots - whole - position * rest, 0, rest);
    return slots / period * group + std::clamp<std::int64_t>(slots % period - position * group, 0, group);
  };
  auto next_end = [&](std::int64_t slots) {
    const bool shorter = slots >= whole && rest > 0;
    const std::int64_t begin = shorter ? whole : 0, turn = shorter ? rest : group;
    return begin + ((slots - begin) / turn + 1) * turn;
  };
  double worst = 0;
  auto look = [&](std::int64_t step, std::int64_t last) {
    while (step <= last) {
      double total = 0;
      for (std::int64_t chunk = 0; chunk < vpp; ++chunk) {
        const std::int64_t pairs = visits(in_flight + step, chunk) - visits(step, vpp - 1 - chunk);
        total += chunk_kept[chunk] * static_cast<double>(pairs);
      }
      worst = std::max(worst, total);
      step = std::min(next_end(step), next_end(in_flight + step) - in_flight);
    }
  };
  const std::int64_t last = m * vpp - in_flight;
  look(0, std::min(period, last));
  if (rest > 0) look(std::max<std::int64_t>(0, whole - in_flight), last);
  return worst;
}

// The same where input gradients leave `held` of `kept` behind until the weight gradients: a walk through the slots.
double activations_of_parted(const PipelineShape& shape, const double* chunk_kept, const double* chunk_held,
                             std::int64_t stage) {
  double now = 0, worst = 0;
  for (const Slot& slot : stage_slots(shape, stage)) {
    if (slot.runs_forward()) worst = std::max(worst, now += chunk_kept[slot.chunk]);
    const auto chunk = static_cast<std::size_t>(slot.gradient_chunk());
    if (slot.kind == SlotKind::kBackwardInput) {
      worst = std::max(worst, now += chunk_held[chunk] - chunk_kept[chunk]);
    } else if (slot.makes_weight_gradients()) {
      now -= slot.kind == SlotKind::kBackwardWeight ? chunk_held[chunk] : chunk_kept[chunk];
    }
  }
  return worst;
}

// Bytes that modules need beside what is kept, in the worst slot. The head runs alone in merged slots, too.
struct Workspace {
  Bytes layers, head, passed;

  // The gradient that a module reads and the one that it writes, or its output; all three where passes are merged.
  Bytes between_modules(const PipelineShape& shape) const { return passed * (shape.has_merged_slots() ? 3 : 2); }

  void add(const ModuleMemory& module, const PipelineShape& shape) {
    const Bytes module_backward = std::max(module.backward_peak, module.input_peak);
    Bytes& peak = module.kind == ModuleKind::kHead ? head : layers;
    passed = std::max(passed, module.passed);
    peak = std::max({peak, module.forward_peak, module_backward});
    if (!shape.has_merged_slots() || module.kind == ModuleKind::kHead) return;
    forward = std::max(forward, module.forward_peak);
    backward = std::max(backward, module_backward);
    layers = std::max(layers, forward + backward);
  }

 private:
  Bytes forward, backward;
};

}  // namespace

const char* memory_row_name(MemoryRow row) {
  static constexpr const char* kNames[kNumMemoryRows] = {"weights",   "gradients", "optimizer",        "activations",
                                                         "workspace", "logits",    "gathered modules", "communication",
                                                         "context",   "slack"};
  return kNames[static_cast<std::size_t>(row)];
}

ModuleMemory summarize(const Module& module, bool parted) {
  ModuleMemory memory{.kind = module.kind,
                      .parameters = module.parameters,
                      .kept = module.kept,
                      .forward_peak = module.forward_peak,
                      .backward_peak = module.backward_peak,
                      .passed = {},
                      .held = {},
                      .input_peak = {}};
  const std::int16_t passed = module.output >= 0 ? module.output : module.input;
  if (passed >= 0) memory.passed = module.tensors[static_cast<std::size_t>(passed)].size;
  if (!parted) return memory;
  const PartedMemory more = parted_memory(module);
  memory.held = more.held;
  memory.input_peak = more.input_peak;
  return memory;
}

Contents contents_of(const Model& model, const Plan& plan) {
  const auto num_kinds = static_cast<int>(model.kinds.size());
  Contents contents;
  contents.num_modules = num_kinds + 2 + (model.predict_layers > 0 ? 1 : 0);
  contents.counts.assign(static_cast<std::size_t>(plan.virtual_stages() * contents.num_modules), 0);
  std::size_t layer_idx = 0;
  for (std::int64_t v = 0; v < plan.virtual_stages(); ++v) {
    int* counts = &contents.counts[static_cast<std::size_t>(v * contents.num_modules)];
    for (std::int64_t count = plan.layers_of(v, model.num_layers()); count > 0; --count)
      ++counts[model.layers[layer_idx++]];
    if (v == 0) counts[num_kinds] = 1;
    if (v + 1 == plan.virtual_stages()) {
      counts[num_kinds + 1] = 1;
      if (model.predict_layers > 0) counts[num_kinds + 2] = model.predict_layers;
    }
  }
  return contents;
}

Bytes StageMemory::steady_peak() const { return std::accumulate(rows.begin(), rows.end(), Bytes{}); }
Bytes StageMemory::states() const {
  return (*this)[MemoryRow::kWeights] + (*this)[MemoryRow::kGradients] + (*this)[MemoryRow::kOptimizer];
}
Bytes StageMemory::total() const { return std::max(steady_peak(), resume_peak); }

StageMemory stage_memory(const Cluster& cluster, const Plan& plan, const Contents& contents,
                         const std::vector<ModuleMemory>& modules, std::int64_t stage) {
  assert(plan.vpp <= kMostChunks);
  const PipelineShape shape = pipeline_shape(plan);
  std::array<double, kMostChunks> chunk_kept{}, chunk_held{};
  ModuleParameters parameters, largest;
  Workspace workspace;
  for (std::int64_t chunk = 0; chunk < shape.chunks(); ++chunk) {
    const std::int64_t v = shape.virtual_stage(stage, chunk);
    for (int module_idx = 0; module_idx < contents.num_modules; ++module_idx) {
      const int count = contents.count(v, module_idx);
      if (count == 0) continue;
      const ModuleMemory& module = modules[static_cast<std::size_t>(module_idx)];
      parameters += count * module.parameters;
      largest.dense = std::max(largest.dense, module.parameters.dense);
      largest.expert = std::max(largest.expert, module.parameters.expert);
      chunk_kept[static_cast<std::size_t>(chunk)] += count * module.kept.count;
      chunk_held[static_cast<std::size_t>(chunk)] += count * module.held.count;
      workspace.add(module, shape);
    }
  }

  StageMemory memory;
  const double weight = weight_bytes(plan.precision);
  const double state_bytes = plan.master_bytes + 2 * plan.moment_bytes;
  memory[MemoryRow::kWeights] = per_rank(plan, parameters, weight, plan.zero >= 3);
  memory[MemoryRow::kGradients] = per_rank(plan, parameters, plan.grad_bytes, plan.zero >= 2);
  const Bytes states = per_rank(plan, parameters, state_bytes, plan.zero >= 1);
  memory[MemoryRow::kOptimizer] = plan.optimizer_offload ? Bytes{} : states;
  memory.host = plan.optimizer_offload ? states : Bytes{};
  memory.in_flight = peak_in_flight(shape, stage);
  memory[MemoryRow::kActivations] = {shape.parts_backward()
                                         ? activations_of_parted(shape, chunk_kept.data(), chunk_held.data(), stage)
                                         : activations_in_flight(shape, chunk_kept.data(), memory.in_flight)};
  memory[MemoryRow::kWorkspace] = workspace.layers + workspace.between_modules(shape);
  memory[MemoryRow::kLogits] = std::max(Bytes{}, workspace.head - workspace.layers);
  const double whole_bytes = (plan.zero >= 3 ? weight : 0) + (plan.zero >= 2 ? plan.grad_bytes : 0);
  memory[MemoryRow::kGathered] = per_rank(plan, sharded_part(plan, largest), 2 * whole_bytes, false);
  memory[MemoryRow::kCommunication] = communicators(cluster, plan);
  memory[MemoryRow::kReserved] = cluster.reserved_memory;
  memory[MemoryRow::kSlack] =
      (memory[MemoryRow::kActivations] + memory[MemoryRow::kWorkspace] + memory[MemoryRow::kLogits]) * kSlackFraction;
  memory.resume_peak = memory.states() + memory[MemoryRow::kCommunication] + memory[MemoryRow::kReserved] +
                       per_rank(plan, largest, weight + state_bytes, plan.zero >= 1);
  return memory;
}

MemoryReport plan_memory(const Cluster& cluster, const Plan& plan, const Contents& contents,
                         const std::vector<ModuleMemory>& modules) {
  MemoryReport report;
  report.usable = cluster.gpu.memory;
  for (std::int64_t stage = 0; stage < plan.pp; ++stage) {
    report.stages.push_back(stage_memory(cluster, plan, contents, modules, stage));
    if (report.stages.back().total() > report.worst().total()) report.worst_stage = report.stages.size() - 1;
    report.host_per_node =
        std::max(report.host_per_node, report.stages.back().host * static_cast<double>(cluster.gpus_per_node));
  }
  return report;
}

MemoryReport plan_memory(const Model& model, const Cluster& cluster, const Program& program) {
  // lower() adds modules in the order it meets them; contents_of() wants layer kinds first.
  std::vector<ModuleMemory> modules(model.kinds.size() + 2 + (model.predict_layers > 0 ? 1 : 0));
  for (const Module& module : program.modules) {
    std::size_t index = model.kinds.size();
    switch (module.kind) {
      case ModuleKind::kLayer: index = static_cast<std::size_t>(module.layer_kind); break;
      case ModuleKind::kEmbedding: break;
      case ModuleKind::kHead: index += 1; break;
      case ModuleKind::kPredict: index += 2; break;
    }
    modules[index] = summarize(module, !pipeline_shape(program.plan).is_plain());
  }
  return plan_memory(cluster, program.plan, contents_of(model, program.plan), modules);
}

}  // namespace msmoe
