#include "simulator/prediction.h"

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <tuple>
#include <unordered_map>

#include "core/error.h"
#include "reports/trace.h"
#include "simulator/grading.h"
#include "simulator/job.h"
#include "simulator/module_times.h"
#include "simulator/slot_parts.h"

namespace msmoe::simulator {
namespace {

using Parts = std::array<Duration, kNumTimeParts>;

Duration& at(Parts& parts, TimePart part) { return parts[static_cast<std::size_t>(part)]; }

// The compute half of operators as fused ones stretch it, priced once each: an exact run asks for every run of them.
class ComputeHalves {
 public:
  explicit ComputeHalves(const CostModel& costs) : costs_(costs) {}
  Duration of(const Operator& op) {
    const auto [found, is_new] = known_.try_emplace(&op);
    if (is_new) found->second = costs_.cost(op).computing;
    return found->second;
  }

 private:
  const CostModel& costs_;
  std::unordered_map<const Operator*, Duration> known_;
};

// Adds what one operator did to the compute stream for `length`. Of a fused operator, what exceeds its compute half is
// communication that it could not hide.
void add_run(Parts& parts, const Operator& op, ComputeHalves& halves, Duration length) {
  if (op.stream != Stream::kCompute) return;
  const bool fused = op.compute.kind != ComputeKind::kNone && op.transfer.collective != Collective::kNone;
  Duration exposed{};
  if (fused) exposed = std::max(Duration{}, length - halves.of(op));
  at(parts, TimePart::kExposedCommunication) += exposed;
  at(parts, time_part_of(op)) += length - exposed;
}

// One part of a slot alone; what it is made of adds up to its time.
Parts part_parts(const std::vector<Operator>& operators, const CostModel& costs) {
  Parts parts{};
  const Job job = make_pass_job(operators, costs);
  ComputeHalves halves(costs);
  Duration busy{};
  const RunResult result = run(job, [&](const TaskRun& task) {
    const Operator& op = operators[static_cast<std::size_t>(task.task)];
    const Duration length{task.end_ps - task.start_ps};
    add_run(parts, op, halves, length);
    if (op.stream == Stream::kCompute) busy += length;
  });
  at(parts, TimePart::kExposedCommunication) += Duration{result.makespan_ps} - busy;
  return parts;
}

// The parts of one stage on the fast path.
Parts stage_parts(const Program& program, const CostModel& costs, const PipelineTimes& times,
                  const StageTimes& stage_times, std::size_t stage_idx) {
  Parts parts{};
  const Stage& stage = program.stages[stage_idx];
  // Slots of a kind and chunks, micro-batches apart, are alike.
  std::map<std::tuple<SlotKind, std::int16_t, std::int16_t>, std::int64_t> slots;
  for (const Slot& slot : stage.slots) ++slots[{slot.kind, slot.chunk, slot.backward_chunk}];
  std::map<SlotPartKey, std::int64_t> counts;
  std::map<SlotPartKey, SlotPart> examples;
  for (const auto& [slot, count] : slots) {
    const auto [kind, chunk, backward_chunk] = slot;
    for (const SlotPart& part : slot_parts(program.modules, stage, {chunk, kind, 0, backward_chunk, 0})) {
      counts[part.key()] += count;
      examples.emplace(part.key(), part);
    }
  }
  std::deque<std::vector<Operator>> made;
  for (const auto& [key, count] : counts) {
    const Parts one = part_parts(part_operators(program.modules, program.plan, examples.at(key), made), costs);
    for (std::size_t part = 0; part < parts.size(); ++part) parts[part] += one[part] * count;
  }
  at(parts, TimePart::kSlowdown) += Duration{stage_times.slowed_ps};
  at(parts, TimePart::kBubble) += Duration{stage_times.bubble_ps};
  at(parts, TimePart::kExposedSend) += Duration{stage_times.exposed_send_ps};
  at(parts, TimePart::kParamGather) += Duration{stage_times.exposed_gather_ps};
  at(parts, TimePart::kGradReduce) += Duration{stage_times.exposed_reduce_ps};
  at(parts, TimePart::kOptimizer) += Duration{times.norm + times.optimizer[stage_idx]};
  return parts;
}

// Writes every operator of every stage as it ends.
class TimelineWriter {
 public:
  TimelineWriter(const std::string& path, const Program& program, const IndexedJob& indexed)
      : indexed_(indexed), writer_(path, {{"tool", std::string("msmoe-sim")}, {"plan", describe_plan(program.plan)}}) {
    static constexpr const char* kStreamNames[kNumStreams] = {"compute", "communication", "pipeline", "data parallel"};
    for (int stage = 0; stage < static_cast<int>(program.stages.size()); ++stage) {
      writer_.process_name(stage, "stage " + std::to_string(stage), stage);
      for (int stream = 0; stream < kNumStreams; ++stream)
        writer_.thread_name(stage, stream, kStreamNames[stream], stream);
    }
  }

