#include "simulator/prediction_report.h"

#include <fmt/format.h>

#include <cmath>

#include "core/plan_names.h"
#include "core/units_text.h"
#include "core/version.h"
#include "reports/bars.h"
#include "reports/text.h"
#include "simulator/run_cost.h"

namespace msmoe::simulator {
namespace {

using nlohmann::ordered_json;

constexpr double kTrillion = 1e12;

double margin(const MemoryReport& memory) { return (memory.usable - memory.worst().total()).count; }

std::string in_gib(double bytes) { return fmt::format("{:.1f} GiB", bytes / kGiB); }

std::int64_t whole(Bytes bytes) { return std::llround(bytes.count); }

// Whole bytes; total is the sum of the rows as printed.
ordered_json memory_json(const MemoryReport& memory) {
  const StageMemory& worst = memory.worst();
  ordered_json rows;
  std::int64_t total = 0;
  for (int row = 0; row < kNumMemoryRows; ++row) {
    const std::int64_t size = whole(worst[static_cast<MemoryRow>(row)]);
    rows[memory_row_key(static_cast<MemoryRow>(row))] = size;
    total += size;
  }
  ordered_json json = {{"total", total}};
  json.update(rows);
  json["resume_peak"] = whole(worst.resume_peak);
  json["usable"] = whole(memory.usable);
  json["margin"] = whole(memory.usable - worst.total());
  json["fits"] = memory.fits();
  json["worst_stage"] = memory.worst_stage;
  json["in_flight"] = worst.in_flight;
  json["host_per_node"] = whole(memory.host_per_node);
  return json;
}

ordered_json parts_json(const Prediction& prediction) {
  ordered_json json;
  for (int part = 0; part < kNumTimeParts; ++part)
    json[time_part_key(static_cast<TimePart>(part))] = to_seconds(prediction.part(static_cast<TimePart>(part)));
  return json;
}

ordered_json model_json(const Prediction& prediction, const Model& model) {
  return {{"name", model.name},
          {"family", model.family},
          {"parameters", prediction.parameters.total},
          {"active_parameters", prediction.parameters.active},
          {"predict_layer_parameters", prediction.parameters.predict_layers},
          {"flops_per_token", prediction.flops_per_token.count},
          {"defaulted", model.defaulted}};
}

ordered_json optional_json(const std::optional<double>& value) { return value ? ordered_json(*value) : nullptr; }

ordered_json cluster_json(const Cluster& cluster) {
  return {{"name", cluster.name},
          {"gpu", cluster.gpu.name},
          {"fp32_peak_flops_per_second", cluster.gpu.fp32_peak.count},
          {"bf16_peak_flops_per_second", cluster.gpu.bf16_peak.count},
          {"fp8_peak_flops_per_second", cluster.gpu.fp8_peak.count},
          {"memory_bytes", cluster.gpu.memory.count},
          {"hbm_bytes_per_second", cluster.gpu.hbm.count},
          {"gpus_per_node", cluster.gpus_per_node},
          {"nvlink_bytes_per_second", cluster.nvlink.count},
          {"nics_per_node", cluster.nics_per_node},
          {"nic_bytes_per_second", cluster.nic.count},
          {"measured_collectives", cluster.collectives.size()},
          {"price_per_gpu_hour", optional_json(cluster.price_per_gpu_hour)}};
}

std::string time_bars(const Prediction& prediction) {
  std::vector<reports::Bar> bars;
  for (int part = 0; part < kNumTimeParts; ++part) {
    const Duration time = prediction.part(static_cast<TimePart>(part));
    if (is_worth_a_line(time, prediction.step))
      bars.push_back({time_part_name(static_cast<TimePart>(part)), to_seconds(time), format_duration(time),
                      evidence_name(prediction.evidence.time[static_cast<std::size_t>(part)].grade)});
  }
  return reports::render_bars(bars, {.whole = to_seconds(prediction.step)});
}

std::string memory_bars(const Prediction& prediction) {
  const MemoryReport& memory = prediction.memory;
  std::vector<reports::Bar> bars;
  for (int row = 0; row < kNumMemoryRows; ++row) {
    const Bytes size = memory.worst()[static_cast<MemoryRow>(row)];
    if (size.count > 0)
      bars.push_back({memory_row_name(static_cast<MemoryRow>(row)), size.count, in_gib(size.count),
                      evidence_name(prediction.evidence.memory[static_cast<std::size_t>(row)].grade)});
  }
  return reports::render_bars(bars, {.whole = memory.usable.count});
}

std::string headline(const Prediction& prediction, const Model& model, const Cluster& cluster,
                     const reports::Style& style) {
  return style.bold(fmt::format("{} on {} x {}", reports::printable(model.name),
                                reports::with_commas(prediction.plan.gpus), reports::printable(cluster.gpu.name))) +
         fmt::format("\n{}\n", describe_plan(prediction.plan));
}

std::string speed(const Prediction& prediction, const reports::Style& style) {
  const char* precision = choice_name(kPrecisionChoices, prediction.plan.precision);
  const double unit = prediction.peak.count < 1e12 ? 1e9 : 1e12;
  return fmt::format("  step                {}\n", style.bold(describe_step(prediction))) +
         fmt::format("  tokens/s            {}\n", format_count(prediction.tokens_per_second())) +
         fmt::format("  tokens/s per GPU    {}\n", format_count(prediction.tokens_per_second_per_gpu())) +
         fmt::format("  model FLOPs         {:.1f} {} per GPU, {:.1f}% of {:.0f} (dense {})\n",
                     prediction.model_flops_per_gpu().count / unit, unit < 1e12 ? "GFLOPS" : "TFLOPS",
                     100 * prediction.mfu(), prediction.peak.count / unit, precision);
}

// Beyond what a Duration holds, in days.
std::string short_time(double time) {
  return time < 9e6 ? format_duration(seconds(time)) : format_count(time / 86400) + " days";
}

std::string money(const std::optional<double>& usd) { return usd ? ", $" + format_count(*usd) : ""; }

std::string failures(const RunCost& cost) {
  if (!cost.goodput) return "  failures            not stated by the cluster, and not counted\n";
  const Goodput& good = *cost.goodput;
  if (!cost.days_with_failures)
    return fmt::format("  with failures       never: one every {}, sooner than a restart and a segment take\n",
                       short_time(good.mtbf_seconds));
  const auto percent = [](double share) { return fmt::format("{:.1f}%", 100 * share); };
  return fmt::format("  with failures       {:.1f} days, {} GPU-hours{}\n", *cost.days_with_failures,
                     format_count(*cost.gpu_hours_with_failures), money(cost.usd_with_failures)) +
         fmt::format("  goodput             {}: checkpoints {}, rework {}, restarts {}; a checkpoint of {} every {}\n",
                     percent(good.goodput), percent(good.checkpoint_share), percent(good.rework_share),
                     percent(good.restart_share), format_bytes(good.checkpoint), short_time(good.interval_seconds));
}

std::string training(const Prediction& prediction, const Cluster& cluster, double tokens) {
  const RunCost cost = run_cost(prediction, cluster, tokens);
  std::string text = fmt::format("  {:<20}{:.1f} days, {} GPU-hours{}", format_count(tokens) + " tokens", cost.days,
                                 format_count(cost.gpu_hours), money(cost.usd));
  if (cost.usd) text += fmt::format(" at ${} a GPU-hour", *cluster.price_per_gpu_hour);
  text += "\n" + failures(cost);
  if (cost.energy_mwh)
    text += fmt::format("  energy              {} MWh at full load, {:.0f}% of it in GPUs that compute\n",
                        format_count(*cost.energy_mwh), 100 * *cost.energy_compute_share);
  return text;
}

ordered_json goodput_json(const Goodput& good) {
  return {{"goodput", good.goodput},
          {"checkpoint_share", good.checkpoint_share},
          {"rework_share", good.rework_share},
          {"restart_share", good.restart_share},
          {"mtbf_seconds", good.mtbf_seconds},
          {"checkpoint_bytes", good.checkpoint.count},
          {"checkpoint_write_seconds", good.write_seconds},
          {"checkpoint_interval_seconds", good.interval_seconds}};
}

ordered_json training_json(const Prediction& prediction, const Cluster& cluster, double tokens) {
  const RunCost cost = run_cost(prediction, cluster, tokens);
  ordered_json json = {{"tokens", tokens},
                       {"days", cost.days},
                       {"gpu_hours", cost.gpu_hours},
                       {"usd", optional_json(cost.usd)},
                       {"days_with_failures", optional_json(cost.days_with_failures)},
                       {"gpu_hours_with_failures", optional_json(cost.gpu_hours_with_failures)},
                       {"usd_with_failures", optional_json(cost.usd_with_failures)},
                       {"energy_mwh", optional_json(cost.energy_mwh)},
                       {"energy_compute_share", optional_json(cost.energy_compute_share)}};
  if (cost.goodput) {
    json.update(goodput_json(*cost.goodput));
  } else {
    json["goodput"] = nullptr;
  }
  return json;
}

ordered_json graded_json(const Graded& graded) {
  return {{"grade", evidence_key(graded.grade)}, {"source", graded.source}};
}

ordered_json evidence_json(const PredictionEvidence& evidence) {
  ordered_json time, memory;
  for (int part = 0; part < kNumTimeParts; ++part)
    time[time_part_key(static_cast<TimePart>(part))] = graded_json(evidence.time[static_cast<std::size_t>(part)]);
  for (int row = 0; row < kNumMemoryRows; ++row)
    memory[memory_row_key(static_cast<MemoryRow>(row))] = graded_json(evidence.memory[static_cast<std::size_t>(row)]);
  return {{"time", time}, {"memory", memory}, {"software", graded_json(evidence.software)}};
}

}  // namespace

const char* time_part_key(TimePart part) {
  static constexpr const char* kKeys[kNumTimeParts] = {
      "gemm",   "expert_gemm",   "attention",    "elementwise", "recompute", "exposed_communication", "slowdown",
      "bubble", "exposed_sends", "param_gather", "grad_reduce", "optimizer", "uneven_ranks"};
  return kKeys[static_cast<std::size_t>(part)];
}

const char* memory_row_key(MemoryRow row) {
  static constexpr const char* kKeys[kNumMemoryRows] = {
      "parameters", "gradients",           "optimizer",     "activations", "workspace",
      "logits",     "gathered_parameters", "communication", "reserved",    "slack"};
  return kKeys[static_cast<std::size_t>(row)];
}

bool is_worth_a_line(Duration part, Duration step) { return part.count() > step.count() / 1'000'000; }

std::string describe_step(const Prediction& prediction) {
  return fmt::format("{} (80 %: {} to {})", format_duration(prediction.step), format_duration(prediction.step_low),
                     format_duration(prediction.step_high));
}

ordered_json to_json(const Prediction& prediction, const Model& model, const Cluster& cluster,
                     std::optional<double> tokens) {
  const RunCost trillion = run_cost(prediction, cluster, kTrillion);
  ordered_json json = {{"schema_version", kOutputSchemaVersion},
                       {"version", kVersion},
                       {"step_seconds", to_seconds(prediction.step)},
                       {"step_seconds_low", to_seconds(prediction.step_low)},
                       {"step_seconds_high", to_seconds(prediction.step_high)},
                       {"tokens_per_second", prediction.tokens_per_second()},
                       {"tokens_per_second_per_gpu", prediction.tokens_per_second_per_gpu()},
                       {"model_tflops_per_gpu", prediction.model_flops_per_gpu().count / 1e12},
                       {"mfu", prediction.mfu()},
                       {"memory_bytes_per_gpu", memory_json(prediction.memory)},
                       {"exposed_communication_seconds", to_seconds(prediction.exposed_communication())},
                       {"bubble_seconds", to_seconds(prediction.part(TimePart::kBubble))},
                       {"busiest_stage", prediction.busiest_stage},
                       {"time_parts_seconds", parts_json(prediction)},
                       {"evidence", evidence_json(prediction.evidence)},
                       {"gpu_hours_per_trillion_tokens", trillion.gpu_hours},
                       {"usd_per_trillion_tokens", optional_json(trillion.usd)},
                       {"events", prediction.events},
                       {"model", model_json(prediction, model)},
                       {"cluster", cluster_json(cluster)},
                       {"plan", ordered_json::parse(plan_to_json(prediction.plan))},
                       {"warnings", plan_warnings(model, cluster, prediction.plan)}};
  if (prediction.ranks) {
    json["step_seconds_p50"] = to_seconds(prediction.ranks->step.p50);
    json["step_seconds_p99"] = to_seconds(prediction.ranks->step.p99);
    json["ranks"] = ranks_json(*prediction.ranks);
  }
  if (tokens) json["training"] = training_json(prediction, cluster, *tokens);
  return json;
}

std::string describe_fit(const MemoryReport& memory) {
  const double left = margin(memory);
  return memory.fits() ? fmt::format("fits, {} to spare", in_gib(left))
                       : fmt::format("does not fit: {} over on stage {}", in_gib(-left), memory.worst_stage);
}

std::vector<std::string> prediction_notes(const Prediction& prediction, const Model& model, const Cluster& cluster) {
  const Software& software = prediction.plan.software;
  std::vector<std::string> notes = {fmt::format("kernel times: those of {}, {} x the microbenchmarks ({})",
                                                reports::printable(software.name), software.kernel_time_scale,
                                                reports::printable(software.source))};
  for (const std::string& warning : plan_warnings(model, cluster, prediction.plan))
    notes.push_back("warning: " + warning);
  return notes;
}

std::string to_text(const Prediction& prediction, const Model& model, const Cluster& cluster,
                    std::optional<double> tokens, const reports::Style& style) {
  const MemoryReport& memory = prediction.memory;
  std::string text = headline(prediction, model, cluster, style) + "\n" + speed(prediction, style);
  if (tokens) text += training(prediction, cluster, *tokens);
  text +=
      "\n" + style.bold(fmt::format("Where the time goes (stage {}, the busiest)", prediction.busiest_stage)) + "\n";
  text += time_bars(prediction);
  text += "\n" + style.bold(fmt::format("Where the memory goes (stage {}, the worst)", memory.worst_stage)) + "\n";
  text += memory_bars(prediction);
  text += fmt::format("{} of {}: {}\n", in_gib(memory.worst().total().count), in_gib(memory.usable.count),
                      style.bold(describe_fit(memory)));
  if (memory.worst().resume_peak > memory.worst().steady_peak())
    text += fmt::format("the peak is at resuming from a checkpoint; a step needs {}\n",
                        in_gib(memory.worst().steady_peak().count));
  if (memory.host_per_node.count > 0)
    text += fmt::format("host memory: {} a node\n", in_gib(memory.host_per_node.count));
  text += "\n";
  for (const std::string& note : prediction_notes(prediction, model, cluster)) text += note + "\n";
  return text;
}

}  // namespace msmoe::simulator
