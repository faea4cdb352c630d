#include "executor/interpreter/routes.h"

#include <algorithm>
#include <vector>

namespace msmoe::executor {

using kernels::Element;

Mixture::Mixture(const Call& call)
    : feed_forward(call.layer_kind().feed_forward),
      gathers(call.rank.plan.dispatch == Dispatch::kAllGather),
      hidden(call.rank.geometry.hidden),
      tokens(call.rank.geometry.shard_tokens),
      experts(feed_forward.experts),
      experts_here(experts / call.rank.plan.ep),
      first_expert(experts_here * call.group(GroupKind::kExpert).rank()),
      top_k(feed_forward.top_k),
      width(feed_forward.width / call.rank.plan.etp),
      capacity(call.rank.row_capacity),
      gathered_tokens(tokens * call.rank.plan.expert_ranks()),
      expert_ranks(static_cast<int>(call.rank.plan.ep)),
      tensor_ranks(static_cast<int>(call.rank.plan.etp)) {}

Routes routes_in(const Call& call, Row& row, std::int64_t tokens) {
  const Mixture m(call);
  Routes routes;
  routes.experts = row.take(tokens, m.top_k, Element::kInt32);
  routes.gates = row.take(tokens, m.top_k, Element::kFp32);
  routes.row_of = row.take(tokens, m.top_k, Element::kInt32);
  routes.copy_of = row.take(1, tokens * m.top_k, Element::kInt32);
  routes.counts = row.take(call.rank.geometry.sequences, m.experts, Element::kInt32);
  routes.offsets = row.take(1, m.experts + 1, Element::kInt32);
  return routes;
}

LimitedChoice::LimitedChoice(const Call& call, const Routes& routes) : experts_(routes.experts) {
  if (call.rank.plan.capacity <= 0) return;
  const Mixture m(call);
  std::vector<std::int32_t> experts = to_host<std::int32_t>(call, routes.experts);
  const std::vector<float> gates = to_host<float>(call, routes.gates);
  std::vector<std::vector<std::size_t>> copies(static_cast<std::size_t>(m.expert_ranks));  // by expert rank
  for (std::size_t copy = 0; copy < experts.size(); ++copy)
    copies[static_cast<std::size_t>(experts[copy] / m.experts_here)].push_back(copy);
  for (std::vector<std::size_t>& sent : copies) {
    const auto most = static_cast<std::size_t>(call.rank.most_copies);
    if (sent.size() <= most) continue;
    std::stable_sort(sent.begin(), sent.end(), [&](std::size_t a, std::size_t b) { return gates[a] > gates[b]; });
    for (std::size_t i = most; i < sent.size(); ++i) experts[sent[i]] = -1;
    dropped_ += static_cast<std::int64_t>(sent.size() - most);
  }
  buffer_ = call.rank.pool.acquire(routes.experts.bytes());
  call.rank.backend.from_host(buffer_.get(), experts.data(), routes.experts.bytes());
  experts_.data = buffer_.get();
}

Arrivals arrivals_in(const Call& call, std::byte* data) {
  const Mixture m(call);
  Row row(data, Element::kInt32);
  Arrivals arrivals;
  arrivals.gates = row.take(1, m.capacity, Element::kFp32);
  arrivals.arrived_gates = row.take(1, m.capacity, Element::kFp32);
  arrivals.source_of = row.take(1, m.capacity);
  arrivals.arrives_at = row.take(1, m.capacity);
  arrivals.counts = row.take(m.sources(), m.experts_here);
  arrivals.offsets = row.take(1, m.experts_here + 1);
  if (m.gathers) arrivals.gathered = routes_in(call, row, m.gathered_tokens);
  return arrivals;
}

GateGradients gate_gradients_in(const Call& call, std::byte* data) {
  const Mixture m(call);
  Row row(data, Element::kFp32);
  GateGradients gradients;
  gradients.of_rows = row.take(1, m.capacity);
  gradients.of_arrived = row.take(1, m.capacity);
  if (m.gathers) gradients.gathered = row.take(m.gathered_tokens, m.top_k);
  gradients.sent = row.take(1, m.tokens * m.top_k);
  gradients.of_copies = row.take(m.tokens, m.top_k);
  return gradients;
}

}  // namespace msmoe::executor
