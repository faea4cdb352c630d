// Embedding, output head and loss. Tensor ranks have a range of the vocabulary each.
#include <algorithm>
#include <cmath>
#include <limits>

#include "executor/interpreter/rearrange.h"

namespace msmoe::executor {
namespace {

using kernels::Element;
using kernels::View;

// The first word of this rank's range.
std::int64_t first_word(const Call& call, Part part) { return call.rank.store.first_row(call.module_idx, part); }

void embed(const Call& call) {
  const View table = call.weight(Part::kEmbedding);
  call.run(kernels::Embedding{.table = table,
                              .ids = call.batch.ids,
                              .out = call.matrix(call.written(0), call.rank.geometry.dense_rows, table.columns),
                              .first_id = first_word(call, Part::kEmbedding)});
}
void embed_backward(const Call& call) {
  const View table = call.gradient(Part::kEmbedding);
  call.run(kernels::EmbeddingBackward{
      .out_gradient = call.matrix(call.read(0), call.rank.geometry.dense_rows, table.columns),
      .ids = call.batch.ids,
      .table_gradient = table,
      .first_id = first_word(call, Part::kEmbedding)});
}

// ---- The head

// Tokens [first, first + rows) of the micro-batch.
struct Chunk {
  std::int64_t first = 0, rows = 0;
};

View part_of(const View& view, const Chunk& chunk) { return rows_of(view, chunk.first, chunk.rows); }
View targets_of(const Call& call, const Chunk& chunk) {
  return reshape(part_of(reshape(call.batch.targets, call.batch.targets.size(), 1), chunk), 1, chunk.rows);
}

struct Statistics {
  View maximum, exp_sum, target;
};
Statistics statistics_in(std::byte* data, std::int64_t rows) {
  Row row(data, Element::kFp32);
  const View maximum = row.take(1, rows), exp_sum = row.take(1, rows);
  return {maximum, exp_sum, row.take(1, rows)};
}

void from_host(const Call& call, const View& view, const std::vector<float>& values) {
  call.rank.backend.from_host(view.data, values.data(), view.bytes());
}

// The softmax over the words of all tensor ranks, and this rank's part of the loss: the tokens are on all of them.
void loss_of(const Call& call, const View& logits, const Chunk& chunk, const Statistics& out) {
  const bool has_words = logits.columns > 0;
  if (has_words) {
    call.run(kernels::CrossEntropy{.logits = logits,
                                   .targets = targets_of(call, chunk),
                                   .maximum = out.maximum,
                                   .exp_sum = out.exp_sum,
                                   .target_logit = out.target,
                                   .first_id = first_word(call, Part::kHead)});
  }
  const auto rows = static_cast<std::size_t>(chunk.rows);
  std::vector<float> maximum(rows, std::numeric_limits<float>::lowest()), exp_sum(rows, 0), target(rows, 0);
  if (has_words) {
    maximum = to_host<float>(call, out.maximum);
    exp_sum = to_host<float>(call, out.exp_sum);
    target = to_host<float>(call, out.target);
  }
  Communicator& tensor_ranks = call.group(GroupKind::kAttention);
  const bool is_split = call.rank.geometry.tensor_ranks > 1;
  if (is_split) {
    const std::vector<float> own = maximum;
    tensor_ranks.all_reduce(maximum.data(), rows, Reduction::kMaximum);
    for (std::size_t row = 0; row < rows; ++row) exp_sum[row] *= std::exp(own[row] - maximum[row]);
    tensor_ranks.all_reduce(exp_sum.data(), rows, Reduction::kSum);
    tensor_ranks.all_reduce(target.data(), rows, Reduction::kSum);
  }
  if (is_split) {
    from_host(call, out.maximum, maximum);
    from_host(call, out.exp_sum, exp_sum);
  }
  if (is_split && tensor_ranks.rank() > 0) return;
  const std::vector<std::int32_t> targets = to_host<std::int32_t>(call, targets_of(call, chunk));
  for (std::size_t row = 0; row < rows; ++row)
    if (targets[row] >= 0) call.rank.sums.loss += std::log(double{exp_sum[row]}) + maximum[row] - target[row];
}

void logits_gradient(const Call& call, const View& logits, const Chunk& chunk, const Statistics& statistics) {
  if (logits.columns == 0) return;
  call.run(kernels::CrossEntropyBackward{.targets = targets_of(call, chunk),
                                         .maximum = statistics.maximum,
                                         .exp_sum = statistics.exp_sum,
                                         .logits = logits,
                                         .first_id = first_word(call, Part::kHead),
                                         .scale = 1 / call.rank.losses.tokens});
}

bool is_chunked(const Call& call) { return call.rank.plan.loss == LossKind::kChunked; }

View head_input(const Call& call, std::byte* data) {
  return call.matrix(data, call.rank.geometry.dense_rows, call.rank.geometry.hidden);
}

// Without chunks the head's operators stand for themselves.
void head(const Call& call) {
  if (is_chunked(call)) return;
  const View weight = call.weight(Part::kHead);
  linear(call, head_input(call, call.read(0)), weight,
         call.matrix(call.written(0), call.rank.geometry.dense_rows, weight.rows));
}
void loss(const Call& call) {
  if (is_chunked(call)) return;
  const std::int64_t rows = call.rank.geometry.dense_rows;
  // The fp32 copy that is read first is of no use here: the loss reads the logits themselves.
  loss_of(call, call.matrix(call.read(1), rows, call.weight(Part::kHead).rows), {0, rows},
          statistics_in(call.written(0), rows));
}
void loss_backward(const Call& call) {
  if (is_chunked(call)) return;
  const std::int64_t rows = call.rank.geometry.dense_rows;
  const View logits = call.matrix(call.read(0), rows, call.weight(Part::kHead).rows);
  const View d_logits = call.matrix(call.written(0), rows, logits.columns);
  call.copy(d_logits, logits);
  logits_gradient(call, d_logits, {0, rows}, statistics_in(call.read(1), rows));
}

// In chunks, the input gradient's operator runs all of them: logits are made, turned into their gradient and used up,
// one chunk after another, so that only one is ever there.
void head_chunks(const Call& call) {
  const View weight = call.weight(Part::kHead), gradient = call.gradient(Part::kHead);
  const View input = head_input(call, call.read(1)), d_input = head_input(call, call.written(0));
  const std::int64_t most = std::min(input.rows, kLossChunkTokens);
  for (std::int64_t first = 0; first < input.rows; first += most) {
    const Chunk chunk{first, std::min(most, input.rows - first)};
    const View logits = call.matrix(call.read(0), chunk.rows, weight.rows);
    const Scratch buffer(call, 3, chunk.rows);
    const Statistics statistics = statistics_in(static_cast<std::byte*>(buffer.view().data), chunk.rows);
    const View x = part_of(input, chunk);
    if (weight.rows > 0) linear(call, x, weight, logits);
    loss_of(call, logits, chunk, statistics);
    logits_gradient(call, logits, chunk, statistics);
    linear_input_gradient(call, logits, weight, part_of(d_input, chunk));
    if (weight.rows > 0) linear_weight_gradient(call, logits, x, gradient);
  }
}
void head_input_gradient(const Call& call) {
  if (is_chunked(call)) {
    head_chunks(call);
    return;
  }
  const View weight = call.weight(Part::kHead);
  linear_input_gradient(call, call.matrix(call.read(0), call.rank.geometry.dense_rows, weight.rows), weight,
                        head_input(call, call.written(0)));
}
void head_weight_gradient(const Call& call) {
  if (is_chunked(call)) return;
  const View gradient = call.gradient(Part::kHead);
  linear_weight_gradient(call, call.matrix(call.read(1), call.rank.geometry.dense_rows, gradient.rows),
                         head_input(call, call.read(0)), gradient);
}

}  // namespace

void evaluate_head(const Call& call, std::byte* data) {
  const View weight = call.weight(Part::kHead), input = head_input(call, data);
  const std::int64_t most = std::min(input.rows, kLossChunkTokens);
  for (std::int64_t first = 0; first < input.rows; first += most) {
    const Chunk chunk{first, std::min(most, input.rows - first)};
    const Scratch logits(call, chunk.rows, weight.rows), buffer(call, 3, chunk.rows);
    if (weight.rows > 0) linear(call, part_of(input, chunk), weight, logits.view());
    loss_of(call, logits.view(), chunk, statistics_in(static_cast<std::byte*>(buffer.view().data), chunk.rows));
  }
}

void add_vocabulary_handlers(HandlerTable& table) {
  table["embedding"] = embed;
  table["w_embedding"] = embed_backward;
  table["head"] = head;
  table["loss"] = loss;
  table["d_loss"] = loss_backward;
  table["d_head"] = head_input_gradient;
  table["w_head"] = head_weight_gradient;
}

}  // namespace msmoe::executor
