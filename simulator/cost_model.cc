#include "simulator/cost_model.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "simulator/cost_constants.h"

namespace msmoe::simulator {
namespace {

double attention_fraction(const Compute& work) {
  const auto span = static_cast<double>(work.n);
  const bool backward = work.kind == ComputeKind::kAttentionBackward;
  const double long_spans = backward ? kAttentionBackwardFraction * span / (span + kAttentionBackwardSpan)
                                     : kAttentionForwardFraction * span / (span + kAttentionForwardSpan);
  // Linear between heads of 64 and of 128.
  const double width = std::clamp(static_cast<double>(work.k), 32.0, 128.0);
  return long_spans * (1 - (1 - kAttentionNarrowHead) * (128 - width) / 64);
}

float share(double part, double whole) {
  return whole > 0 ? static_cast<float>(std::clamp(part / whole, 0.0, 1.0)) : 0.0F;
}

}  // namespace

CostModel::CostModel(const Cluster& cluster, const Plan& plan) : cluster_(cluster), plan_(plan) {
  for (int kind = 0; kind < kNumGroupKinds; ++kind)
    groups_[static_cast<std::size_t>(kind)] = group_of(static_cast<GroupKind>(kind), plan, cluster.gpus_per_node);
}

// Whole waves: a wave is one tile on every SM. Rows of each expert are tiled apart, as a grouped GEMM does.
double CostModel::gemm_seconds(const Compute& work) const {
  const bool fp8 = work.precision == Precision::kFp8 && cluster_.gpu.fp8_peak.count > 0;
  const double peak =
      fp8 ? cluster_.gpu.fp8_peak.count * kGemmPeakFractionFp8 : cluster_.gpu.bf16_peak.count * kGemmPeakFraction;
  const auto sms = static_cast<double>(cluster_.gpu.sms);
  const auto groups = static_cast<double>(work.groups);
  const auto depth = static_cast<double>(work.k);
  const double group_rows = static_cast<double>(work.m) / groups;
  double best = std::numeric_limits<double>::infinity();
  for (const Tile& tile : kTiles) {
    const double tiles =
        groups * std::ceil(group_rows / tile.rows) * std::ceil(static_cast<double>(work.n) / tile.columns);
    const double tile_flops = 2 * tile.rows * tile.columns * (depth + kGemmDepthOverhead);
    best = std::min(best, std::ceil(tiles / sms) * tile_flops / (peak * tile.fraction / sms));
  }
  return best;
}

CostModel::ComputeSeconds CostModel::compute_seconds(const Compute& work) const {
  ComputeSeconds result;
  const double hbm_rate =
      cluster_.gpu.hbm.count * (work.kind == ComputeKind::kPermute ? kPermuteFraction : kHbmFraction);
  result.memory = work.hbm.count / hbm_rate;
  double arithmetic = 0;
  switch (work.kind) {
    case ComputeKind::kNone: return result;
    case ComputeKind::kGemm:
    case ComputeKind::kGroupedGemm: arithmetic = gemm_seconds(work); break;
    case ComputeKind::kAttention:
    case ComputeKind::kAttentionBackward:
      arithmetic = work.flops.count / (cluster_.gpu.bf16_peak.count * attention_fraction(work));
      break;
    case ComputeKind::kElementwise:
    case ComputeKind::kPermute: break;
    case ComputeKind::kOptimizer:
      // The host updates offloaded states. All GPUs of a node share its memory, which moves the states at about the
      // rate of their PCIe links (two sockets of eight DDR5-4800 channels: 614 GB/s, 77 for each of 8 GPUs).
      if (plan_.optimizer_offload && cluster_.pcie.count > 0) arithmetic = work.hbm.count / cluster_.pcie.count;
      break;
  }
  result.total = std::max(arithmetic, result.memory) + kKernelSeconds * work.kernels;
  if (work.precision == Precision::kFp8) {
    // Operands are quantized first: bf16 read and fp8 written, one more kernel.
    const double quantize = static_cast<double>(work.m) * static_cast<double>(work.k) * 3 / hbm_rate;
    result.total += quantize + kKernelSeconds;
    result.memory += quantize;
  }
  result.total *= plan_.software.kernel_time_scale;
  return result;
}

// Bytes that stay in the node go over NVLink, the others over the NIC, both at once:
//   all-gather, reduce-scatter of S bytes over N nodes of r ranks:  NVLink S (r-1)/r,  NIC S/r (N-1)/N
// which is the paper's four-step synchronisation (arXiv 2505.11432, appendix A.1) in two halves, and NCCL's rings.
//   all-to-all of S bytes over g = N r ranks:                        NVLink S (r-1)/g,  NIC S (g-r)/g
CostModel::TransferSeconds CostModel::transfer_seconds(const Transfer& transfer) const {
  TransferSeconds result;
  const Group& group = groups_[static_cast<std::size_t>(transfer.group)];
  if (transfer.collective == Collective::kNone || group.size <= 1) return result;
  const auto size = static_cast<double>(group.size);
  const auto local = static_cast<double>(group.ranks_per_node);
  const auto nodes = static_cast<double>(group.nodes());
  const double payload = transfer.payload.count;
  double nvlink_bytes = payload * (local - 1) / local;
  double nic_bytes = payload / local * (nodes - 1) / nodes;
  double nvlink_fraction = kNvlinkFraction, steps = std::log2(size);
  switch (transfer.collective) {
    case Collective::kNone:
    case Collective::kAllGather:
    case Collective::kReduceScatter: break;
    case Collective::kAllReduce:
      nvlink_bytes *= 2;
      nic_bytes *= 2;
      steps *= 2;
      break;
    case Collective::kAllToAll:
      nvlink_bytes = payload * (local - 1) / size;
      nic_bytes = payload * (size - local) / size;
      nvlink_fraction *= kAllToAllFraction;
      steps = nodes;  // a message to every peer: posted one after the other
      break;
    case Collective::kSend:
      nvlink_bytes = nodes > 1 ? 0 : payload;
      nic_bytes = nodes > 1 ? payload : 0;
      break;
  }
  const double oversubscription = nodes > 1 ? cluster_.oversubscription : 1;
  result.nvlink = nvlink_bytes / (cluster_.nvlink.count * nvlink_fraction);
  result.nic = nic_bytes * oversubscription / (cluster_.nic_per_gpu().count * kNicFraction);
  const double hop = to_seconds(nodes > 1 ? cluster_.network_latency : cluster_.nvlink_latency);
  result.total = std::max(result.nvlink, result.nic) + kCollectiveSeconds + hop * steps;
  if (const auto measured = measured_seconds(transfer, group)) result.total = *measured;
  return result;
}

// Linear between the points of a measured table; beyond the last one at its slope.
std::optional<double> CostModel::measured_seconds(const Transfer& transfer, const Group& group) const {
  static constexpr const char* kNames[] = {"", "all_gather", "reduce_scatter", "all_to_all", "all_reduce", "send"};
  const char* name = kNames[static_cast<std::size_t>(transfer.collective)];
  for (const CollectiveTable& table : cluster_.collectives) {
    if (table.collective != name || table.ranks != group.size || table.ranks_per_node != group.ranks_per_node) continue;
    const auto& points = table.points;
    if (points.size() < 2) continue;
    auto upper = std::lower_bound(points.begin() + 1, points.end() - 1, transfer.payload,
                                  [](const CollectivePoint& point, Bytes size) { return point.size < size; });
    const CollectivePoint& low = *(upper - 1);
    const double low_seconds = to_seconds(low.time), high_seconds = to_seconds(upper->time);
    const double slope = (high_seconds - low_seconds) / (upper->size.count - low.size.count);
    return std::max(to_seconds(points.front().time), low_seconds + slope * (transfer.payload.count - low.size.count));
  }
  return std::nullopt;
}

OperatorCost CostModel::cost(const Operator& op) const {
  const ComputeSeconds compute = compute_seconds(op.compute);
  const TransferSeconds transfer = transfer_seconds(op.transfer);
  const bool computes = op.compute.kind != ComputeKind::kNone;
  const bool fused = computes && transfer.total > 0;
  // One half after the other is quicker where the overhead exceeds the whole of the shorter one.
  const double in_turn = compute.total + transfer.total;
  const double alone = fused ? std::min(in_turn, kFusedOverhead * std::max(compute.total, transfer.total)) : in_turn;

  OperatorCost result;
  result.alone = seconds(alone);
  result.compute = seconds(compute.total);
  result.transfer = seconds(transfer.total);
  const double sm_share = static_cast<double>(op.sms) / static_cast<double>(cluster_.gpu.sms);
  const bool memory_bound = op.compute.flops.count == 0;
  result.share[kSm] = !computes ? share(sm_share, 1) : memory_bound ? kElementwiseSmShare : 1.0F;
  result.share[kHbm] = share(compute.memory, alone);
  result.share[kNvlink] = share(transfer.nvlink, alone);
  result.share[kNic] = share(transfer.nic, alone);
  return result;
}

Block make_block(const std::vector<Operator>& operators, const CostModel& costs) {
  Block block;
  block.tasks.reserve(operators.size());
  block.waits.reserve(operators.size());
  for (const Operator& op : operators) {
    const OperatorCost cost = costs.cost(op);
    Task task;
    task.alone_ps = cost.alone.count();
    task.share = cost.share;
    task.holder = op.compute.kind == ComputeKind::kNone;
    task.stream = static_cast<std::uint8_t>(op.stream);
    block.tasks.push_back(task);
    block.waits.emplace_back(op.waits.begin(), op.waits.end());
  }
  return block;
}

}  // namespace msmoe::simulator