  void add(const TaskRun& run) {
    const TaskOrigin& origin = indexed_.index.task(indexed_.job, run);
    if (origin.op == nullptr) return;
    const SlotOrigin& slot = indexed_.index.slot(run);
    const bool backward = slot.slot.kind == SlotKind::kMerged && origin.op->pass != Pass::kForward;
    const std::int64_t micro_batch = backward ? slot.slot.backward_micro_batch : slot.slot.micro_batch;
    const std::int64_t chunk = backward ? slot.slot.backward_chunk : slot.slot.chunk;
    reports::TraceArgs args = {{"micro_batch", micro_batch}, {"chunk", chunk}};
    if (origin.place >= 0) args.emplace_back("module", std::int64_t{origin.place});
    if (origin.op->transfer.payload.count > 0) args.emplace_back("bytes", origin.op->transfer.payload.count);
    if (origin.op->compute.flops.count > 0) args.emplace_back("flops", origin.op->compute.flops.count);
    writer_.complete(run.device, static_cast<int>(origin.op->stream), origin.op->name, slot_name(slot),
                     Duration{run.start_ps}, Duration{run.end_ps - run.start_ps}, args);
  }
  void finish() { writer_.finish(); }

 private:
  static const char* slot_name(const SlotOrigin& origin) {
    static constexpr const char* kRoles[] = {"gather", "", "reduce", "optimizer"};
    static constexpr const char* kKinds[] = {"forward", "backward", "backward input", "backward weight", "merged"};
    return origin.role == SlotRole::kPass ? kKinds[static_cast<std::size_t>(origin.slot.kind)]
                                          : kRoles[static_cast<std::size_t>(origin.role)];
  }

  const IndexedJob& indexed_;
  reports::TraceWriter writer_;
};

// What the engine's run of one stage adds up to. Slots join all their streams but that of messages, so what the compute
// stream leaves of a slot is exposed communication, and what slots leave of the step is waiting.
class ExactStage {
 public:
  void add(const TaskRun& task, const Operator& op, SlotRole role, ComputeHalves& halves) {
    const Duration length{task.end_ps - task.start_ps};
    if (role == SlotRole::kOptimizer) at(parts_, TimePart::kOptimizer) += length;
    if (role != SlotRole::kPass || op.stream == Stream::kPipeline) return;
    if (task.slot != slot_) {
      slot_ = task.slot;
      slot_start_ps_ = task.start_ps;
      slot_end_ps_ = task.start_ps;
    }
    // Tasks come in the order of their ends; the first to end need not be the first that started.
    in_slots_ +=
        Duration{std::max<std::int64_t>(0, slot_start_ps_ - task.start_ps)} + Duration{task.end_ps - slot_end_ps_};
    slot_start_ps_ = std::min(slot_start_ps_, task.start_ps);
    slot_end_ps_ = task.end_ps;
    if (op.stream != Stream::kCompute || op.pass == Pass::kSync) return;
    add_run(parts_, op, halves, length);
    computing_ += length;
  }

  Duration in_slots() const { return in_slots_; }
  Parts parts(Duration step) const {
    Parts all = parts_;
    at(all, TimePart::kExposedCommunication) += in_slots_ - computing_;
    at(all, TimePart::kBubble) += step - in_slots_ - at(all, TimePart::kOptimizer);
    return all;
  }

