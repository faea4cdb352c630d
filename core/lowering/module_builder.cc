#include "core/lowering/module_builder.h"

#include <algorithm>
#include <cassert>
#include <iterator>
#include <utility>

namespace msmoe {
namespace {

bool is_transfer_only(const Operator& op) {
  return op.compute.kind == ComputeKind::kNone && op.transfer.collective != Collective::kNone;
}

std::int64_t whole(double value) { return static_cast<std::int64_t>(value + 0.5); }

void add_once(std::vector<std::int16_t>& list, std::int16_t value) {
  if (std::find(list.begin(), list.end(), value) == list.end()) list.push_back(value);
}

}  // namespace

Bytes wire_bytes(const Transfer& transfer, std::int64_t group_size) {
  const double g = static_cast<double>(group_size);
  switch (transfer.collective) {
    case Collective::kNone: return {};
    case Collective::kSend: return transfer.payload;
    case Collective::kAllReduce: return transfer.payload * (2 * (g - 1) / g);
    case Collective::kAllGather:
    case Collective::kReduceScatter:
    case Collective::kAllToAll: return transfer.payload * ((g - 1) / g);
  }
  return {};
}

Compute gemm(double m, double n, double k, Precision precision) {
  Compute work{.kind = ComputeKind::kGemm, .m = whole(m), .n = whole(n), .k = whole(k)};
  const double operand_bytes = weight_bytes(precision);
  work.flops = {2 * m * n * k};
  work.hbm = {(m * k + k * n) * operand_bytes + m * n * element_bytes(precision)};
  work.precision = precision;
  return work;
}

Compute grouped_gemm(double groups, double rows, double n, double k, Precision precision) {
  Compute work = gemm(rows, n, k, precision);
  const double operand_bytes = weight_bytes(precision);
  work.kind = ComputeKind::kGroupedGemm;
  work.groups = whole(groups);
  work.hbm += Bytes{(groups - 1) * k * n * operand_bytes};
  return work;
}

Compute weight_gradient_gemm(double groups, double rows, double n, double k, double grad_bytes, Precision precision) {
  Compute work{.kind = groups > 1 ? ComputeKind::kGroupedGemm : ComputeKind::kGemm};
  const double operand_bytes = weight_bytes(precision);
  work.m = whole(groups * k);
  work.n = whole(n);
  work.k = std::max<std::int64_t>(1, whole(rows / groups));
  work.groups = whole(groups);
  work.flops = {2 * rows * n * k};
  work.hbm = {rows * (n + k) * operand_bytes + groups * k * n * 2 * grad_bytes};
  work.precision = precision;
  return work;
}

Compute elementwise(Bytes moved, int kernels) {
  Compute work{.kind = ComputeKind::kElementwise};
  work.hbm = moved;
  work.kernels = kernels;
  return work;
}

Compute permute(Bytes moved, int kernels) {
  Compute work = elementwise(moved, kernels);
  work.kind = ComputeKind::kPermute;
  return work;
}

Compute routing(Bytes moved, int kernels) {
  Compute work = elementwise(moved, kernels);
  work.kind = ComputeKind::kRouting;
  return work;
}

ModuleBuilder::ModuleBuilder(const Plan& plan, ModuleKind kind, int layer_kind) : plan_(plan) {
  module_.kind = kind;
  module_.layer_kind = layer_kind;
  // A layer's counts; planners lower thousands of layers.
  constexpr std::size_t kTensors = 96, kForward = 40, kBackward = 64;
  module_.tensors.reserve(kTensors);
  rebuilt_by_.reserve(kTensors);
  producer_of_.reserve(kTensors);
  rebuilt_.reserve(kTensors);
  module_.forward.reserve(kForward);
  producers_.reserve(kForward);
  module_.backward.reserve(kBackward);
}

TensorId ModuleBuilder::tensor(const char* name, Bytes size, Recompute rebuilt_by) {
  module_.tensors.push_back({.name = name, .size = size});
  rebuilt_by_.push_back(rebuilt_by);
  producer_of_.push_back(-1);
  rebuilt_.push_back(false);
  return static_cast<TensorId>(module_.tensors.size() - 1);
}

TensorId ModuleBuilder::emit(Operator op) {
  const TensorId first = op.writes.empty() ? TensorId{-1} : op.writes.front();
  op.pass = backward_ ? Pass::kBackwardInput : Pass::kForward;
  if (!backward_) {
    for (const TensorId id : op.writes)
      producer_of_[static_cast<std::size_t>(id)] = static_cast<std::int16_t>(producers_.size());
    producers_.push_back(op);
  }
  const bool communicates = is_transfer_only(op);
  operators().push_back(std::move(op));
  // The exchange is under way: fill its time.
  if (backward_ && communicates && !fusing_) flush_weight_gradients();
  return first;
}

TensorId ModuleBuilder::compute(const char* name, const Compute& work, std::vector<TensorId> reads,
                                std::vector<TensorId> writes) {
  Operator op{.name = name};
  op.compute = work;
  op.reads = std::move(reads);
  op.writes = std::move(writes);
  return emit(std::move(op));
}

TensorId ModuleBuilder::transfer(const char* name, const Transfer& wires, std::vector<TensorId> reads,
                                 std::vector<TensorId> writes) {
  Operator op{.name = name};
  op.transfer = wires;
  if (plan_.in_layer_overlap != InLayerOverlap::kNone) op.stream = Stream::kCommunication;
  op.sms = plan_.communication_sms;
  op.reads = std::move(reads);
  op.writes = std::move(writes);
  return emit(std::move(op));
}

TensorId ModuleBuilder::compute_and_transfer(const char* name, const Compute& work, const Transfer& wires,
                                             std::vector<TensorId> reads, std::vector<TensorId> writes) {
  Operator op{.name = name};
  op.compute = work;
  op.transfer = wires;
  op.reads = std::move(reads);
  op.writes = std::move(writes);
  return emit(std::move(op));
}

void ModuleBuilder::background_transfer(const char* name, Collective collective, GroupKind group, Bytes payload) {
  Operator op{.name = name, .pass = Pass::kSync, .stream = Stream::kData};
  op.transfer = {collective, group, payload};
  op.sms = plan_.communication_sms;
  operators().push_back(std::move(op));
}

void ModuleBuilder::weight_gradient(const char* name, const Compute& work, std::vector<TensorId> reads) {
  assert(backward_);
  Operator op{.name = name, .pass = Pass::kBackwardWeight};
  op.compute = work;
  op.reads = std::move(reads);
  delayed_.push_back(std::move(op));
  if (plan_.in_layer_overlap == InLayerOverlap::kNone) flush_weight_gradients();
}

void ModuleBuilder::flush_weight_gradients() {
  for (Operator& op : delayed_) module_.backward.push_back(std::move(op));
  delayed_.clear();
}

bool ModuleBuilder::discarded(TensorId id) const {
  return contains(plan_.recompute, rebuilt_by_[static_cast<std::size_t>(id)]);
}

void ModuleBuilder::need(TensorId id) {
  assert(backward_);
  const auto index = static_cast<std::size_t>(id);
  if (rebuilt_[index]) return;
  rebuilt_[index] = true;
  const int producer = producer_of_[index];
  if (producer < 0 || !discarded(id)) {
    // The module's own input is kept as well: whoever made it has passed it on.
    module_.tensors[index].kept = true;
    return;
  }
  Operator again = producers_[static_cast<std::size_t>(producer)];
  // What it wrote beside and backward has kept is there to read: nobody has to wait until it is written again.
  const auto is_kept = [&](TensorId written) { return module_.tensors[static_cast<std::size_t>(written)].kept; };
  std::copy_if(again.writes.begin(), again.writes.end(), std::back_inserter(again.reads), is_kept);
  std::erase_if(again.writes, is_kept);
  for (const TensorId written : again.writes) rebuilt_[static_cast<std::size_t>(written)] = true;
  for (const TensorId read : again.reads) need(read);
  again.pass = Pass::kRecompute;
  const bool communicates = is_transfer_only(again);
  module_.backward.push_back(std::move(again));
  if (communicates) flush_weight_gradients();
}

void ModuleBuilder::prefetch(TensorId id) {
  const auto index = static_cast<std::size_t>(id);
  const int producer = producer_of_[index];
  if (rebuilt_[index] || producer < 0 || !discarded(id)) return;
  const Operator& op = producers_[static_cast<std::size_t>(producer)];
  if (is_transfer_only(op)) {
    need(id);
  } else {
    const std::vector<TensorId> reads = op.reads;
    for (const TensorId read : reads) prefetch(read);
  }
}

void ModuleBuilder::replay_forward() {
  assert(backward_);
  for (const Operator& op : module_.forward) {
    if (op.pass == Pass::kSync || rebuilt_[static_cast<std::size_t>(op.writes.front())]) continue;
    for (const TensorId written : op.writes) rebuilt_[static_cast<std::size_t>(written)] = true;
    Operator& again = module_.backward.emplace_back(op);
    again.pass = Pass::kRecompute;
    for (Operator& part : again.parts) part.pass = Pass::kRecompute;
  }
}

ModuleBuilder::FusedScope::FusedScope(ModuleBuilder& builder, const char* name, bool wanted)
    : builder_(builder), name_(name), active_(wanted), begin_(builder.operators().size()) {
  builder_.fusing_ = active_;
}

ModuleBuilder::FusedScope::~FusedScope() {
  if (!active_) return;
  builder_.fusing_ = false;
  auto& list = builder_.operators();
  const auto first = list.begin() + static_cast<std::ptrdiff_t>(begin_);
  const bool has_gemm = std::any_of(first, list.end(), [](const Operator& op) { return op.compute.flops.count > 0; });
  const bool has_transfer = std::any_of(first, list.end(), [](const Operator& op) { return is_transfer_only(op); });
  if (!has_gemm || !has_transfer) return;
  // The GEMM and the transfer stay; what stood between them (RoPE, scatter, gather) moves into prologue and epilogue,
  // where it costs no pass over HBM of its own.
  Operator fused{.name = name_, .pass = first->pass};
  for (auto op = first; op != list.end(); ++op) {
    if (op->compute.flops.count > 0) fused.compute = op->compute;
    if (op->compute.flops.count == 0) fused.absorbed += op->compute.hbm;
    if (is_transfer_only(*op)) {
      fused.transfer = op->transfer;
      fused.transfer_leads = fused.compute.kind == ComputeKind::kNone;
      if (builder_.plan_.in_layer_overlap == InLayerOverlap::kDecomposed)
        fused.pieces = static_cast<std::int16_t>(builder_.plan_.attention_degree);
    }
    for (const TensorId id : op->reads) {
      const bool inside = std::find(fused.writes.begin(), fused.writes.end(), id) != fused.writes.end();
      if (!inside) add_once(fused.reads, id);
    }
    for (const TensorId id : op->writes) add_once(fused.writes, id);
  }
  fused.parts.assign(std::make_move_iterator(first), std::make_move_iterator(list.end()));
  list.erase(first, list.end());
  list.push_back(std::move(fused));
}

void ModuleBuilder::add_parameters(double dense, double expert) {
  module_.parameters.dense += dense;
  module_.parameters.expert += expert;
}

void ModuleBuilder::passes_forward(TensorId input, TensorId output) {
  module_.input = input;
  module_.output = output;
}

void ModuleBuilder::passes_backward(TensorId output_gradient, TensorId input_gradient) {
  module_.output_gradient = output_gradient;
  module_.input_gradient = input_gradient;
}

// An operator waits for the last writer before it of each tensor it reads.
void ModuleBuilder::derive_waits(std::vector<Operator>& pass) const {
  std::vector<std::int16_t> writer(module_.tensors.size(), -1);
  for (std::size_t op_idx = 0; op_idx < pass.size(); ++op_idx) {
    Operator& op = pass[op_idx];
    for (const TensorId id : op.reads) {
      const std::int16_t from = writer[static_cast<std::size_t>(id)];
      if (from >= 0) add_once(op.waits, from);
    }
    for (const TensorId id : op.writes) writer[static_cast<std::size_t>(id)] = static_cast<std::int16_t>(op_idx);
  }
}

// Peaks by a sweep over each pass in issue order: a tensor lives from its first writer to its last reader. Kept
// tensors are counted apart, and so is what passes between modules.
void ModuleBuilder::derive_lifetimes() {
  for (const Tensor& tensor : module_.tensors)
    if (tensor.kept) module_.kept += tensor.size;
  auto transient_peak = [&](const std::vector<Operator>& pass) {
    std::vector<std::int32_t> first(module_.tensors.size(), -1), last(module_.tensors.size(), -1);
    for (std::size_t op_idx = 0; op_idx < pass.size(); ++op_idx) {
      const auto now = static_cast<std::int32_t>(op_idx);
      for (const TensorId id : pass[op_idx].writes) {
        if (first[static_cast<std::size_t>(id)] < 0) first[static_cast<std::size_t>(id)] = now;
        last[static_cast<std::size_t>(id)] = now;
      }
      for (const TensorId id : pass[op_idx].reads) last[static_cast<std::size_t>(id)] = now;
    }
    std::vector<double> change(pass.size() + 1, 0);
    for (std::size_t id = 0; id < module_.tensors.size(); ++id) {
      const auto tensor_id = static_cast<TensorId>(id);
      const bool passes = tensor_id == module_.output || tensor_id == module_.input_gradient;
      if (first[id] < 0 || passes || module_.tensors[id].kept) continue;
      change[static_cast<std::size_t>(first[id])] += module_.tensors[id].size.count;
      change[static_cast<std::size_t>(last[id]) + 1] -= module_.tensors[id].size.count;
    }
    double live = 0, peak = 0;
    for (const double step : change) peak = std::max(peak, live += step);
    return Bytes{peak};
  };
  module_.forward_peak = transient_peak(module_.forward);
  module_.backward_peak = transient_peak(module_.backward);
}

Module ModuleBuilder::finish() {
  flush_weight_gradients();
  derive_waits(module_.forward);
  derive_waits(module_.backward);
  derive_lifetimes();
  return std::move(module_);
}

}  // namespace msmoe
