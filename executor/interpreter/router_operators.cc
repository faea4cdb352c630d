// The router: logits, choice, losses that balance the experts, and their gradients. All of it fp32.
//
// The auxiliary loss is that of each sequence by itself (DeepSeek-V3, arXiv 2412.19437, equations 17-20), so that it
// does not depend on how sequences are put into micro-batches and on ranks:
//
//   L = coefficient / sequences * sum over sequences and layers of  E / (k s) sum_e counts_e mean over tokens of p_e
//
// The z loss (arXiv 2202.08906) is a mean over the tokens of the whole batch.
#include <algorithm>
#include <numeric>

#include "executor/interpreter/rearrange.h"
#include "executor/interpreter/routes.h"

namespace msmoe::executor {
namespace {

using kernels::Element;
using kernels::View;

void logits(const Call& call) {
  const Mixture m(call);
  linear(call, call.matrix(call.read(0), m.tokens, m.hidden), call.weight(Part::kRouter),
         {call.written(0), m.tokens, m.experts, Element::kFp32});
}
void logits_input_gradient(const Call& call) {
  const Mixture m(call);
  linear_input_gradient(call, {call.read(0), m.tokens, m.experts, Element::kFp32}, call.weight(Part::kRouter),
                        call.matrix(call.written(0), m.tokens, m.hidden));
}
void logits_weight_gradient(const Call& call) {
  const Mixture m(call);
  linear_weight_gradient(call, {call.read(1), m.tokens, m.experts, Element::kFp32},
                         call.matrix(call.read(0), m.tokens, m.hidden), call.gradient(Part::kRouter));
}

bool shares_sequences(const Call& call) { return call.rank.plan.attention_ranks() > 1; }

// Sums over all ranks that have tokens of the same sequences.
void sum_over_sequence_ranks(const Call& call, std::vector<float>& values) {
  for (const GroupKind kind : {GroupKind::kAttention, GroupKind::kContext}) {
    Communicator& group = call.group(kind);
    if (group.size() > 1) group.all_reduce(values.data(), values.size(), Reduction::kSum);
  }
}

// Counts of whole sequences in place of those of this rank's tokens; and this rank's part of both losses.
void balance_losses(const Call& call, const Mixture& m, const Routes& routes, const View& scores,
                    const std::vector<float>& z_losses) {
  const Geometry& g = call.rank.geometry;
  const LossSettings& losses = call.rank.losses;
  std::vector<std::int32_t> counts = to_host<std::int32_t>(call, routes.counts);
  if (shares_sequences(call)) {
    std::vector<float> sums(counts.begin(), counts.end());
    sum_over_sequence_ranks(call, sums);
    std::transform(sums.begin(), sums.end(), counts.begin(), [](float sum) { return static_cast<std::int32_t>(sum); });
    call.rank.backend.from_host(routes.counts.data, counts.data(), routes.counts.bytes());
  }
  if (call.op.pass == Pass::kRecompute) return;
  const std::vector<float> probabilities = to_host<float>(call, scores);
  const auto experts = static_cast<std::size_t>(m.experts);
  for (std::size_t segment_idx = 0; segment_idx < g.segments.size(); ++segment_idx) {
    const Geometry::Segment& segment = g.segments[segment_idx];
    double balance = 0;
    for (std::int64_t row = segment.first_row; row < segment.first_row + segment.rows; ++row) {
      const float* mine = probabilities.data() + static_cast<std::size_t>(row) * experts;
      const double sum = std::accumulate(mine, mine + experts, 0.0);
      for (std::size_t e = 0; e < experts; ++e)
        balance += counts[static_cast<std::size_t>(segment.sequence) * experts + e] * mine[e] / sum;
    }
    const auto length = static_cast<double>(g.seq_len);
    call.rank.sums.auxiliary +=
        balance * static_cast<double>(m.experts) / (static_cast<double>(m.top_k) * length * length * losses.sequences);
    call.rank.sums.z += z_losses[segment_idx] * static_cast<double>(segment.rows) / losses.tokens;
  }
}

// How often each expert was chosen, whether there was room or not.
void count_choices(const Call& call, const Mixture& m, const Routes& routes) {
  const std::vector<std::int32_t> chosen = to_host<std::int32_t>(call, routes.counts);
  std::vector<std::int64_t>& counts = call.rank.sums.expert_counts[call.module_idx];
  counts.resize(static_cast<std::size_t>(m.experts));
  for (std::size_t i = 0; i < chosen.size(); ++i) counts[i % counts.size()] += chosen[i];
}

void choose(const Call& call) {
  const Mixture m(call);
  Row row(call.written(1), Element::kInt32);
  const Routes routes = routes_in(call, row, m.tokens);
  const View logits{call.read(0), m.tokens, m.experts, Element::kFp32};
  const View scores{call.written(0), m.tokens, m.experts, Element::kFp32};
  call.run(kernels::Zero{routes.counts});
  std::vector<float> z_losses;
  const BufferPool::Buffer losses = call.rank.pool.acquire(2 * sizeof(float));
  for (const Geometry::Segment& segment : call.rank.geometry.segments) {
    const auto part = [&](const View& view) { return rows_of(view, segment.first_row, segment.rows); };
    const View both{losses.get(), 1, 2, Element::kFp32};
    call.run(kernels::Router{.shape = router_shape(m.feed_forward, call.rank.numerics),
                             .logits = part(logits),
                             .bias = call.rank.store.router_bias(call.module_idx),
                             .scores = part(scores),
                             .experts = part(routes.experts),
                             .gates = part(routes.gates),
                             .counts = rows_of(routes.counts, segment.sequence, 1),
                             .losses = both});
    z_losses.push_back(to_host<float>(call, both)[1]);
  }
  const LimitedChoice choice(call, routes);
  if (call.op.pass == Pass::kForward) call.rank.sums.dropped += choice.dropped();
  call.run(kernels::SortByExpert{.experts = choice.experts(),
                                 .offsets = routes.offsets,
                                 .row_of = routes.row_of,
                                 .assignment_of = routes.copy_of,
                                 .first_expert = 0});
  if (call.op.pass == Pass::kForward) count_choices(call, m, routes);
  balance_losses(call, m, routes, scores, z_losses);
}

// ---- Backward

// From the experts' rows to the copies of this rank's tokens, the way the rows' gradients went.
void return_gate_gradients(const Call& call, const Mixture& m, const Routes& routes, const Arrivals& arrivals,
                           const GateGradients& d) {
  const Routing& routing = call.routing;
  if (m.gathers) {
    call.run(kernels::GatherScalars{
        .in = first_columns(d.of_rows, routing.rows), .row_of = arrivals.gathered.row_of, .out = d.gathered});
    if (!m.exchanges()) {
      call.copy(d.of_copies, d.gathered);
      return;
    }
    Communicator& group = call.group(GroupKind::kExpertAll);
    const std::vector<std::size_t> counts(static_cast<std::size_t>(group.size()),
                                          static_cast<std::size_t>(m.tokens * m.top_k));
    call.rank.backend.finish(call.op.stream);
    group.reduce_scatter(d.gathered.as<float>(), d.of_copies.as<float>(), counts);
    return;
  }
  View mine = first_columns(d.of_rows, routing.rows);
  if (m.exchanges()) {
    const View arrived = first_columns(d.of_arrived, routing.rows);
    call.run(
        kernels::GatherScalars{.in = mine, .row_of = first_columns(arrivals.arrives_at, routing.rows), .out = arrived});
    call.rank.backend.finish(call.op.stream);
    mine = arrived;
  }
  if (m.tensor_ranks > 1) {
    const std::vector<std::size_t> counts(routing.rows_of_tensor.begin(), routing.rows_of_tensor.end());
    const View own = first_columns(d.of_rows, routing.received);
    call.group(GroupKind::kExpertTensor).reduce_scatter(mine.as<float>(), own.as<float>(), counts);
    mine = own;
  }
  if (m.expert_ranks > 1) {
    std::vector<std::size_t> to, from;
    for (const std::int64_t rows : routing.rows_from) to.push_back(static_cast<std::size_t>(rows) * sizeof(float));
    for (const std::int64_t rows : routing.rows_to) from.push_back(static_cast<std::size_t>(rows) * sizeof(float));
    call.group(GroupKind::kExpert).all_to_all(mine.data, to, d.sent.data, from);
    mine = d.sent;
  }
  call.run(kernels::GatherScalars{.in = mine, .row_of = routes.row_of, .out = d.of_copies});
}

void choose_backward(const Call& call) {
  const Mixture m(call);
  const View logits{call.read(0), m.tokens, m.experts, Element::kFp32};
  const View scores{call.read(1), m.tokens, m.experts, Element::kFp32};
  const View d_logits{call.written(0), m.tokens, m.experts, Element::kFp32};
  Row row(call.read(2), Element::kInt32);
  const Routes routes = routes_in(call, row, m.tokens);
  const GateGradients d_gates = gate_gradients_in(call, call.read(3));
  return_gate_gradients(call, m, routes, arrivals_in(call, call.read(4)), d_gates);
  const Geometry& g = call.rank.geometry;
  const LossSettings& losses = call.rank.losses;
  for (const Geometry::Segment& segment : g.segments) {
    const auto part = [&](const View& view) { return rows_of(view, segment.first_row, segment.rows); };
    // The kernel takes its rows for the whole sequence, and for all tokens.
    const auto rows = static_cast<double>(segment.rows);
    const double share = rows / static_cast<double>(g.seq_len);
    call.run(kernels::RouterBackward{.shape = router_shape(m.feed_forward, call.rank.numerics),
                                     .logits = part(logits),
                                     .scores = part(scores),
                                     .experts = part(routes.experts),
                                     .counts = rows_of(routes.counts, segment.sequence, 1),
                                     .gate_gradient = part(d_gates.of_copies),
                                     .logit_gradient = part(d_logits),
                                     .aux_scale = losses.auxiliary / losses.sequences * share * share,
                                     .z_scale = losses.z * rows / losses.tokens});
  }
}

}  // namespace

void add_router_handlers(HandlerTable& table) {
  table["router"] = logits;
  table["d_router"] = logits_input_gradient;
  table["w_router"] = logits_weight_gradient;
  table["topk"] = choose;
  table["d_topk"] = choose_backward;
}

}  // namespace msmoe::executor
