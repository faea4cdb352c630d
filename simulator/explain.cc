#include "simulator/explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <numeric>

#include "core/memory_plan.h"
#include "core/program.h"
#include "core/schedule.h"
#include "core/units_text.h"
#include "reports/table.h"
#include "reports/text.h"
#include "simulator/cost_constants.h"
#include "simulator/cost_model.h"
#include "simulator/grading.h"
#include "simulator/module_times.h"
#include "simulator/prediction.h"
#include "simulator/prediction_report.h"
#include "simulator/what_if.h"

namespace msmoe::simulator {
namespace {

using reports::Table;

std::string billions(double count) { return fmt::format("{:.2f} B", count / 1e9); }
std::string gib(Bytes bytes) { return fmt::format("{:.2f} GiB", bytes.count / kGiB); }
std::string duration(std::int64_t picoseconds) { return format_duration(Duration{picoseconds}); }
std::string printed_seconds(Duration time) { return fmt::format("{:.3f} s", to_seconds(time)); }

Bytes memory_at(const Model& model, const Cluster& cluster, const Plan& plan, double imbalance) {
  return plan_memory(model, cluster, lower(model, cluster, plan, {.imbalance = imbalance})).worst().total();
}

// ---- Time

std::string explain_flops(const Model& model, const Prediction& prediction) {
  const std::int64_t seq_len = prediction.plan.seq_len;
  std::string text = fmt::format("FLOPs per token = 6 x {} active matrix parameters",
                                 billions(static_cast<double>(prediction.parameters.active_matrices)));
  for (std::size_t kind = 0; kind < model.kinds.size(); ++kind) {
    const Attention& attention = model.kinds[kind].attention;
    text += fmt::format("\n    + 3 x 2 x {} heads x ({} + {}) x span {:.0f} x {} layers", attention.heads,
                        attention.head_dim, attention.value_dim, average_span(attention, seq_len),
                        std::count(model.layers.begin(), model.layers.end(), static_cast<int>(kind)));
  }
  return text + fmt::format("\n    = {:.1f} GFLOP\n", prediction.flops_per_token.count / 1e9);
}

std::string explain_speed(const Prediction& prediction) {
  const Plan& plan = prediction.plan;
  const double work = prediction.flops_per_token.count * prediction.tokens_per_step();
  const double ideal = work / (static_cast<double>(plan.gpus) * prediction.peak.count);
  return fmt::format(
      "tokens per step = {} sequences x {} tokens = {}\n"
      "at peak = {:.4g} FLOP / ({} GPUs x {:.4g} TFLOPS) = {:.3f} s\n"
      "MFU = {:.3f} s at peak / {:.3f} s simulated = {:.1f}%\n",
      plan.global_batch, plan.seq_len, format_count(prediction.tokens_per_step()), work, plan.gpus,
      prediction.peak.count / 1e12, ideal, ideal, to_seconds(prediction.step), 100 * prediction.mfu());
}

std::string evidence_text(const Graded& graded, double off) {
  return fmt::format("{}, +-{:.0f} %: {}", evidence_name(graded.grade), 100 * off, reports::printable(graded.source));
}

std::string explain_parts(const Prediction& prediction) {
  std::string text = fmt::format("step = parts of stage {}, the busiest:\n", prediction.busiest_stage);
  for (int part = 0; part < kNumTimeParts; ++part) {
    const Duration time = prediction.part(static_cast<TimePart>(part));
    const Graded& evidence = prediction.evidence.time[static_cast<std::size_t>(part)];
    if (is_worth_a_line(time, prediction.step))
      text += fmt::format("    {:<24}{:>10}  {}\n", time_part_name(static_cast<TimePart>(part)), printed_seconds(time),
                          evidence_text(evidence, uncertainty(evidence.grade)));
  }
  const Software& software = prediction.plan.software;
  text += fmt::format("    {:<24}{:>10}\n", "step", printed_seconds(prediction.step));
  text += fmt::format("    {:<24}{:>10}  {}\n", "kernel times of", reports::printable(software.name),
                      evidence_text(prediction.evidence.software, uncertainty(software)));
  return text + fmt::format("    80 % interval, parts off independently of each other: {} to {}\n",
                            printed_seconds(prediction.step_low), printed_seconds(prediction.step_high));
}

// "work of stage 3 = 8 forward 1.2 s + 4 merged 2 s = 3.2 s"
std::string explain_slots(const PipelineTimes& times, const PipelineShape& shape, std::int64_t stage) {
  static constexpr const char* kKinds[] = {"forward", "backward", "backward input", "backward weight", "merged"};
  std::array<std::int64_t, std::size(kKinds)> counts{}, totals{};
  for (const Slot& slot : stage_slots(shape, stage)) {
    ++counts[static_cast<std::size_t>(slot.kind)];
    totals[static_cast<std::size_t>(slot.kind)] += times.slot(stage, slot).alone;
  }
  std::string sum;
  for (std::size_t kind = 0; kind < counts.size(); ++kind)
    if (counts[kind] > 0)
      sum += fmt::format("{}{} {} {}", sum.empty() ? "" : " + ", counts[kind], kKinds[kind], duration(totals[kind]));
  return fmt::format("work of stage {} = {} = {}\n", stage, sum,
                     duration(std::accumulate(totals.begin(), totals.end(), std::int64_t{0})));
}

std::string explain_pipeline(const Prediction& prediction, const PipelineTimes& times) {
  const Plan& plan = prediction.plan;
  const std::size_t stage = prediction.busiest_stage;
  std::int64_t forward = 0, backward = 0, gather = 0, reduce = 0;
  const PipelineShape shape = pipeline_shape(plan);
  for (std::int64_t chunk = 0; chunk < shape.chunks(); ++chunk) {
    const auto v = static_cast<std::size_t>(shape.virtual_stage(static_cast<std::int64_t>(stage), chunk));
    forward += times.forward[v];
    backward += times.backward[v];
    gather += times.gather[v];
    reduce += times.reduce[v];
  }
  const std::int64_t m = plan.micro_batches();
  std::string text = fmt::format("micro-batches m = {} sequences / (micro-batch {} x DP {}) = {}\n", plan.global_batch,
                                 plan.micro_batch, plan.dp(), m);
  if (shape.is_plain()) {
    const std::int64_t work = m * (forward + backward);
    const double bubble = static_cast<double>(plan.pp - 1) / static_cast<double>(plan.vpp * m);
    text += fmt::format("work of stage {} = m x (forward {} + backward {}) = {}\n", stage, duration(forward),
                        duration(backward), duration(work));
    text += fmt::format(
        "bubble, with equal stages = (pp - 1) / (vpp x m) x work = {} / ({} x {}) x {} = {}; simulated {}\n",
        plan.pp - 1, plan.vpp, m, duration(work),
        duration(static_cast<std::int64_t>(bubble * static_cast<double>(work))),
        format_duration(prediction.part(TimePart::kBubble)));
  } else {
    text += explain_slots(times, shape, static_cast<std::int64_t>(stage));
    text += fmt::format("bubble, simulated {}\n", format_duration(prediction.part(TimePart::kBubble)));
  }
  if (plan.pp > 1) text += fmt::format("message to the next stage = {}\n", duration(times.send));
  text += fmt::format(
      "beside the slots: parameter gather {}, gradient reduction {}; after them: gradient norm {}, optimizer {}\n",
      duration(gather), duration(reduce), duration(times.norm), duration(times.optimizer[stage]));
  return text;
}

// ---- Operators

const char* pass_name(Pass pass) {
  static constexpr const char* kNames[] = {"forward", "recompute", "backward", "backward w", "sync", "optimizer"};
  return kNames[static_cast<std::size_t>(pass)];
}

const char* stream_name(Stream stream) {
  static constexpr const char* kNames[kNumStreams] = {"compute", "communication", "pipeline", "data"};
  return kNames[static_cast<std::size_t>(stream)];
}

std::string shape(const Operator& op) {
  const Compute& work = op.compute;
  switch (work.kind) {
    case ComputeKind::kGemm: return fmt::format("{} x {} x {}", work.m, work.n, work.k);
    case ComputeKind::kGroupedGemm:
      return fmt::format("{} x {} x {} in {} groups", work.m, work.n, work.k, work.groups);
    case ComputeKind::kAttention:
    case ComputeKind::kAttentionBackward:
      return fmt::format("{} tokens, span {}, {} heads of {}", work.m, work.n, work.groups, work.k);
    default: return "";
  }
}

// What the compute half rests on.
std::string compute_basis(const Operator& op, const CostModel& costs) {
  const Compute& work = op.compute;
  if (work.kind == ComputeKind::kNone) return "";
  if (work.kind == ComputeKind::kRouting) return fmt::format("{} s a pass", costs.plan().software.routing_seconds);
  const Fit& fit = costs.fit_of(op);
  const std::string basis = fmt::format("{} on {}", fit.of, fit.gpu);
  if (work.precision != Precision::kFp8) return basis;
  return fmt::format("{}, at {:.2f} of the FP8 peak", basis, kFp8PeakFraction);
}

std::string transfer_basis(const Operator& op, const CostModel& costs, const OperatorCost& cost) {
  const Group& group = costs.group(op.transfer.group);
  if (op.transfer.collective == Collective::kNone || group.size <= 1) return "";
  if (measured_table(op.transfer, group, costs.cluster()) != nullptr) return "the cluster's own table";
  if (cost.share[kNicOut] > cost.share[kNvlinkOut])
    return fmt::format("{} of NIC, {} ranks on {} nodes", kNicFraction, group.size, group.nodes());
  if (costs.cluster().gpu.is_cpu_core()) return fmt::format("the host's loopback, {} ranks", group.size);
  if (op.transfer.collective == Collective::kAllToAll)
    return fmt::format("{} x {} of NVLink, {} ranks", kNvlinkFraction, kAllToAllFraction, group.size);
  return fmt::format("{} of NVLink, {} ranks", kNvlinkFraction, group.size);
}

std::string basis(const Operator& op, const CostModel& costs, const OperatorCost& cost) {
  const std::string compute = compute_basis(op, costs), transfer = transfer_basis(op, costs, cost);
  if (compute.empty() || transfer.empty()) return compute + transfer;
  if (cost.alone >= cost.compute + cost.transfer) return fmt::format("in turn: {}; {}", compute, transfer);
  if (op.pieces > 1) return fmt::format("in {} pieces beside each other: {}; {}", op.pieces, compute, transfer);
  return "tile by tile, as fast as in MegaScale-MoE's Fig. 16";
}

std::string number_or_blank(double value, double unit, int digits) {
  return value > 0 ? fmt::format("{:.{}f}", value / unit, digits) : "";
}

void add_operators(Table& table, const std::vector<Operator>& operators, const CostModel& costs) {
  for (const Operator& op : operators) {
    const OperatorCost cost = costs.cost(op);
    const Bytes wire = wire_bytes(op.transfer, costs.group(op.transfer.group).size);
    table.add_row({op.name, pass_name(op.pass), shape(op), number_or_blank(op.compute.flops.count, 1e9, 1),
                   number_or_blank(op.compute.hbm.count, 1e6, 1), number_or_blank(wire.count, 1e6, 1),
                   fmt::format("{:.1f}", to_seconds(cost.alone) * 1e6), stream_name(op.stream),
                   basis(op, costs, cost)});
  }
}

Table operator_table(const std::string& title) {
  Table table({{"operator"},
               {"pass"},
               {"m x n x k"},
               {"GFLOP", Table::Align::kRight},
               {"HBM MB", Table::Align::kRight},
               {"wire MB", Table::Align::kRight},
               {"alone us", Table::Align::kRight},
               {"stream"},
               {"rests on"}});
  table.set_title(title);
  return table;
}

// The layer kind that most layers are of.
int usual_kind(const Model& model) {
  int best = 0;
  const auto count = [&](int kind) { return std::count(model.layers.begin(), model.layers.end(), kind); };
  for (int kind = 1; kind < static_cast<int>(model.kinds.size()); ++kind)
    if (count(kind) > count(best)) best = kind;
  return best;
}

std::string explain_operators(const Model& model, const Prediction& prediction, const Program& program,
                              const CostModel& costs, double imbalance) {
  const Plan& plan = prediction.plan;
  const int kind = usual_kind(model);
  const Module layer =
      lower_layer(model, plan, kind, {.imbalance = imbalance, .gpus_per_node = costs.cluster().gpus_per_node});
  Table operators =
      operator_table(fmt::format("One layer, one micro-batch, on one rank: {} of {} layers are like it",
                                 std::count(model.layers.begin(), model.layers.end(), kind), model.num_layers()));
  add_operators(operators, layer.forward, costs);
  operators.add_rule();
  add_operators(operators, layer.backward, costs);

  const Stage& stage = program.stages[prediction.busiest_stage];
  ModuleParameters parameters;
  for (const Chunk& chunk : stage.chunks) parameters += chunk.parameters;
  const ChunkSync sync = lower_sync(plan, stage.chunks.front().parameters);
  Table once = operator_table(
      fmt::format("Once a step: the first chunk of stage {}, and its optimizer", prediction.busiest_stage));
  for (const auto* part : {&sync.gather, &sync.reduce}) add_operators(once, *part, costs);
  add_operators(once, lower_optimizer(plan, parameters), costs);

  return fmt::format("Compute times below include {} x, the speed of {} beside the microbenchmarks ({}).\n\n{}\n{}",
                     plan.software.kernel_time_scale, reports::printable(plan.software.name),
                     reports::printable(plan.software.source), operators.to_text(), once.to_text());
}

// ---- Memory

struct StageContents {
  ModuleParameters parameters, largest;
  std::vector<Bytes> kept;  // of one micro-batch, by chunk
};

StageContents contents_of_stage(const Program& program, std::size_t stage_idx) {
  StageContents contents;
  for (const Chunk& chunk : program.stages[stage_idx].chunks) {
    contents.parameters += chunk.parameters;
    contents.kept.emplace_back();
    for (const std::int16_t module_idx : chunk.modules) {
      const Module& module = program.modules[static_cast<std::size_t>(module_idx)];
      contents.kept.back() += module.kept;
      contents.largest.dense = std::max(contents.largest.dense, module.parameters.dense);
      contents.largest.expert = std::max(contents.largest.expert, module.parameters.expert);
    }
  }
  return contents;
}

// "P_dense x 4 / 96 + P_expert x 4 / 12": bytes of a parameter over the ranks that share it.
std::string per_parameter(const StageContents& contents, double bytes, const Program& program, bool sharded) {
  const auto ranks = [&](GroupKind kind) {
    const std::int64_t size = program.groups[static_cast<std::size_t>(kind)].size;
    return sharded && size > 1 ? fmt::format(" / {}", size) : std::string();
  };
  std::string text =
      fmt::format("{} dense x {}{}", billions(contents.parameters.dense), bytes, ranks(GroupKind::kDenseData));
  if (contents.parameters.expert > 0)
    text +=
        fmt::format(" + {} expert x {}{}", billions(contents.parameters.expert), bytes, ranks(GroupKind::kExpertData));
  return text;
}

std::string explain_states(const Plan& plan) {
  const double weight = weight_bytes(plan.precision);
  const double total = weight + plan.grad_bytes + plan.master_bytes + 2 * plan.moment_bytes;
  const double on_gpu = plan.optimizer_offload ? weight + plan.grad_bytes : total;
  return fmt::format(
      "state of one parameter = {} weight + {} gradient + {} master + 2 x {} moments = {} bytes, {} of them on the "
      "GPU, "
      "before ZeRO-{} divides\n",
      weight, plan.grad_bytes, plan.master_bytes, plan.moment_bytes, total, on_gpu, plan.zero);
}

std::string explain_memory(const Prediction& prediction, const Program& program) {
  const Plan& plan = prediction.plan;
  const StageMemory& memory = prediction.memory.worst();
  const StageContents contents = contents_of_stage(program, prediction.memory.worst_stage);
  const double weight = weight_bytes(plan.precision);
  const double optimizer = plan.master_bytes + 2 * plan.moment_bytes;
  std::string kept;
  for (const Bytes& chunk : contents.kept) kept += (kept.empty() ? "" : ", ") + gib(chunk);

  std::string text = explain_states(plan);
  const auto row = [&](const char* name, const std::string& formula, Bytes size) {
    text += fmt::format("{} = {} = {}\n", name, formula, gib(size));
  };
  row("weights", per_parameter(contents, weight, program, plan.zero >= 3), memory[MemoryRow::kWeights]);
  row("gradients", per_parameter(contents, plan.grad_bytes, program, plan.zero >= 2), memory[MemoryRow::kGradients]);
  const std::string states = per_parameter(contents, optimizer, program, plan.zero >= 1);
  if (plan.optimizer_offload) {
    row("optimizer, in host memory", states, memory.host);
  } else {
    row("optimizer", states, memory[MemoryRow::kOptimizer]);
  }
  row("activations",
      fmt::format("the most that {} (chunk, micro-batch) pairs in flight keep, a chunk keeping {}", memory.in_flight,
                  kept),
      memory[MemoryRow::kActivations]);
  row("workspace", "transient tensors of the worst layer pass, and hidden states between layers",
      memory[MemoryRow::kWorkspace]);
  if (memory[MemoryRow::kLogits].count > 0)
    row("logits", "transient tensors of the head beyond the workspace", memory[MemoryRow::kLogits]);
  if (memory[MemoryRow::kGathered].count > 0)
    row("gathered modules",
        fmt::format("2 x {} parameters of the largest module, whole",
                    billions(contents.largest.dense + contents.largest.expert)),
        memory[MemoryRow::kGathered]);
  row("communication", "buffers of all communicators", memory[MemoryRow::kCommunication]);
  row("context", "what the cluster says a CUDA context takes", memory[MemoryRow::kReserved]);
  row("slack", "share of activations, workspace and logits that an allocator loses", memory[MemoryRow::kSlack]);
  for (int index = 0; index < kNumMemoryRows; ++index) {
    const Graded& evidence = prediction.evidence.memory[static_cast<std::size_t>(index)];
    if (memory[static_cast<MemoryRow>(index)].count > 0)
      text += fmt::format("    {:<18}{}: {}\n", memory_row_name(static_cast<MemoryRow>(index)),
                          evidence_name(evidence.grade), evidence.source);
  }
  text += fmt::format("steady peak = {}; while resuming = states + communication + context + one module staged = {}\n",
                      gib(memory.steady_peak()), gib(memory.resume_peak));
  return text + fmt::format("usable = {}, margin = {}\n", gib(prediction.memory.usable),
                            gib(prediction.memory.usable - memory.total()));
}

std::string explain_imbalance(const Model& model, const Cluster& cluster, const Plan& plan) {
  const double largest = largest_imbalance(model, plan);
  if (largest <= 1) return fmt::format("expert imbalance between ranks: none is possible with EP={}\n", plan.ep);
  std::string text = fmt::format(
      "at expert imbalance (rows of the most loaded rank / balanced rows; at most {:.4g} here):\n", largest);
  for (const double imbalance : {1.0, 1.5, 2.0})
    if (imbalance <= largest)
      text += fmt::format("    {:.1f}: {}\n", imbalance, gib(memory_at(model, cluster, plan, imbalance)));
  const double full = imbalance_that_fills_memory(model, cluster, plan);
  if (full <= 1) return text + "    it does not fit even under balance\n";
  return text + (full > largest ? std::string("    it fits at any imbalance\n")
                                : fmt::format("    it no longer fits from {:.2f} on\n", full));
}

}  // namespace

double imbalance_that_fills_memory(const Model& model, const Cluster& cluster, const Plan& plan) {
  constexpr double kResolution = 1e-3;
  const auto fits = [&](double imbalance) { return memory_at(model, cluster, plan, imbalance) <= cluster.gpu.memory; };
  double low = 1, high = largest_imbalance(model, plan);
  if (!fits(low)) return low;
  if (fits(high)) return high + 1;
  while (high - low > kResolution) {
    const double middle = (low + high) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return high;
}

std::string explain(const Model& model, const Cluster& cluster, const Plan& plan, double imbalance) {
  const Program program = lower(model, cluster, plan, {.imbalance = imbalance});
  const CostModel costs(cluster, plan);
  const Prediction prediction = predict(model, cluster, plan, {.exact = false, .imbalance = imbalance, .trace = {}});
  const PipelineTimes times = make_pipeline_times(program, model, costs);
  return "Step time\n" + explain_flops(model, prediction) + explain_speed(prediction) +
         explain_pipeline(prediction, times) + explain_parts(prediction) + "\nOperators\n" +
         explain_operators(model, prediction, program, costs, imbalance) +
         fmt::format("\nMemory of stage {}, the worst\n", prediction.memory.worst_stage) +
         explain_memory(prediction, program) + explain_imbalance(model, cluster, plan);
}

}  // namespace msmoe::simulator
