#include "simulator/grading.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "simulator/cost_model.h"

namespace msmoe::simulator {
namespace {

constexpr const char* kComputeFp8 = "DeepGEMM on H800, scaled by the GPU's peak";
constexpr const char* kCounted = "counted from the model and the plan";

Graded& at(PredictionEvidence& evidence, TimePart part) { return evidence.time[static_cast<std::size_t>(part)]; }
Graded& at(PredictionEvidence& evidence, MemoryRow row) { return evidence.memory[static_cast<std::size_t>(row)]; }

// The fits of some operators: all of them lie in one profile, or the missing ones in H100's.
Graded grade_fits(const Cluster& cluster, std::initializer_list<FittedOperator> operators) {
  Graded weakest{Evidence::kMeasured, ""};
  const std::string tool = cluster.gpu.is_cpu_core() ? "cpu_bench on " : "msmoe-profile on ";
  for (const FittedOperator of : operators) {
    const Fit& fit = *cluster.fits[static_cast<std::size_t>(of)];
    const bool is_own = !cluster.gpu_is_hypothetical && was_measured_on(fit.gpu, cluster.gpu);
    if (!is_own) weakest = {Evidence::kDerived, tool + fit.gpu + ", scaled by the GPU's peaks"};
    if (weakest.source.empty()) weakest.source = tool + fit.gpu;
  }
  return weakest;
}

Graded grade_transfer(const Transfer& transfer, const Group& group, const Cluster& cluster) {
  if (const CollectiveTable* table = measured_table(transfer, group, cluster))
    return {Evidence::kMeasured, "the cluster's table: " + table->source};
  if (group.nodes() <= 1 && cluster.gpu.is_cpu_core())
    return {Evidence::kAssumed, "rings of exchanges over the host's loopback"};
  if (group.nodes() <= 1) return {Evidence::kDerived, "NCCL on H100 and DeepEP on H800, scaled by NVLink"};
  if (cluster.oversubscription > 1) return {Evidence::kAssumed, "the network's upper levels shared evenly"};
  return {Evidence::kDerived, "DeepEP between H800 nodes, scaled by the network cards"};
}

// The weakest evidence among the transfers that were added.
class Wires {
 public:
  Wires(const Program& program, const Cluster& cluster) : program_(program), cluster_(cluster) {}

  void add(const std::vector<Operator>& operators) {
    for (const Operator& op : operators) add(op.transfer);
  }
  void add(const Transfer& transfer) {
    const Group& group = program_.groups[static_cast<std::size_t>(transfer.group)];
    if (transfer.collective == Collective::kNone || group.size <= 1) return;
    const Graded graded = grade_transfer(transfer, group, cluster_);
    if (weakest_.source.empty() || graded.grade > weakest_.grade) weakest_ = graded;
  }
  Graded weakest() const { return weakest_.source.empty() ? Graded{Evidence::kDerived, "no transfers"} : weakest_; }

