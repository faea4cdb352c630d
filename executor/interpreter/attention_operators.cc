// Attention over the heads of this rank, and what brings heads to ranks: exchanges between token and head split
// (Ulysses), keys and values gathered from a ring (core/lowering/attention.h).
#include <optional>

#include "executor/interpreter/attention_heads.h"
#include "executor/interpreter/rearrange.h"

namespace msmoe::executor {
namespace {

using kernels::Element;
using kernels::View;

// ---- Ulysses

void exchange(const Call& call, const View& in, const View& out) {
  Communicator& group = call.group(GroupKind::kAttention);
  const std::vector<std::int64_t> rows(static_cast<std::size_t>(group.size()), call.rank.geometry.shard_tokens);
  call.rank.wire.all_to_all(group, in, rows, out, rows, call.scale_blocks());
}

// [shard_tokens, all heads] -> [context_tokens, heads here]
void to_heads(const Call& call, const HeadSplit& split, const View& in, const View& out) {
  const Scratch arranged(call, out.rows, out.columns);
  heads_to_ranks(call, split, in, arranged.view());
  exchange(call, arranged.view(), out);
}

void exchange_heads(const Call& call) {
  const HeadSizes s(call);
  const Heads in = outer_heads(call, call.read(0), s), out = inner_heads(call, call.written(0), s);
  to_heads(call, {s.heads, s.width, s.g.ulysses_ranks}, in.query, out.query);
  to_heads(call, {s.kv_heads, s.width, s.g.ulysses_ranks}, in.key, out.key);
  to_heads(call, {s.kv_heads, s.value_width, s.g.ulysses_ranks}, in.value, out.value);
}

void exchange_heads_back(const Call& call) {
  const HeadSizes s(call);
  Row out(call.written(0), call.rank.backend.element());
  for (const View& in : inner_heads(call, call.read(0), s).all()) exchange(call, in, out.take(in.rows, in.columns));
}

void exchange_output(const Call& call) {
  const HeadSizes s(call);
  const View in = call.matrix(call.read(0), s.g.query_rows, s.inner_heads * s.value_width);
  const Scratch arrived(call, in.rows, in.columns);
  exchange(call, in, arrived.view());
  heads_from_ranks(call, {s.heads, s.value_width, s.g.ulysses_ranks}, arrived.view(),
                   call.matrix(call.written(0), s.g.shard_tokens, s.heads * s.value_width));
}

void exchange_output_back(const Call& call) {
  const HeadSizes s(call);
  to_heads(call, {s.heads, s.value_width, s.g.ulysses_ranks},
           call.matrix(call.read(0), s.g.shard_tokens, s.heads * s.value_width),
           call.matrix(call.written(0), s.g.query_rows, s.inner_heads * s.value_width));
}

// ---- Attention, alone or in a ring

kernels::AttentionShape shape_of(const Call& call, const HeadSizes& s) {
  return {.heads = s.inner_heads,
          .kv_heads = s.inner_kv_heads,
          .width = s.width,
          .value_width = s.value_width,
          .sequence_length = s.g.slice_tokens,
          .scale = call.rank.numerics.attention_scale};
}

// Keys and values of all tokens of the micro-batch, in order, from the ranks of a ring; and which of them the queries
// of each slice see.
class Ring {
 public:
  Ring(const Call& call, const HeadSizes& s) : call_(call), s_(s), all_(s.g.sequences * s.g.seq_len) {
    std::vector<std::int32_t> arrival_of(static_cast<std::size_t>(all_)), token_of;
    for (int rank = 0; rank < s.g.ring_ranks; ++rank) {
      for (const std::int32_t id : s.g.ids_of_context(rank)) {
        arrival_of[static_cast<std::size_t>(id)] = static_cast<std::int32_t>(token_of.size());
        token_of.push_back(id);
      }
    }
    arrival_of_.emplace(call, arrival_of, 1, all_);
    token_of_.emplace(call, token_of, 1, all_);
    std::vector<std::int32_t> starts = {0}, begins, ends;
    for (std::int64_t sequence = 0; sequence < s.g.sequences; ++sequence) {
      for (const int slice : {s.g.ring_rank, 2 * s.g.ring_ranks - 1 - s.g.ring_rank}) {
        starts.push_back(starts.back() + static_cast<std::int32_t>(s.g.slice_tokens));
        begins.push_back(static_cast<std::int32_t>(sequence * s.g.seq_len));
        ends.push_back(begins.back() + static_cast<std::int32_t>((slice + 1) * s.g.slice_tokens));
      }
    }
    const auto slices = static_cast<std::int64_t>(begins.size());
    starts_.emplace(call, starts, 1, slices + 1);
    begins.insert(begins.end(), ends.begin(), ends.end());
    ranges_.emplace(call, begins, 2, slices);
  }

