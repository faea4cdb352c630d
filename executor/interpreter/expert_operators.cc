// Routed experts: tokens' copies to the ranks of their experts, SwiGLU between two grouped products, and back
// (core/lowering/feed_forward.h). Gradients of the result travel as tokens do, those of the tokens as results do.
#include <algorithm>
#include <numeric>

#include "executor/interpreter/rearrange.h"
#include "executor/interpreter/routes.h"

namespace msmoe::executor {
namespace {

using kernels::Element;
using kernels::View;

std::int64_t sum(const std::vector<std::int64_t>& rows) {
  return std::accumulate(rows.begin(), rows.end(), std::int64_t{0});
}
std::vector<std::size_t> in_bytes(const std::vector<std::int64_t>& counts, std::size_t each) {
  std::vector<std::size_t> bytes;
  for (const std::int64_t count : counts) bytes.push_back(static_cast<std::size_t>(count) * each);
  return bytes;
}
Routes own_routes(const Call& call, std::byte* data) {
  Row row(data, Element::kInt32);
  return routes_in(call, row, call.rank.geometry.shard_tokens);
}

// Whoever learns what has arrived writes it down; all others read it.
bool learns(const Call& call) { return call.op.writes.size() > 1; }
Arrivals arrivals_of(const Call& call) { return arrivals_in(call, call.beside()); }

// ---- What a rank learns of the rows that it gets

void check_capacity(const Mixture& m, const Routing& routing) {
  if (routing.rows > m.capacity)
    throw std::logic_error("more rows than experts have room for");  // capacity is of the worst routing
}

// Rows by source, then by expert, are to lie by expert.
void sort_arrivals(const Call& call, const Mixture& m, const Arrivals& arrivals) {
  check_capacity(m, call.routing);
  const std::int64_t rows = call.routing.rows;
  call.run(kernels::SortArrivals{.counts = arrivals.counts,
                                 .offsets = arrivals.offsets,
                                 .source_of = first_columns(arrivals.source_of, rows),
                                 .arrives_at = first_columns(arrivals.arrives_at, rows)});
  call.run(kernels::GatherScalars{.in = first_columns(arrivals.arrived_gates, rows),
                                  .row_of = first_columns(arrivals.source_of, rows),
                                  .out = first_columns(arrivals.gates, rows)});
}

void learn_own(const Call& call, const Routes& routes, const Arrivals& arrivals) {
  Routing& routing = call.routing;
  routing.rows = routing.received = to_host<std::int32_t>(call, routes.offsets).back();
  call.copy(arrivals.offsets, routes.offsets);
  call.run(kernels::GatherScalars{
      .in = routes.copies(routes.gates), .row_of = routes.copy_of, .out = first_columns(arrivals.gates, routing.rows)});
}

void learn_gathered(const Call& call, const Mixture& m, const Routes& routes, const Arrivals& arrivals) {
  const Routes& all = arrivals.gathered;
  const LimitedChoice choice(call, routes);
  if (m.exchanges()) {
    Communicator& group = call.group(GroupKind::kExpertAll);
    const std::vector<std::size_t> bytes(static_cast<std::size_t>(group.size()), routes.experts.bytes());
    call.rank.backend.finish(call.op.stream);
    group.all_gather(choice.experts().data, all.experts.data, bytes);
    group.all_gather(routes.gates.data, all.gates.data, bytes);
  } else {
    call.copy(all.experts, choice.experts());
    call.copy(all.gates, routes.gates);
  }
  call.run(kernels::SortByExpert{.experts = all.experts,
                                 .offsets = arrivals.offsets,
                                 .row_of = all.row_of,
                                 .assignment_of = all.copy_of,
                                 .first_expert = static_cast<int>(m.first_expert)});
  call.routing.rows = to_host<std::int32_t>(call, arrivals.offsets).back();
  check_capacity(m, call.routing);
  call.run(kernels::GatherScalars{.in = all.copies(all.gates),
                                  .row_of = first_columns(all.copy_of, call.routing.rows),
                                  .out = first_columns(arrivals.gates, call.routing.rows)});
}

// Counts and gates go ahead of the rows.
void learn_from_expert_ranks(const Call& call, const Mixture& m, const Routes& routes, const Arrivals& arrivals) {
  Communicator& group = call.group(GroupKind::kExpert);
  Routing& routing = call.routing;
  const std::vector<std::int32_t> offsets = to_host<std::int32_t>(call, routes.offsets);
  std::vector<std::int32_t> sent(static_cast<std::size_t>(m.experts)), arrived(sent.size());
  for (std::size_t e = 0; e < sent.size(); ++e) sent[e] = offsets[e + 1] - offsets[e];
  const std::vector<std::size_t> bytes(static_cast<std::size_t>(group.size()),
                                       static_cast<std::size_t>(m.experts_here) * sizeof(std::int32_t));
  group.all_to_all(sent.data(), bytes, arrived.data(), bytes);
  const auto by_rank = [&](const std::vector<std::int32_t>& counts) {
    std::vector<std::int64_t> rows;
    for (auto begin = counts.begin(); begin != counts.end(); begin += m.experts_here)
      rows.push_back(std::accumulate(begin, begin + m.experts_here, std::int64_t{0}));
    return rows;
  };
  routing.rows_to = by_rank(sent);
  routing.rows_from = by_rank(arrived);
  routing.received = routing.rows = sum(routing.rows_from);
  check_capacity(m, routing);
  call.rank.backend.from_host(arrivals.counts.data, arrived.data(), arrived.size() * sizeof(std::int32_t));

  const std::int64_t copies = m.tokens * m.top_k;
  const BufferPool::Buffer buffer = call.rank.pool.acquire(static_cast<std::size_t>(copies) * sizeof(float));
  const View sorted{buffer.get(), 1, copies, Element::kFp32};
  call.run(kernels::GatherScalars{.in = routes.copies(routes.gates), .row_of = routes.copy_of, .out = sorted});
  call.rank.backend.finish(call.op.stream);
  group.all_to_all(sorted.data, in_bytes(routing.rows_to, sizeof(float)), arrivals.arrived_gates.data,
                   in_bytes(routing.rows_from, sizeof(float)));
  if (m.tensor_ranks == 1) sort_arrivals(call, m, arrivals);
}

void learn_from_tensor_ranks(const Call& call, const Mixture& m, const Routes& routes, const Arrivals& arrivals) {
  Communicator& group = call.group(GroupKind::kExpertTensor);
  Routing& routing = call.routing;
  const std::int64_t counts_each = m.expert_ranks * m.experts_here;
  std::vector<std::int32_t> own(static_cast<std::size_t>(counts_each));
  std::vector<float> gates;
  if (m.expert_ranks == 1) {
    const std::vector<std::int32_t> offsets = to_host<std::int32_t>(call, routes.offsets);
    for (std::size_t e = 0; e < own.size(); ++e) own[e] = offsets[e + 1] - offsets[e];
    routing.received = offsets.back();
    call.run(kernels::GatherScalars{.in = routes.copies(routes.gates),
                                    .row_of = first_columns(routes.copy_of, routing.received),
                                    .out = first_columns(arrivals.arrived_gates, routing.received)});
  } else {
    call.rank.backend.to_host(own.data(), arrivals.counts.data, own.size() * sizeof(std::int32_t));
  }
  std::vector<std::int32_t> all(own.size() * static_cast<std::size_t>(m.tensor_ranks));
  const std::vector<std::size_t> bytes(static_cast<std::size_t>(m.tensor_ranks), own.size() * sizeof(std::int32_t));
  group.all_gather(own.data(), all.data(), bytes);
  call.rank.backend.from_host(arrivals.counts.data, all.data(), all.size() * sizeof(std::int32_t));
  routing.rows_of_tensor.clear();
  for (auto begin = all.begin(); begin != all.end(); begin += counts_each)
    routing.rows_of_tensor.push_back(std::accumulate(begin, begin + counts_each, std::int64_t{0}));
  routing.rows = sum(routing.rows_of_tensor);
  check_capacity(m, routing);

  gates.resize(static_cast<std::size_t>(routing.received));
  call.rank.backend.finish(call.op.stream);
  call.rank.backend.to_host(gates.data(), arrivals.arrived_gates.data, gates.size() * sizeof(float));
  group.all_gather(gates.data(), arrivals.arrived_gates.data, in_bytes(routing.rows_of_tensor, sizeof(float)));
  sort_arrivals(call, m, arrivals);
}

// ---- In: permute, exchange, exchange between tensor ranks, sort

// reads: x, routes [, arrivals]. Each token once for each of its copies, by expert.
void copy_tokens(const Call& call) {
  const Mixture m(call);
  const Routes routes = own_routes(call, call.read(1));
  if (learns(call)) learn_own(call, routes, arrivals_of(call));
  call.run(kernels::GatherRows{.in = call.matrix(call.read(0), m.tokens, m.hidden),
                               .source_of = routes.copy_of,
                               .weights = {},
                               .out = call.matrix(call.written(0), m.tokens * m.top_k, m.hidden),
                               .fan_out = static_cast<int>(m.top_k)});
}

void dispatch(const Call& call) {
  const Mixture m(call);
  const Routes routes = own_routes(call, call.read(1));
  if (m.gathers) {
    if (learns(call)) learn_gathered(call, m, routes, arrivals_of(call));
    Communicator& group = call.group(GroupKind::kExpertAll);
    const std::vector<std::int64_t> rows(static_cast<std::size_t>(group.size()), m.tokens);
    call.rank.wire.all_gather(group, call.matrix(call.read(0), m.tokens, m.hidden),
                              call.matrix(call.written(0), m.gathered_tokens, m.hidden), rows, call.scale_blocks());
    return;
  }
  if (learns(call)) learn_from_expert_ranks(call, m, routes, arrivals_of(call));
  call.rank.wire.all_to_all(call.group(GroupKind::kExpert), call.matrix(call.read(0), m.tokens * m.top_k, m.hidden),
                            call.routing.rows_to, call.matrix(call.written(0), call.routing.received, m.hidden),
                            call.routing.rows_from, call.scale_blocks());
}

void gather_tensor_ranks(const Call& call) {
  const Mixture m(call);
  if (learns(call)) learn_from_tensor_ranks(call, m, own_routes(call, call.read(1)), arrivals_of(call));
  call.rank.wire.all_gather(
      call.group(GroupKind::kExpertTensor), call.matrix(call.read(0), call.routing.received, m.hidden),
      call.matrix(call.written(0), call.routing.rows, m.hidden), call.routing.rows_of_tensor, call.scale_blocks());
}

void sort_rows(const Call& call) {
  const Mixture m(call);
  const Arrivals arrivals = arrivals_of(call);
  if (m.gathers) {
    if (learns(call)) learn_gathered(call, m, own_routes(call, call.read(1)), arrivals);
    call.run(kernels::GatherRows{.in = call.matrix(call.read(0), m.gathered_tokens, m.hidden),
                                 .source_of = first_columns(arrivals.gathered.copy_of, call.routing.rows),
                                 .weights = {},
                                 .out = call.matrix(call.written(0), call.routing.rows, m.hidden),
                                 .fan_out = static_cast<int>(m.top_k)});
    return;
  }
  call.run(kernels::GatherRows{.in = call.matrix(call.read(0), call.routing.rows, m.hidden),
                               .source_of = first_columns(arrivals.source_of, call.routing.rows),
                               .weights = {},
                               .out = call.matrix(call.written(0), call.routing.rows, m.hidden)});
}

// ---- Out: unsort, sum of tensor ranks, exchange, sum of copies. reads: x, routes, arrivals [, the shared expert's]

void unsort_rows(const Call& call) {
  const Mixture m(call);
  const Arrivals arrivals = arrivals_in(call, call.read(2));
  const View rows = call.matrix(call.read(0), call.routing.rows, m.hidden);
  if (!m.gathers) {
    call.run(kernels::GatherRows{.in = rows,
                                 .source_of = first_columns(arrivals.arrives_at, call.routing.rows),
                                 .weights = {},
                                 .out = call.matrix(call.written(0), call.routing.rows, m.hidden)});
    return;
  }
  const View out = call.matrix(call.written(0), m.gathered_tokens, m.hidden);
  call.run(kernels::CombineRows{.in = rows, .row_of = arrivals.gathered.row_of, .weights = {}, .out = out});
  if (call.op.reads.size() > 3)
    call.run(kernels::Add{.a = out, .b = call.matrix(call.read(3), out.rows, out.columns), .out = out});
}

void sum_tensor_ranks(const Call& call) {
  const Mixture m(call);
  call.rank.wire.reduce_scatter(
      call.group(GroupKind::kExpertTensor), call.matrix(call.read(0), call.routing.rows, m.hidden),
      call.matrix(call.written(0), call.routing.received, m.hidden), call.routing.rows_of_tensor, call.scale_blocks());
}

void combine(const Call& call) {
  const Mixture m(call);
  if (m.gathers) {
    Communicator& group = call.group(GroupKind::kExpertAll);
    const std::vector<std::int64_t> rows(static_cast<std::size_t>(group.size()), m.tokens);
    call.rank.wire.reduce_scatter(group, call.matrix(call.read(0), m.gathered_tokens, m.hidden),
                                  call.matrix(call.written(0), m.tokens, m.hidden), rows, call.scale_blocks());
    return;
  }
  call.rank.wire.all_to_all(call.group(GroupKind::kExpert), call.matrix(call.read(0), call.routing.received, m.hidden),
                            call.routing.rows_from, call.matrix(call.written(0), m.tokens * m.top_k, m.hidden),
                            call.routing.rows_to, call.scale_blocks());
}

void sum_copies(const Call& call) {
  const Mixture m(call);
  const Routes routes = own_routes(call, call.read(1));
  call.run(kernels::CombineRows{.in = call.matrix(call.read(0), m.tokens * m.top_k, m.hidden),
                                .row_of = routes.row_of,
                                .weights = {},
                                .out = call.matrix(call.written(0), m.tokens, m.hidden)});
}

// ---- The experts. reads: rows [, what else], and arrivals

using kernels::GroupedPass;

void grouped(const Call& call, GroupedPass pass, const View& rows, const View& weights, const View& out,
             std::size_t arrivals) {
  call.run(kernels::GroupedGemm{.pass = pass,
                                .rows = rows,
                                .weights = weights,
                                .out = out,
                                .offsets = arrivals_in(call, call.read(arrivals)).offsets,
                                .accumulate = pass == GroupedPass::kWeightGradient});
}

View gate_up(const Call& call) { return call.rank.store.gate_up(call.module_idx, FeedForwardPart::kExperts); }
View down(const Call& call) { return call.rank.store.down(call.module_idx, FeedForwardPart::kExperts); }

void fc1(const Call& call) {
  const Mixture m(call);
  grouped(call, GroupedPass::kForward, call.matrix(call.read(0), call.routing.rows, m.hidden), gate_up(call),
          call.matrix(call.written(0), call.routing.rows, 2 * m.width), 1);
}
void fc2(const Call& call) {
  const Mixture m(call);
  grouped(call, GroupedPass::kForward, call.matrix(call.read(0), call.routing.rows, m.width), down(call),
          call.matrix(call.written(0), call.routing.rows, m.hidden), 1);
}
void fc1_input_gradient(const Call& call) {
  const Mixture m(call);
  grouped(call, GroupedPass::kInputGradient, call.matrix(call.read(0), call.routing.rows, 2 * m.width), gate_up(call),
          call.matrix(call.written(0), call.routing.rows, m.hidden), 1);
}
void fc2_input_gradient(const Call& call) {
  const Mixture m(call);
  grouped(call, GroupedPass::kInputGradient, call.matrix(call.read(0), call.routing.rows, m.hidden), down(call),
          call.matrix(call.written(0), call.routing.rows, m.width), 1);
}
void fc1_weight_gradient(const Call& call) {
  const Mixture m(call);
  grouped(call, GroupedPass::kWeightGradient, call.matrix(call.read(1), call.routing.rows, 2 * m.width),
          call.matrix(call.read(0), call.routing.rows, m.hidden),
          call.rank.store.gate_up_gradient(call.module_idx, FeedForwardPart::kExperts), 2);
}
void fc2_weight_gradient(const Call& call) {
  const Mixture m(call);
  grouped(call, GroupedPass::kWeightGradient, call.matrix(call.read(1), call.routing.rows, m.hidden),
          call.matrix(call.read(0), call.routing.rows, m.width),
          call.rank.store.down_gradient(call.module_idx, FeedForwardPart::kExperts), 2);
}

void activate(const Call& call) {
  const Mixture m(call);
  call.run(kernels::SwiGlu{.gate_up = call.matrix(call.read(0), call.routing.rows, 2 * m.width),
                           .gate_weights = first_columns(arrivals_in(call, call.read(1)).gates, call.routing.rows),
                           .out = call.matrix(call.written(0), call.routing.rows, m.width)});
}
void activate_backward(const Call& call) {
  const Mixture m(call);
  call.run(kernels::SwiGluBackward{
      .gate_up = call.matrix(call.read(0), call.routing.rows, 2 * m.width),
      .gate_weights = first_columns(arrivals_in(call, call.read(1)).gates, call.routing.rows),
      .out_gradient = call.matrix(call.read(2), call.routing.rows, m.width),
      .gate_up_gradient = call.matrix(call.written(0), call.routing.rows, 2 * m.width),
      .gate_weight_gradient = first_columns(gate_gradients_in(call, call.written(1)).of_rows, call.routing.rows),
      .out = {}});
}

}  // namespace

void add_expert_handlers(HandlerTable& table) {
  table["permute"] = table["d_unpermute"] = copy_tokens;
  table["dispatch"] = table["d_combine"] = dispatch;
  table["dispatch_etp"] = table["d_combine_etp"] = gather_tensor_ranks;
  table["scatter"] = table["d_gather"] = sort_rows;
  table["gather"] = table["d_scatter"] = unsort_rows;
  table["combine_etp"] = table["d_dispatch_etp"] = sum_tensor_ranks;
  table["combine"] = table["d_dispatch"] = combine;
  table["unpermute"] = table["d_permute"] = sum_copies;
  table["fc1"] = fc1;
  table["d_fc1"] = fc1_input_gradient;
  table["w_fc1"] = fc1_weight_gradient;
  table["fc2"] = fc2;
  table["d_fc2"] = fc2_input_gradient;
  table["w_fc2"] = fc2_weight_gradient;
  table["swiglu"] = activate;
  table["d_swiglu"] = activate_backward;
}

}  // namespace msmoe::executor
