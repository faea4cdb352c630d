#include "executor/interpreter/stage_runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <utility>

#include "core/lowering/merge.h"

namespace msmoe::executor {
namespace {

constexpr int kNowhere = -1;  // in a chunk: of what is between chunks

const char* part_name(PassPart part) {
  static constexpr std::array kNames = {"forward", "backward", "backward input", "backward weight"};
  return kNames[static_cast<std::size_t>(part)];
}

}  // namespace

std::string Position::text() const {
  const char* operator_name = name.load();
  if (operator_name == nullptr) return "no operator yet";
  const int at = layer.load();
  return fmt::format("operator {}{}, micro-batch {}", operator_name, at >= 0 ? fmt::format(" of layer {}", at) : "",
                     micro_batch.load());
}

StageRunner::StageRunner(RankContext& rank, const Program& program, int stage, Position& position)
    : rank_(rank),
      program_(program),
      stage_(program.stages[static_cast<std::size_t>(stage)]),
      stage_idx_(stage),
      shape_(pipeline_shape(program.plan)),
      position_(position),
      activations_(program, stage_, rank.backend),
      pipeline_send_(lower_pipeline_send(rank.model, program.plan)),
      mailbox_(activations_.passed_bytes(), rank.backend, rank.communicators(GroupKind::kPipeline)) {
  std::size_t modules = 0;
  for (const Chunk& chunk : stage_.chunks) {
    first_module_.push_back(modules);
    modules += chunk.modules.size();
  }
  assert(modules == rank.store.modules().size());
  for (const Module& module : program.modules) {
    input_.push_back(input_gradients(module));
    weights_.push_back(weight_gradients(module));
  }
}

void StageRunner::run(const std::vector<MicroBatch>& batches) {
  batches_ = &batches;
  for (const Slot& slot : stage_.slots) {
    if (slot.runs_forward()) forward(slot);
    const int chunk = slot.gradient_chunk(), micro_batch = slot.gradient_micro_batch();
    switch (slot.kind) {
      case SlotKind::kForward: break;
      case SlotKind::kBackward:
      case SlotKind::kMerged: backward(chunk, micro_batch, PassPart::kBackward); break;
      case SlotKind::kBackwardInput: backward(chunk, micro_batch, PassPart::kInputGradients); break;
      case SlotKind::kBackwardWeight: backward(chunk, micro_batch, PassPart::kWeightGradients); break;
    }
    if (slot.makes_weight_gradients()) {
      activations_.meter().end({chunk, micro_batch});
      routing_.erase({chunk, micro_batch});
    }
  }
  mailbox_.finish();
}

void StageRunner::evaluate(const std::vector<MicroBatch>& batches) {
  batches_ = &batches;
  for (const Slot& slot : stage_.slots) {
    if (!slot.runs_forward()) continue;
    forward(slot);
    if (shape_.virtual_stage(stage_idx_, slot.chunk) + 1 == shape_.virtual_stages() &&
        program_.plan.loss == LossKind::kChunked)
      evaluate_loss(slot.chunk, slot.micro_batch);
    activations_.meter().end({slot.chunk, slot.micro_batch});
    routing_.erase({slot.chunk, slot.micro_batch});
  }
  mailbox_.finish();
}

// In chunks the head's products and the loss are part of backward.
void StageRunner::evaluate_loss(int chunk_idx, int micro_batch) {
  const std::size_t position = chunk(chunk_idx).modules.size() - 1;
  const Module& head = module(chunk_idx, position);
  const auto op = std::find_if(head.backward.begin(), head.backward.end(),
                               [](const Operator& candidate) { return std::string_view(candidate.name) == "head"; });
  assert(op != head.backward.end());
  const std::vector<std::byte*> places = activations_.places({chunk_idx, micro_batch}, position, PassPart::kForward);
  const std::size_t idx = module_idx(chunk_idx, position);
  rank_.store.begin_use(idx);
  evaluate_head(call_of({chunk_idx, micro_batch, PassPart::kForward}, position, places),
                places[static_cast<std::size_t>(op->reads.front())]);
  rank_.store.end_use(idx);
}

void StageRunner::forward(const Slot& slot) {
  const int chunk_idx = slot.chunk, micro_batch = slot.micro_batch;
  const Pair pair{chunk_idx, micro_batch};
  const std::size_t count = chunk(chunk_idx).modules.size();
  routing_[pair].resize(count);

  const auto v = static_cast<int>(shape_.virtual_stage(stage_idx_, chunk_idx));
  const auto input_of = [&](std::size_t position) {
    return activations_.kept(pair, position, module(chunk_idx, position).input);
  };
  if (v > 0) {
    mailbox_.receive(static_cast<int>(shape_.stage_of(v - 1, micro_batch)), {v, micro_batch, 0}, input_of(0));
    activations_.meter().receive_input(pair);
  }
  for (std::size_t position = 0; position < count; ++position) {
    const Module& module = this->module(chunk_idx, position);
    std::vector<std::byte*> places = activations_.places(pair, position, PassPart::kForward);
    // A module writes its output where the next one keeps its input.
    if (module.output >= 0)
      places[static_cast<std::size_t>(module.output)] =
          position + 1 < count ? input_of(position + 1) : activations_.between(0);
    run_module({chunk_idx, micro_batch, PassPart::kForward}, position, module.forward, std::move(places));
  }
  if (v + 1 < shape_.virtual_stages())
    send({chunk_idx, micro_batch, PassPart::kForward}, v + 1, activations_.between(0));
  activations_.meter().leave();
}

void StageRunner::backward(int chunk_idx, int micro_batch, PassPart part) {
  const Pair pair{chunk_idx, micro_batch};
  const std::size_t count = chunk(chunk_idx).modules.size();
  const auto v = static_cast<int>(shape_.virtual_stage(stage_idx_, chunk_idx));
  const bool passes_gradients = part != PassPart::kWeightGradients;
  int incoming = 0;
  if (passes_gradients && v + 1 < shape_.virtual_stages()) {
    mailbox_.receive(static_cast<int>(shape_.stage_of(v + 1, micro_batch)), {v, micro_batch, 1},
                     activations_.between(incoming));
    activations_.meter().receive_gradient(pair);
  }
  for (std::size_t position = count; position-- > 0;) {
    const Module& module = this->module(chunk_idx, position);
    const auto which = static_cast<std::size_t>(chunk(chunk_idx).modules[position]);
    std::vector<std::byte*> places = activations_.places(pair, position, part);
    if (passes_gradients) {
      if (module.output_gradient >= 0)
        places[static_cast<std::size_t>(module.output_gradient)] = activations_.between(incoming);
      if (module.input_gradient >= 0)
        places[static_cast<std::size_t>(module.input_gradient)] = activations_.between(1 - incoming);
      // Forward that runs again writes its output, which nobody reads, before the gradient.
      if (module.output >= 0) places[static_cast<std::size_t>(module.output)] = activations_.between(1 - incoming);
    }
    const std::vector<Operator>& operators = part == PassPart::kBackward         ? module.backward
                                             : part == PassPart::kInputGradients ? input_[which]
                                                                                 : weights_[which];
    run_module({chunk_idx, micro_batch, part}, position, operators, std::move(places));
    if (part == PassPart::kInputGradients && module.output_gradient >= 0) {
      std::byte* place = activations_.kept(pair, position, module.output_gradient);
      if (place != nullptr)
        rank_.backend.copy(place, activations_.between(incoming), activations_.passed_bytes(), Stream::kCompute);
    }
    if (passes_gradients && module.input_gradient >= 0) incoming = 1 - incoming;
  }
  if (passes_gradients && v > 0) send({chunk_idx, micro_batch, part}, v - 1, activations_.between(incoming));
  activations_.meter().leave();
}

// Of a pass over one virtual stage, what the next one gets.
void StageRunner::send(const Pass& pass, int to, const std::byte* data) {
  const bool is_gradient = pass.part != PassPart::kForward;
  const double begin = time_observer_ ? seconds_now() : 0;
  mailbox_.send(static_cast<int>(shape_.stage_of(to, pass.micro_batch)), {to, pass.micro_batch, is_gradient}, data);
  const bool leaves = shape_.sends(is_gradient ? to : to - 1);
  if (time_observer_ && leaves) tell_time(pipeline_send_, pass, kNowhere, begin);
}

// Around whichever operator runs.
Call StageRunner::call_of(const Pass& pass, std::size_t position, const std::vector<std::byte*>& places) {
  static const Operator kNone;
  return {.op = kNone,
          .module = module(pass.chunk, position),
          .module_idx = module_idx(pass.chunk, position),
          .places = places,
          .batch = (*batches_)[static_cast<std::size_t>(pass.micro_batch)],
          .routing = routing_.at({pass.chunk, pass.micro_batch})[position],
          .rank = rank_};
}

void StageRunner::run_module(const Pass& pass, std::size_t position, const std::vector<Operator>& operators,
                             std::vector<std::byte*> places) {
  const std::size_t idx = module_idx(pass.chunk, position);
  const ModuleId& id = rank_.store.modules()[idx];
  position_.layer = id.layer;
  position_.micro_batch = pass.micro_batch;
  if (scribbles_) activations_.scribble();
  rank_.store.begin_use(idx);
  if (pass.part != PassPart::kForward) rank_.store.begin_gradients(idx);
  const Call call = call_of(pass, position, places);
  std::vector<BufferPool::Buffer> stashes;
  std::vector<bool> written(places.size(), false);
  ArenaMeter& meter = activations_.meter();
  meter.begin_pass({pass.chunk, pass.micro_batch}, position, pass.part, operators);
  for (const Operator& op : operators) {
    // The store moves what ZeRO shards, around each pass of a module.
    if (op.pass == msmoe::Pass::kSync) continue;
    const double begin = time_observer_ ? seconds_now() : 0;
    meter.begin(op);
    if (scribbles_) scribble(op, call, written);
    run_operator(op, call, places, stashes);
    meter.end(op);
    if (time_observer_) tell_time(op, pass, static_cast<int>(position), begin);
  }
  meter.end_pass();
  if (pass.part != PassPart::kForward) rank_.store.end_gradients(idx);
  rank_.store.end_use(idx);
}

// NaNs in whatever this operator is the first of its pass to write.
void StageRunner::scribble(const Operator& op, const Call& call, std::vector<bool>& written) {
  for (const std::int16_t id : op.writes) {
    const auto idx = static_cast<std::size_t>(id);
    if (written[idx] || call.places[idx] == nullptr) continue;
    written[idx] = true;
    const std::vector<std::byte> ones(static_cast<std::size_t>(call.module.tensors[idx].size.count), std::byte{0xFF});
    rank_.backend.from_host(call.places[idx], ones.data(), ones.size());
  }
}

void StageRunner::tell_time(const Operator& op, const Pass& pass, int position, double begin) const {
  time_observer_({.name = op.name,
                  .pass = part_name(pass.part),
                  .stream = op.stream,
                  .micro_batch = pass.micro_batch,
                  .chunk = pass.chunk,
                  .module = position,
                  .layer = position == kNowhere ? -1 : position_.layer.load(),
                  .bytes = op.transfer.payload.count,
                  .flops = op.compute.flops.count,
                  .begin_seconds = begin,
                  .end_seconds = seconds_now()});
}

void StageRunner::run_operator(const Operator& op, const Call& around, std::vector<std::byte*>& places,
                               std::vector<BufferPool::Buffer>& stashes) {
  if (!op.parts.empty()) {
    for (const Operator& part : op.parts) run_operator(part, around, places, stashes);
    return;
  }
  if (std::string_view(op.name) == "quantize") {
    // Whoever exchanges a tensor converts it, too, after its place has been given to others: a copy waits.
    const auto from = static_cast<std::size_t>(op.reads.front());
    const auto bytes = static_cast<std::size_t>(around.module.tensors[from].size.count);
    stashes.push_back(rank_.pool.acquire(bytes));
    rank_.backend.copy(stashes.back().get(), places[from], bytes, op.stream);
    places[static_cast<std::size_t>(op.writes.front())] = stashes.back().get();
    return;
  }
  position_.name = op.name;
  const Call call{.op = op,
                  .module = around.module,
                  .module_idx = around.module_idx,
                  .places = around.places,
                  .batch = around.batch,
                  .routing = around.routing,
                  .rank = around.rank};
  handler_of(op)(call);
  if (observer_)
    observer_({.call = call, .module = rank_.store.modules()[around.module_idx], .micro_batch = position_.micro_batch});
}

}  // namespace msmoe::executor
