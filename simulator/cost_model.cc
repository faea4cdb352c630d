#include "simulator/cost_model.h"

#include <algorithm>
#include <cmath>

#include "simulator/cost_constants.h"

namespace msmoe::simulator {
namespace {

// The fit that tells the operator's time, but for weight gradients with a choice of kernels.
FittedOperator fitted_operator(const Compute& work, Pass pass) {
  const bool is_input_gradient = pass == Pass::kBackwardInput, is_weight_gradient = pass == Pass::kBackwardWeight;
  switch (work.kind) {
    case ComputeKind::kGemm:
      return is_input_gradient    ? FittedOperator::kGemmInputGradient
             : is_weight_gradient ? FittedOperator::kGemmWeightGradient
                                  : FittedOperator::kGemmForward;
    case ComputeKind::kGroupedGemm:
      if (is_weight_gradient) return FittedOperator::kGroupedGemmWeightGradient;
      return is_input_gradient ? FittedOperator::kGroupedGemmInputGradient : FittedOperator::kGroupedGemmForward;
    case ComputeKind::kAttention: return FittedOperator::kAttentionForward;
    case ComputeKind::kAttentionBackward: return FittedOperator::kAttentionBackward;
    case ComputeKind::kPermute: return FittedOperator::kPermute;
    case ComputeKind::kOptimizer: return FittedOperator::kOptimizer;
    case ComputeKind::kNone:
    case ComputeKind::kElementwise:
    case ComputeKind::kRouting: break;
  }
  return FittedOperator::kElementwise;
}

TermChoices terms_of(const Compute& work, CostForm form, const Gpu& gpu) {
  switch (form) {
    case CostForm::kGemm:
    case CostForm::kGroupedGemm:
    case CostForm::kGroupedGemmShort: {
      const ProductShape shape{.rows = static_cast<double>(work.m),
                               .columns = static_cast<double>(work.n),
                               .depth = static_cast<double>(work.k),
                               .groups = static_cast<double>(work.groups),
                               .hbm = work.hbm};
      if (work.precision == Precision::kFp32) return untiled_product_terms(shape, gpu, gpu.fp32_peak);
      const bool fp8 = work.precision == Precision::kFp8 && gpu.fp8_peak.count > 0;
      return product_terms(form, shape, gpu, fp8 ? gpu.fp8_peak * kFp8PeakFraction : gpu.bf16_peak);
    }
    case CostForm::kAttention:
      return attention_terms({.queries = static_cast<double>(work.m),
                              .span = static_cast<double>(work.n),
                              .heads = static_cast<double>(work.groups),
                              .width = static_cast<double>(work.k),
                              .flops = work.flops,
                              .hbm = work.hbm},
                             gpu, work.precision == Precision::kFp32 ? gpu.fp32_peak : gpu.bf16_peak);
    case CostForm::kMemory: break;
  }
  return memory_terms(work.hbm, gpu);
}

float share(double part, double whole) {
  return whole > 0 ? static_cast<float>(std::clamp(part / whole, 0.0, 1.0)) : 0.0F;
}

}  // namespace

CostModel::CostModel(const Cluster& cluster, const Plan& plan) : cluster_(cluster), plan_(plan) {
  for (int kind = 0; kind < kNumGroupKinds; ++kind)
    groups_[static_cast<std::size_t>(kind)] = group_of(static_cast<GroupKind>(kind), plan, cluster.gpus_per_node);
}

const Fit& CostModel::fit(FittedOperator of) const { return *cluster_.fits[static_cast<std::size_t>(of)]; }

const Fit& CostModel::fit_of(const Operator& op) const { return fit(chosen_kernel(op.compute, op.pass).of); }

// Weight gradients of few experts have two kernels. The rows choose which one runs, and that is about the quicker one;
// here the quicker one counts, or costs would fall where one row more brings the other kernel.
CostModel::ChosenKernel CostModel::chosen_kernel(const Compute& work, Pass pass) const {
  using enum FittedOperator;
  const FittedOperator of = fitted_operator(work, pass);
  const auto timed = [&](FittedOperator kernel) {
    return quickest(fit(kernel).coefficients, terms_of(work, fitted_operator_form(kernel), cluster_.gpu));
  };
  const ChosenKernel usual{of, timed(of)};
  const bool has_choice = of == kGroupedGemmWeightGradient && static_cast<double>(work.groups) <= kMostShortExperts &&
                          static_cast<double>(work.k) < kShortRowsEnd;
  if (!has_choice) return usual;
  const ChosenKernel with_small_tiles{kGroupedGemmWeightGradientShort, timed(kGroupedGemmWeightGradientShort)};
  return with_small_tiles.tile.seconds < usual.tile.seconds ? with_small_tiles : usual;
}

double CostModel::memory_seconds(FittedOperator of, Bytes moved) const {
  return quickest(fit(of).coefficients, memory_terms(moved, cluster_.gpu)).seconds;
}

CostModel::ComputeSeconds CostModel::compute_seconds(const Compute& work, Pass pass) const {
  ComputeSeconds result;
  if (work.kind == ComputeKind::kNone) return result;
  const auto [of, chosen] = chosen_kernel(work, pass);
  const Terms& coefficients = fit(of).coefficients;
  const CostForm form = fitted_operator_form(of);
  result.total = chosen.seconds + std::max(0, work.kernels - 1) * memory_seconds(FittedOperator::kElementwise, {});
  result.tiles_per_sm = chosen.tiles_per_sm;
  const double moved = work.hbm.count / cluster_.gpu.hbm.count;
  result.memory = form == CostForm::kMemory ? moved * coefficients[kMemoryHbmTerm] : moved / kHbmFraction;
  // The host updates offloaded states. All GPUs of a node share its memory, which moves the states at about the rate of
  // their PCIe links (two sockets of eight DDR5-4800 channels: 614 GB/s, 77 for each of 8 GPUs).
  if (work.kind == ComputeKind::kOptimizer && plan_.optimizer_offload && cluster_.pcie.count > 0)
    result.total = std::max(result.total, work.hbm.count / cluster_.pcie.count);
  if (work.precision == Precision::kFp8) {
    // The left operand is quantized first, in one more kernel.
    const double bytes = work.kind == ComputeKind::kGroupedGemm ? kQuantizeRowsBytes : kQuantizeBytes;
    const Bytes quantized{static_cast<double>(work.m) * static_cast<double>(work.k) * bytes};
    result.total += memory_seconds(FittedOperator::kElementwise, quantized);
    result.memory +=
        quantized.count / cluster_.gpu.hbm.count * fit(FittedOperator::kElementwise).coefficients[kMemoryHbmTerm];
  }
  if (form == CostForm::kMemory) result.total *= plan_.software.memory_time_scale;
  result.total *= plan_.software.kernel_time_scale;
  const bool attends = work.kind == ComputeKind::kAttention || work.kind == ComputeKind::kAttentionBackward;
  if (attends) result.total *= plan_.software.attention_time_scale;
  if (work.kind == ComputeKind::kRouting)
    result.total += plan_.software.routing_seconds * (plan_.cuda_graphs ? kCapturedRouting : 1);
  return result;
}

// What one rank sends over each wire. Bytes that stay in the node go over NVLink, the others over the NIC, both at
// once:
//   all-gather, reduce-scatter of S bytes over N nodes of r ranks:  NVLink S (r-1)/r,  NIC S/r (N-1)/N
// which is the paper's four-step synchronisation (arXiv 2505.11432, appendix A.1) in two halves, and NCCL's rings.
//   all-to-all of S bytes over g = N r ranks:                        NVLink S (r-1)/g,  NIC S (g-r)/g
CostModel::Volumes CostModel::volumes(const Transfer& transfer, const Group& group) {
  const auto size = static_cast<double>(group.size);
  const auto local = static_cast<double>(group.ranks_per_node);
  const auto nodes = static_cast<double>(group.nodes());
  const double payload = transfer.payload.count;
  const Volumes rings{payload * (local - 1) / local, payload / local * (nodes - 1) / nodes};
  switch (transfer.collective) {
    case Collective::kNone: return {};
    case Collective::kAllGather:
    case Collective::kReduceScatter: return rings;
    case Collective::kAllReduce: return {2 * rings.nvlink, 2 * rings.nic};
    case Collective::kAllToAll:
      if (transfer.nvlink.count + transfer.nic.count > 0) return {transfer.nvlink.count, transfer.nic.count};
      return {payload * (local - 1) / size, payload * (size - local) / size};
    case Collective::kSend: return nodes > 1 ? Volumes{0, payload} : Volumes{payload, 0};
  }
  return {};
}

// The time until the first byte is through: rings pass it from rank to rank, all-reduce there and back; NCCL's trees
// (all-reduce) halve the ranks at each step. An all-to-all posts its messages one node after the other.
double CostModel::latency_seconds(Collective collective, const Group& group) const {
  const auto nodes = static_cast<double>(group.nodes());
  const double nvlink_hop = to_seconds(cluster_.nvlink_latency);
  const double network_hop = to_seconds(cluster_.network_latency);
  const double ring = nvlink_hop * static_cast<double>(group.ranks_per_node - 1) + network_hop * (nodes - 1);
  const double tree =
      2 * (nvlink_hop * std::log2(static_cast<double>(group.ranks_per_node)) + network_hop * std::log2(nodes));
  switch (collective) {
    case Collective::kAllReduce: return std::min(2 * ring, tree);
    case Collective::kAllToAll: return nodes > 1 ? network_hop * nodes : nvlink_hop;
    case Collective::kSend: return nodes > 1 ? network_hop : nvlink_hop;
    default: return ring;
  }
}

CostModel::TransferSeconds CostModel::transfer_seconds(const Operator& op) const {
  TransferSeconds result;
  const Transfer& transfer = op.transfer;
  const Group& group = groups_[static_cast<std::size_t>(transfer.group)];
  if (transfer.collective == Collective::kNone || group.size <= 1) return result;
  const Volumes bytes = volumes(transfer, group);
  const bool in_node = group.nodes() == 1;
  const bool adds = transfer.collective == Collective::kReduceScatter || transfer.collective == Collective::kAllReduce;
  const bool by_socket = cluster_.gpu.is_cpu_core();
  result.by_copy_engine = in_node && !adds && op.sms == 0 && op.compute.kind == ComputeKind::kNone && !by_socket;

  double fraction = kNvlinkFraction, start = kCollectiveSeconds;
  if (by_socket) {  // the description says what sockets reach
    fraction = 1;
    start = 0;
  } else if (result.by_copy_engine) {
    fraction = kCopyEngineFraction;
    start = kCopyEngineSeconds;
  } else if (transfer.collective == Collective::kAllToAll) {
    fraction *= kAllToAllFraction;
  }
  result.nvlink = bytes.nvlink / (cluster_.nvlink.count * fraction);
  result.nic = bytes.nic * (in_node ? 1 : cluster_.oversubscription) / (cluster_.nic_per_gpu().count * kNicFraction);
  const double latency = start + latency_seconds(transfer.collective, group);
  result.total = std::max(result.nvlink, result.nic) + latency;
  if (result.by_copy_engine) return result;
  if (const auto measured = measured_seconds(transfer, group, latency)) result.total = *measured;
  return result;
}

const CollectiveTable* measured_table(const Transfer& transfer, const Group& group, const Cluster& cluster) {
  static constexpr const char* kNames[] = {"", "all_gather", "reduce_scatter", "all_to_all", "all_reduce", "send"};
  if (transfer.nvlink.count + transfer.nic.count > 0) return nullptr;  // tables are of plain exchanges
  const char* name = kNames[static_cast<std::size_t>(transfer.collective)];
  for (const CollectiveTable& table : cluster.collectives)
    if (table.collective == name && table.ranks == group.size && table.ranks_per_node == group.ranks_per_node)
      return &table;
  return nullptr;
}

// One point alone stands for a line from the latency on.
std::optional<double> CostModel::measured_seconds(const Transfer& transfer, const Group& group, double latency) const {
  const CollectiveTable* table = measured_table(transfer, group, cluster_);
  if (table == nullptr) return std::nullopt;
  if (table->points.size() > 1) return interpolated_seconds(table->points, transfer.payload);
  const CollectivePoint& only = table->points.front();
  return std::max(latency, latency + (to_seconds(only.time) - latency) * (transfer.payload / only.size));
}

// A fused operator ends with the slower of its halves (cost_constants.h). Its exchange goes tile by tile, by copy
// engines or the GEMM's own stores, so tables of whole collectives do not tell its time.
CostModel::FusedSeconds CostModel::fused_seconds(const Operator& op, double compute) const {
  const Volumes bytes = volumes(op.transfer, group(op.transfer.group));
  if (op.pieces > 1) return decomposed_seconds(op, compute);
  const bool all_to_all = op.transfer.collective == Collective::kAllToAll;
  double stretch = 1, fraction = kNvlinkFraction, reduction = 0;
  if (all_to_all && op.transfer_leads) {
    fraction = kFusedPullFraction;
  } else if (all_to_all) {
    stretch = kFusedScatterGemm;
  } else if (!op.transfer_leads && op.compute.kind == ComputeKind::kGroupedGemm) {
    reduction = kFusedReduceSecondsPerElement * static_cast<double>(op.compute.m) * static_cast<double>(op.compute.n);
  }
  const double nic = bytes.nic * cluster_.oversubscription / (cluster_.nic_per_gpu().count * kNicFraction);
  const double stretched = compute * stretch + reduction;
  return {std::max({stretched, bytes.nvlink / (cluster_.nvlink.count * fraction), nic}), stretched};
}

// One piece of the GEMM for each rank's part of its rows, each with waves of its own, beside the exchange of the next
// part; what the last piece makes leaves alone.
CostModel::FusedSeconds CostModel::decomposed_seconds(const Operator& op, double compute) const {
  const auto pieces = static_cast<double>(op.pieces);
  Compute piece = op.compute;
  piece.m = std::max<std::int64_t>(1, op.compute.m / op.pieces);
  piece.hbm = piece.hbm / pieces;
  Operator exchange = op;
  exchange.compute = {};
  exchange.sms = 1;  // as a kernel's, not a whole collective by copy engines
  // A row of pieces is as sustained as the whole.
  const double in_pieces = std::max(pieces * compute_seconds(piece, op.pass).total, compute);
  const double transfer = transfer_seconds(exchange).total;
  const double alone = op.transfer_leads ? 0 : transfer / pieces;
  return {std::max(in_pieces, transfer) + alone, in_pieces};
}

// A fused operator is no pair: it crowds as its product does, and no transfer is seen beside it.
Interference CostModel::interference(const Operator& op, const OperatorCost& cost, bool by_copy_engine) const {
  const Contention& contention = cluster_.contention;
  Interference result;
  if (op.compute.kind != ComputeKind::kNone) {
    const auto kind = static_cast<std::size_t>(crowd_kind(fitted_operator(op.compute, op.pass)));
    result.crowds = static_cast<float>(contention.crowds[kind]);
    result.yields = static_cast<float>(contention.yields[kind]);
    return result;
  }
  if (cost.alone.count() <= 0) return result;
  const Volumes sent = volumes(op.transfer, group(op.transfer.group));
  const double moved = 2 * (sent.nvlink + sent.nic) / to_seconds(cost.alone);
  result.presses = static_cast<float>(pressing(cost.share[kSm], moved / cluster_.gpu.hbm.count));
  result.wire = std::max(cost.share[kNvlinkOut], cost.share[kNicOut]);
  // Copy engines wait for no loads of SMs.
  if (!by_copy_engine) result.waits = static_cast<float>(contention.waits[wait_kind(op.transfer.collective)]);
  return result;
}

OperatorCost CostModel::cost(const Operator& op) const {
  const ComputeSeconds compute = compute_seconds(op.compute, op.pass);
  const TransferSeconds transfer = transfer_seconds(op);
  const bool computes = op.compute.kind != ComputeKind::kNone;
  const bool fused = computes && transfer.total > 0;
  // One half after the other, and what lies between them, is quicker where fusion costs more than the whole of these.
  const double between = op.absorbed.count > 0 ? memory_seconds(FittedOperator::kPermute, op.absorbed) : 0;
  const double moving_scale = plan_.software.memory_time_scale * plan_.software.kernel_time_scale;
  const double in_turn = compute.total + between * moving_scale + transfer.total;
  const FusedSeconds together = fused ? fused_seconds(op, compute.total) : FusedSeconds{in_turn, compute.total};
  const double alone = std::min(in_turn, together.total);

  OperatorCost result;
  result.alone = seconds(alone);
  result.compute = seconds(compute.total);
  result.transfer = seconds(transfer.total);
  result.computing = seconds(alone < in_turn ? together.compute : compute.total);
  const double sm_share = static_cast<double>(op.sms) / static_cast<double>(cluster_.gpu.sms);
  const bool memory_bound = op.compute.flops.count == 0;
  result.tiles_per_sm = static_cast<float>(compute.tiles_per_sm);
  const float kernel_share = compute.tiles_per_sm > 0 ? share(compute.tiles_per_sm, 1)
                             : memory_bound           ? kElementwiseSmShare
                                                      : 1.0F;
  result.share[kSm] = computes ? kernel_share : share(sm_share, 1);
  result.share[kHbm] = share(compute.memory, alone);
  // Whoever sends in a collective receives as much; a message to the next stage only leaves.
  const bool receives = op.transfer.collective != Collective::kSend;
  result.share[kNvlinkOut] = share(transfer.nvlink, alone);
  result.share[kNvlinkIn] = receives ? result.share[kNvlinkOut] : 0;
  result.share[kNicOut] = share(transfer.nic, alone);
  result.share[kNicIn] = receives ? result.share[kNicOut] : 0;
  if (transfer.by_copy_engine) result.share[kCopyEngine] = 1;
  result.interference = interference(op, result, transfer.by_copy_engine);
  result.issue = plan_.cuda_graphs || cluster_.gpu.is_cpu_core()
                     ? Duration{}
                     : seconds(kKernelLaunchSeconds * op.compute.kernels * static_cast<int>(computes) +
                               (transfer.total > 0 && !fused ? kCollectiveLaunchSeconds : 0));
  return result;
}

namespace {

// A pass takes no less than the host takes to launch it: the operator that ends last waits for the rest.
void wait_for_host(Block& block, std::int64_t issue_ps) {
  Job job;
  job.blocks = {block};
  job.devices = {{0}};
  std::int32_t last = 0;
  const std::int64_t alone_ps = run(job, [&](const TaskRun& task) { last = task.task; }).makespan_ps;
  if (alone_ps >= issue_ps) return;
  Task& task = block.tasks[static_cast<std::size_t>(last)];
  const auto longer_ps = task.alone_ps + (issue_ps - alone_ps);
  const float busy = static_cast<float>(task.alone_ps) / static_cast<float>(longer_ps);
  for (float& part : task.share) part *= busy;
  task.alone_ps = longer_ps;
}

}  // namespace

Block make_block(const std::vector<Operator>& operators, const CostModel& costs) {
  Block block;
  std::int64_t issue_ps = 0;
  std::array<std::int64_t, kMaxStreams> busy_ps{};
  block.tasks.reserve(operators.size());
  block.waits.reserve(operators.size());
  for (const Operator& op : operators) {
    const OperatorCost cost = costs.cost(op);
    Task task;
    task.alone_ps = cost.alone.count();
    task.share = cost.share;
    task.tiles_per_sm = cost.tiles_per_sm;
    task.interference = cost.interference;
    task.holder = op.compute.kind == ComputeKind::kNone;
    task.stream = static_cast<std::uint8_t>(op.stream);
    block.tasks.push_back(task);
    block.waits.emplace_back(op.waits.begin(), op.waits.end());
    issue_ps += cost.issue.count();
    busy_ps[task.stream] += task.alone_ps;
  }
  if (issue_ps > *std::max_element(busy_ps.begin(), busy_ps.end())) wait_for_host(block, issue_ps);
  return block;
}

Job make_pass_job(const std::vector<Operator>& operators, const CostModel& costs) {
  Job job;
  job.blocks = {make_block(operators, costs)};
  job.devices = {{0}};
  job.launch_queues = launch_queues(costs.plan());
  return job;
}

int launch_queues(const Plan& plan) {
  return static_cast<int>(std::min<std::int64_t>(plan.launch_queues, kMaxStreams));
}

}  // namespace msmoe::simulator
