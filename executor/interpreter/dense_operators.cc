// Dense feed-forward layers, and the experts that all tokens share: SwiGLU between two products.
#include "executor/interpreter/call.h"

namespace msmoe::executor {
namespace {

using kernels::View;

struct Dense {
  explicit Dense(const Call& call)
      : part(call.layer_kind().feed_forward.is_moe() ? FeedForwardPart::kShared : FeedForwardPart::kDense),
        gate_up(call.rank.store.gate_up(call.module_idx, part)),
        down(call.rank.store.down(call.module_idx, part)),
        rows(call.rank.geometry.dense_rows),
        hidden(call.rank.geometry.hidden),
        width(down.columns) {}
  FeedForwardPart part;
  View gate_up, down;  // [2 f, h], [h, f]
  std::int64_t rows, hidden, width;
};

}  // namespace

void add_dense_handlers(HandlerTable& table) {
  table["dense_fc1"] = [](const Call& call) {
    const Dense dense(call);
    linear(call, call.matrix(call.read(0), dense.rows, dense.hidden), dense.gate_up,
           call.matrix(call.written(0), dense.rows, 2 * dense.width));
  };
  table["dense_act"] = [](const Call& call) {
    const Dense dense(call);
    call.run(kernels::SwiGlu{.gate_up = call.matrix(call.read(0), dense.rows, 2 * dense.width),
                             .gate_weights = {},
                             .out = call.matrix(call.written(0), dense.rows, dense.width)});
  };
  table["dense_fc2"] = [](const Call& call) {
    const Dense dense(call);
    linear(call, call.matrix(call.read(0), dense.rows, dense.width), dense.down,
           call.matrix(call.written(0), dense.rows, dense.hidden));
  };
  table["d_dense_fc2"] = [](const Call& call) {
    const Dense dense(call);
    linear_input_gradient(call, call.matrix(call.read(0), dense.rows, dense.hidden), dense.down,
                          call.matrix(call.written(0), dense.rows, dense.width));
  };
  table["w_dense_fc2"] = [](const Call& call) {
    const Dense dense(call);
    linear_weight_gradient(call, call.matrix(call.read(1), dense.rows, dense.hidden),
                           call.matrix(call.read(0), dense.rows, dense.width),
                           call.rank.store.down_gradient(call.module_idx, dense.part));
  };
  table["d_dense_act"] = [](const Call& call) {
    const Dense dense(call);
    call.run(kernels::SwiGluBackward{.gate_up = call.matrix(call.read(0), dense.rows, 2 * dense.width),
                                     .gate_weights = {},
                                     .out_gradient = call.matrix(call.read(1), dense.rows, dense.width),
                                     .gate_up_gradient = call.matrix(call.written(0), dense.rows, 2 * dense.width),
                                     .gate_weight_gradient = {},
                                     .out = {}});
  };
  table["d_dense_fc1"] = [](const Call& call) {
    const Dense dense(call);
    linear_input_gradient(call, call.matrix(call.read(0), dense.rows, 2 * dense.width), dense.gate_up,
                          call.matrix(call.written(0), dense.rows, dense.hidden));
  };
  table["w_dense_fc1"] = [](const Call& call) {
    const Dense dense(call);
    linear_weight_gradient(call, call.matrix(call.read(1), dense.rows, 2 * dense.width),
                           call.matrix(call.read(0), dense.rows, dense.hidden),
                           call.rank.store.gate_up_gradient(call.module_idx, dense.part));
  };
}

}  // namespace msmoe::executor