 private:
  Parts parts_{};
  Duration computing_{}, in_slots_{};
  std::int32_t slot_ = -1;
  std::int64_t slot_start_ps_ = 0, slot_end_ps_ = 0;
};

void predict_exactly(Prediction& prediction, const Program& program, const Model& model, const CostModel& costs,
                     const std::string& trace) {
  const IndexedJob indexed = make_job(program, model, costs);
  ComputeHalves halves(costs);
  std::unique_ptr<TimelineWriter> timeline;
  if (!trace.empty()) timeline = std::make_unique<TimelineWriter>(trace, program, indexed);
  std::vector<ExactStage> stages(program.stages.size());
  const RunResult result = run(indexed.job, [&](const TaskRun& task) {
    if (timeline) timeline->add(task);
    const TaskOrigin& origin = indexed.index.task(indexed.job, task);
    if (origin.op != nullptr)
      stages[static_cast<std::size_t>(task.device)].add(task, *origin.op, indexed.index.slot(task).role, halves);
  });
  if (timeline) timeline->finish();
  prediction.step = Duration{result.makespan_ps};
  prediction.events = result.events;
  const auto busiest = std::max_element(
      stages.begin(), stages.end(),
      [](const ExactStage& one, const ExactStage& other) { return one.in_slots() < other.in_slots(); });
  prediction.busiest_stage = static_cast<std::size_t>(busiest - stages.begin());
  prediction.parts = busiest->parts(prediction.step);
}

}  // namespace

const char* time_part_name(TimePart part) {
  static constexpr const char* kNames[kNumTimeParts] = {"dense GEMM",
                                                        "expert GEMM",
                                                        "attention",
                                                        "elementwise",
                                                        "recomputation",
                                                        "exposed communication",
                                                        "slowed by traffic",
                                                        "pipeline bubble",
                                                        "exposed sends",
                                                        "parameter gather",
                                                        "gradient reduction",
                                                        "optimizer",
                                                        "waits for slower ranks"};
  return kNames[static_cast<std::size_t>(part)];
}

TimePart time_part_of(const Operator& op) {
  if (op.compute.kind == ComputeKind::kNone) return TimePart::kExposedCommunication;
  if (op.pass == Pass::kRecompute) return TimePart::kRecompute;
  switch (op.compute.kind) {
    case ComputeKind::kGemm: return TimePart::kGemm;
    case ComputeKind::kGroupedGemm: return TimePart::kExpertGemm;
    case ComputeKind::kAttention:
    case ComputeKind::kAttentionBackward: return TimePart::kAttention;
    case ComputeKind::kOptimizer: return TimePart::kOptimizer;
    default: return TimePart::kElementwise;
  }
}

double Prediction::tokens_per_step() const {
  return static_cast<double>(plan.global_batch) * static_cast<double>(plan.seq_len);
}
double Prediction::tokens_per_second() const { return tokens_per_step() / to_seconds(step); }
double Prediction::tokens_per_second_per_gpu() const { return tokens_per_second() / static_cast<double>(plan.gpus); }
FlopsPerSecond Prediction::model_flops_per_gpu() const { return {flops_per_token.count * tokens_per_second_per_gpu()}; }
double Prediction::mfu() const { return model_flops_per_gpu() / peak; }
Duration Prediction::exposed_communication() const {
  return part(TimePart::kExposedCommunication) + part(TimePart::kExposedSend) + part(TimePart::kParamGather) +
         part(TimePart::kGradReduce);
}

Prediction predict(const Model& model, const Cluster& cluster, const Plan& plan, const PredictionOptions& options) {
  const Program program = lower(model, cluster, plan, {.imbalance = options.imbalance});
  const CostModel costs(cluster, plan);
  Prediction prediction;
  prediction.plan = plan;
  prediction.imbalance = options.imbalance;
  prediction.parameters = count_parameters(model);
  prediction.flops_per_token = flops_per_token(model, plan.seq_len);
  prediction.peak = peak_of(cluster.gpu, plan.precision);
  prediction.memory = plan_memory(model, cluster, program);

  const PipelineTimes times = make_pipeline_times(program, model, costs);
  Composer composer;
  const Composition& composition = composer.compose(times);
  prediction.step = Duration{composition.step_ps};
  prediction.stages = composition.stages;
  const auto busiest = std::max_element(composition.stages.begin(), composition.stages.end(),
                                        [](const StageTimes& a, const StageTimes& b) { return a.busy_ps < b.busy_ps; });
  prediction.busiest_stage = static_cast<std::size_t>(busiest - composition.stages.begin());
  prediction.parts = stage_parts(program, costs, times, *busiest, prediction.busiest_stage);
  if (options.exact || !options.trace.empty()) predict_exactly(prediction, program, model, costs, options.trace);
  grade(prediction, program, cluster);
  return prediction;
}

}  // namespace msmoe::simulator