  std::int64_t tokens() const { return all_; }

  // The operation's keys and values, which have places already, become those of the whole ring.
  template <class Attends>
  void gather_into(Attends& attention, const Heads& mine) const {
    gather(mine.key, attention.key);
    gather(mine.value, attention.value);
    attention.starts = starts_->view();
    attention.key_ranges = ranges_->view();
  }
  void scatter_sums(const View& all, const View& mine) const {
    const Scratch arranged(call_, all_, mine.columns);
    reorder(all, token_of_->view(), arranged.view());
    raw().reduce_scatter(group(), arranged.view(), mine, rows(), call_.scale_blocks());
  }

 private:
  void gather(const View& mine, const View& all) const {
    const Scratch arrived(call_, all_, mine.columns);
    raw().all_gather(group(), mine, arrived.view(), rows(), call_.scale_blocks());
    reorder(arrived.view(), arrival_of_->view(), all);
  }
  Wire raw() const { return {WireFormat::kFp32, call_.rank.backend, call_.rank.pool}; }
  Communicator& group() const { return call_.group(s_.g.ring_group); }
  std::vector<std::int64_t> rows() const {
    return std::vector<std::int64_t>(static_cast<std::size_t>(s_.g.ring_ranks), s_.g.query_rows);
  }
  void reorder(const View& in, const View& source, const View& out) const {
    call_.run(kernels::GatherRows{.in = in, .source_of = source, .weights = {}, .out = out});
  }

  const Call& call_;
  const HeadSizes& s_;
  std::int64_t all_;
  std::optional<Indices> arrival_of_, token_of_, starts_, ranges_;
};

void attend(const Call& call) {
  const HeadSizes s(call);
  const Heads heads = inner_heads(call, call.read(0), s);
  kernels::Attention attention{.shape = shape_of(call, s),
                               .query = heads.query,
                               .key = heads.key,
                               .value = heads.value,
                               .out = call.matrix(call.written(0), s.g.query_rows, s.inner_heads * s.value_width),
                               .log_sum_exp = {call.written(1), s.inner_heads, s.g.query_rows, Element::kFp32},
                               .starts = {},
                               .key_ranges = {}};
  if (s.g.ring_ranks == 1) {
    call.run(attention);
    return;
  }
  const Ring ring(call, s);
  Row gathered(call.written(2), call.rank.backend.element());
  attention.key = gathered.take(ring.tokens(), heads.key.columns);
  attention.value = gathered.take(ring.tokens(), heads.value.columns);
  ring.gather_into(attention, heads);
  call.run(attention);
}

void attend_backward(const Call& call) {
  const HeadSizes s(call);
  const Heads heads = inner_heads(call, call.read(0), s), d = inner_heads(call, call.written(0), s);
  const auto out = [&](std::size_t which) {
    return call.matrix(call.read(which), s.g.query_rows, s.inner_heads * s.value_width);
  };
  kernels::AttentionBackward attention{.shape = shape_of(call, s),
                                       .query = heads.query,
                                       .key = heads.key,
                                       .value = heads.value,
                                       .out = out(1),
                                       .log_sum_exp = {call.read(2), s.inner_heads, s.g.query_rows, Element::kFp32},
                                       .out_gradient = out(3),
                                       .query_gradient = d.query,
                                       .key_gradient = d.key,
                                       .value_gradient = d.value,
                                       .starts = {},
                                       .key_ranges = {}};
  if (s.g.ring_ranks == 1) {
    call.run(attention);
    return;
  }
  const Ring ring(call, s);
  Row gathered(call.written(1), call.rank.backend.element());
  for (View* view : {&attention.key, &attention.value, &attention.key_gradient, &attention.value_gradient})
    *view = gathered.take(ring.tokens(), view->columns);
  ring.gather_into(attention, heads);
  call.run(attention);
  ring.scatter_sums(attention.key_gradient, d.key);
  ring.scatter_sums(attention.value_gradient, d.value);
}

}  // namespace

void add_attention_handlers(HandlerTable& table) {
  table["qkv_a2a"] = exchange_heads;
  table["d_qkv_a2a"] = exchange_heads_back;
  table["attention"] = attend;
  table["d_attention"] = attend_backward;
  table["attn_a2a"] = exchange_output;
  table["d_attn_a2a"] = exchange_output_back;
}

}  // namespace msmoe::executor