 private:
  const Program& program_;
  const Cluster& cluster_;
  Graded weakest_;
};

Graded grade_layers(const Program& program, const Cluster& cluster) {
  Wires wires(program, cluster);
  for (const Module& module : program.modules) {
    wires.add(module.forward);
    wires.add(module.backward);
  }
  return wires.weakest();
}

Graded grade_optimizer(const Plan& plan, const Cluster& cluster) {
  if (plan.optimizer_offload) return {Evidence::kDataSheet, "PCIe and host memory at their stated bandwidth"};
  return grade_fits(cluster, {FittedOperator::kOptimizer});
}

Graded grade_products(const Plan& plan, const Cluster& cluster, std::initializer_list<FittedOperator> operators) {
  if (plan.precision == Precision::kFp8) return {Evidence::kDerived, kComputeFp8};
  return grade_fits(cluster, operators);
}

void grade_time(PredictionEvidence& evidence, const Program& program, const Cluster& cluster) {
  const Plan& plan = program.plan;
  using enum FittedOperator;
  const Graded gemm = grade_products(plan, cluster, {kGemmForward, kGemmInputGradient, kGemmWeightGradient});
  at(evidence, TimePart::kGemm) = gemm;
  at(evidence, TimePart::kRecompute) = gemm;
  at(evidence, TimePart::kExpertGemm) = grade_products(
      plan, cluster,
      {kGroupedGemmForward, kGroupedGemmInputGradient, kGroupedGemmWeightGradient, kGroupedGemmWeightGradientShort});
  at(evidence, TimePart::kAttention) = grade_fits(cluster, {kAttentionForward, kAttentionBackward});
  at(evidence, TimePart::kElementwise) = grade_fits(cluster, {kElementwise, kPermute});
  at(evidence, TimePart::kExposedCommunication) = grade_layers(program, cluster);
  at(evidence, TimePart::kSlowdown) = {Evidence::kAssumed,
                                       "resources shared by max-min fairness, pairs as on " + cluster.contention.gpu};
  at(evidence, TimePart::kBubble) = {Evidence::kDerived, "composed of the slots of all stages"};

  Wires sends(program, cluster), gathers(program, cluster), reductions(program, cluster);
  sends.add(Transfer{.collective = Collective::kSend, .group = GroupKind::kPipeline, .payload = {}});
  const ChunkSync sync = lower_sync(plan, program.stages.front().chunks.front().parameters);
  gathers.add(sync.gather);
  reductions.add(sync.reduce);
  at(evidence, TimePart::kExposedSend) = sends.weakest();
  at(evidence, TimePart::kParamGather) = gathers.weakest();
  at(evidence, TimePart::kGradReduce) = reductions.weakest();
  at(evidence, TimePart::kOptimizer) = grade_optimizer(plan, cluster);
  at(evidence, TimePart::kUnevenRanks) = {Evidence::kAssumed, "the routing, stragglers and jitter asked for"};
}

void grade_memory(PredictionEvidence& evidence, const Cluster& cluster) {
  for (Graded& row : evidence.memory) row = {Evidence::kDerived, kCounted};
  for (const MemoryRow row : {MemoryRow::kActivations, MemoryRow::kWorkspace, MemoryRow::kLogits})
    at(evidence, row) = {Evidence::kDerived, "lifetimes of the operators' tensors"};
  at(evidence, MemoryRow::kCommunication) = {
      Evidence::kAssumed, cluster.gpu.is_cpu_core() ? "the cluster file" : "NCCL's default buffers, channels assumed"};
  at(evidence, MemoryRow::kReserved) = {Evidence::kAssumed, "the cluster file"};
  at(evidence, MemoryRow::kSlack) = {Evidence::kAssumed, "an allocator's usual loss"};
}

bool rests_on_software(TimePart part) {
  switch (part) {
    case TimePart::kExposedCommunication:
    case TimePart::kExposedSend:
    case TimePart::kParamGather:
    case TimePart::kGradReduce: return false;
    default: return true;
  }
}

double square(double value) { return value * value; }

// u of the header.
double step_uncertainty(const Prediction& prediction) {
  double sum = 0, computing = 0;
  for (int index = 0; index < kNumTimeParts; ++index) {
    const auto part = static_cast<TimePart>(index);
    const double time = to_seconds(prediction.part(part));
    sum += square(time * uncertainty(prediction.evidence.time[static_cast<std::size_t>(index)].grade));
    if (rests_on_software(part)) computing += time;
  }
  sum += square(computing * uncertainty(prediction.plan.software));
  return std::sqrt(sum) / to_seconds(prediction.step);
}

}  // namespace

void grade(Prediction& prediction, const Program& program, const Cluster& cluster) {
  grade_time(prediction.evidence, program, cluster);
  grade_memory(prediction.evidence, cluster);
  prediction.evidence.software = software_evidence(prediction.plan.software);
  set_interval(prediction);
}

void set_interval(Prediction& prediction) {
  const double off = 1 + step_uncertainty(prediction);
  const double at_peak = prediction.flops_per_token.count * prediction.tokens_per_step() /
                         (static_cast<double>(prediction.plan.gpus) * prediction.peak.count);
  const double step = to_seconds(prediction.step);
  prediction.step_low = seconds(std::clamp(at_peak, step / off, step));
  prediction.step_high = seconds(step * off);
}

}  // namespace msmoe::simulator
