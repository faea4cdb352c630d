// Call: one operator of a program as it runs on this rank: its tensors in memory, and what it works with.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/program.h"
#include "executor/communication/communicator.h"
#include "executor/interpreter/geometry.h"
#include "executor/interpreter/wire.h"
#include "executor/model_numerics.h"
#include "executor/parameters/parameter_store.h"

namespace msmoe::executor {

// What is added up over the micro-batches of a step.
struct StepSums {
  double loss = 0;  // sum over this rank's tokens, of the last stage
  // Means over sequences and tokens of the whole batch, of this rank's share: they add up over ranks.
  double auxiliary = 0, z = 0;
  std::int64_t dropped = 0;  // copies of this rank's tokens that found no room
  // By module: how often each expert was chosen by this rank's tokens.
  std::vector<std::vector<std::int64_t>> expert_counts;
};

struct LossSettings {
  double tokens = 1;            // of the whole batch
  double sequences = 1;         // likewise
  double auxiliary = 0, z = 0;  // coefficients
};

// All of this outlives the calls.
struct RankContext {
  const Model& model;
  const Plan& plan;
  const ModelNumerics& numerics;
  const Geometry& geometry;
  Backend& backend;
  ParameterStore& store;
  std::function<Communicator&(GroupKind)> communicators;
  Wire& wire;
  BufferPool& pool;
  kernels::View positions;  // int32 [1, dense_rows]
  LossSettings losses;
  std::int64_t row_capacity = 0;  // rows that experts have room for
  std::int64_t most_copies = 0;   // that this rank may send to one expert rank
  StepSums sums;
};

// Of this rank's tokens.
struct MicroBatch {
  kernels::View ids, targets;  // int32 [1, dense_rows]
};

// How many rows go where, of one module and micro-batch.
struct Routing {
  std::vector<std::int64_t> rows_to, rows_from;  // by expert rank
  std::vector<std::int64_t> rows_of_tensor;      // by expert-tensor rank: those that it received
  std::int64_t received = 0;                     // by this rank from all expert ranks
  std::int64_t rows = 0;                         // that its experts work on
};

struct Call {
  const Operator& op;
  const Module& module;
  std::size_t module_idx = 0;             // in the store
  const std::vector<std::byte*>& places;  // by tensor
  const MicroBatch& batch;
  Routing& routing;
  RankContext& rank;

  std::byte* read(std::size_t which) const { return places[static_cast<std::size_t>(op.reads[which])]; }
  std::byte* written(std::size_t which) const { return places[static_cast<std::size_t>(op.writes[which])]; }
  // What an operator writes beside its result; where it runs again and this was kept, it reads it last instead.
  std::byte* beside() const { return op.writes.size() > 1 ? written(1) : read(op.reads.size() - 1); }
  bool is_backward() const { return op.pass == Pass::kBackwardInput || op.pass == Pass::kBackwardWeight; }
  kernels::ScaleBlocks scale_blocks() const {
    return is_backward() ? kernels::ScaleBlocks::kChannel : kernels::ScaleBlocks::kToken;
  }

  void run(const kernels::Operation& operation) const { rank.backend.run(operation, op.stream); }
  void copy(const kernels::View& to, const kernels::View& from) const {
    rank.backend.copy(to.data, from.data, to.bytes(), op.stream);
  }
  kernels::View matrix(std::byte* data, std::int64_t rows, std::int64_t columns) const {
    return {data, rows, columns, rank.backend.element()};
  }
  const LayerKind& layer_kind() const { return rank.model.kinds[static_cast<std::size_t>(module.layer_kind)]; }
  Communicator& group(GroupKind kind) const { return rank.communicators(kind); }

  kernels::View weight(Part part) const { return rank.store.weight(module_idx, part); }
  kernels::View gradient(Part part) const { return rank.store.gradient(module_idx, part); }
};

// Matrices that lie one after another.
class Row {
 public:
  Row(std::byte* data, kernels::Element element) : next_(data), element_(element) {}
  kernels::View take(std::int64_t rows, std::int64_t columns) { return take(rows, columns, element_); }
  kernels::View take(std::int64_t rows, std::int64_t columns, kernels::Element element) {
    const kernels::View view{next_, rows, columns, element};
    next_ += view.bytes();
    return view;
  }

 private:
  std::byte* next_;
  kernels::Element element_;
};

// Rows [first, first + rows) of a matrix, and the first columns of a single row.
inline kernels::View rows_of(const kernels::View& view, std::int64_t first, std::int64_t rows) {
  const std::size_t row_bytes = static_cast<std::size_t>(view.columns) * size_of(view.element);
  return {static_cast<std::byte*>(view.data) + static_cast<std::size_t>(first) * row_bytes, rows, view.columns,
          view.element};
}
inline kernels::View first_columns(const kernels::View& row, std::int64_t columns) {
  return {row.data, 1, columns, row.element};
}

// A copy on the host, once everything before this operator's place in its stream is done.
template <class T>
std::vector<T> to_host(const Call& call, const kernels::View& view) {
  std::vector<T> values(static_cast<std::size_t>(view.size()));
  call.rank.backend.finish(call.op.stream);
  call.rank.backend.to_host(values.data(), view.data, view.bytes());
  return values;
}

inline kernels::View reshape(const kernels::View& view, std::int64_t rows, std::int64_t columns) {
  return {view.data, rows, columns, view.element};
}

// y = x w^T, its two gradients: dx (+)= dy w, dw += dy^T x.
void linear(const Call& call, const kernels::View& x, const kernels::View& w, const kernels::View& y);
void linear_input_gradient(const Call& call, const kernels::View& dy, const kernels::View& w, const kernels::View& dx,
                           bool accumulate = false);
void linear_weight_gradient(const Call& call, const kernels::View& dy, const kernels::View& x, const kernels::View& dw);

using Handler = void (*)(const Call&);
using HandlerTable = std::unordered_map<std::string_view, Handler>;
void add_layer_handlers(HandlerTable& table);
void add_head_handlers(HandlerTable& table);
void add_latent_handlers(HandlerTable& table);
void add_attention_handlers(HandlerTable& table);
void add_dense_handlers(HandlerTable& table);
void add_router_handlers(HandlerTable& table);
void add_expert_handlers(HandlerTable& table);
void add_vocabulary_handlers(HandlerTable& table);

// The loss alone, of the head whose input lies there; only one chunk of logits is ever there.
void evaluate_head(const Call& call, std::byte* input);

// How the operator of this name runs. An operator that nobody runs is a bug.
Handler handler_of(const Operator& op);

}  // namespace msmoe::executor
