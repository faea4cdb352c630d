// Latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1): compression, norms of what is compressed, expansion.
#include "executor/interpreter/attention_heads.h"

namespace msmoe::executor {
namespace {

using kernels::Element;
using kernels::View;

// The parts of what is compressed with their weights, or gradients of these.
struct Compression {
  View part, matrix;
};
std::vector<Compression> compressions(const Latent& latent, const HeadSizes& s, const View& query_down,
                                      const View& kv_down) {
  std::vector<Compression> parts;
  if (s.query_rank > 0) parts.push_back({latent.query, query_down});
  parts.push_back({latent.kv, rows_of(kv_down, 0, s.kv_rank)});
  parts.push_back({latent.rotary, rows_of(kv_down, s.kv_rank, s.rotary)});
  return parts;
}
std::vector<Compression> weighted(const Call& call, const Latent& latent, const HeadSizes& s) {
  return compressions(latent, s, s.query_rank > 0 ? call.weight(Part::kQueryDown) : View{}, call.weight(Part::kKvDown));
}

void compress(const Call& call) {
  const HeadSizes s(call);
  const View x = call.matrix(call.read(0), s.g.shard_tokens, s.g.hidden);
  for (const Compression& c : weighted(call, latent_in(call, call.written(0), s.g.shard_tokens, s), s))
    linear(call, x, c.matrix, c.part);
}
void compress_input_gradient(const Call& call) {
  const HeadSizes s(call);
  const View dx = call.matrix(call.written(0), s.g.shard_tokens, s.g.hidden);
  bool accumulate = false;
  for (const Compression& c : weighted(call, latent_in(call, call.read(0), s.g.shard_tokens, s), s)) {
    linear_input_gradient(call, c.part, c.matrix, dx, accumulate);
    accumulate = true;
  }
}
void compress_weight_gradient(const Call& call) {
  const HeadSizes s(call);
  const View x = call.matrix(call.read(0), s.g.shard_tokens, s.g.hidden);
  const Latent d = latent_in(call, call.read(1), s.g.shard_tokens, s);
  for (const Compression& c :
       compressions(d, s, s.query_rank > 0 ? call.gradient(Part::kQueryDown) : View{}, call.gradient(Part::kKvDown)))
    linear_weight_gradient(call, c.part, x, c.matrix);
}

void latent_norm(const Call& call) {
  const HeadSizes s(call);
  const std::int64_t rows = s.g.shard_tokens;
  const Latent in = latent_in(call, call.read(0), rows, s), out = latent_in(call, call.written(0), rows, s);
  Row statistics(call.beside(), Element::kFp32);
  const auto norm = [&](Part part, const View& from, const View& to) {
    call.run(kernels::RmsNorm{.input = from,
                              .residual = {},
                              .weight = call.weight(part),
                              .out = to,
                              .sum = {},
                              .inverse_rms = statistics.take(1, rows),
                              .epsilon = kLatentNormEpsilon});
  };
  if (s.query_rank > 0) norm(Part::kQueryDownNorm, in.query, out.query);
  norm(Part::kKvDownNorm, in.kv, out.kv);
  call.copy(out.rotary, in.rotary);
}

void latent_norm_backward(const Call& call) {
  const HeadSizes s(call);
  const std::int64_t rows = s.g.shard_tokens;
  const Latent in = latent_in(call, call.read(0), rows, s), d = latent_in(call, call.read(2), rows, s),
               out = latent_in(call, call.written(0), rows, s);
  Row statistics(call.read(1), Element::kFp32);
  const auto norm = [&](Part part, const View& input, const View& gradient, const View& to) {
    call.run(kernels::RmsNormBackward{.input = input,
                                      .weight = call.weight(part),
                                      .inverse_rms = statistics.take(1, rows),
                                      .out_gradient = gradient,
                                      .residual_gradient = {},
                                      .input_gradient = to,
                                      .weight_gradient = call.gradient(part)});
  };
  if (s.query_rank > 0) norm(Part::kQueryDownNorm, in.query, d.query, out.query);
  norm(Part::kKvDownNorm, in.kv, d.kv, out.kv);
  call.copy(out.rotary, d.rotary);
}

// What queries are expanded from: their compressed form, or the tokens.
Part query_part(const HeadSizes& s) { return s.query_rank > 0 ? Part::kQueryUp : Part::kQuery; }
View query_source(const Call& call, std::byte* data, const HeadSizes& s) {
  return s.query_rank > 0 ? latent_in(call, data, s.g.dense_rows, s).query
                          : call.matrix(data, s.g.dense_rows, s.g.hidden);
}

void expand_queries(const Call& call) {
  const HeadSizes s(call);
  linear(call, query_source(call, call.read(0), s), call.weight(query_part(s)),
         call.matrix(call.written(0), s.g.dense_rows, s.heads * s.width));
}
void expand_queries_input_gradient(const Call& call) {
  const HeadSizes s(call);
  linear_input_gradient(call, expanded_in(call, call.read(0), s).queries, call.weight(query_part(s)),
                        query_source(call, call.written(0), s));
}
void expand_queries_weight_gradient(const Call& call) {
  const HeadSizes s(call);
  linear_weight_gradient(call, expanded_in(call, call.read(1), s).queries, query_source(call, call.read(0), s),
                         call.gradient(query_part(s)));
}
void expand_keys_and_values(const Call& call) {
  const HeadSizes s(call);
  linear(call, latent_in(call, call.read(0), s.g.dense_rows, s).kv, call.weight(Part::kKvUp),
         call.matrix(call.written(0), s.g.dense_rows, s.heads * (s.plain + s.value_width)));
}
void expand_keys_and_values_input_gradient(const Call& call) {
  const HeadSizes s(call);
  const Expanded d = expanded_in(call, call.read(0), s);
  const Latent out = latent_in(call, call.written(0), s.g.dense_rows, s);
  linear_input_gradient(call, d.keys_and_values, call.weight(Part::kKvUp), out.kv);
  call.copy(out.rotary, d.rotary);
}
void expand_keys_and_values_weight_gradient(const Call& call) {
  const HeadSizes s(call);
  linear_weight_gradient(call, expanded_in(call, call.read(1), s).keys_and_values,
                         latent_in(call, call.read(0), s.g.dense_rows, s).kv, call.gradient(Part::kKvUp));
}

}  // namespace

void add_latent_handlers(HandlerTable& table) {
  table["latent_down"] = compress;
  table["d_latent_down"] = compress_input_gradient;
  table["w_latent_down"] = compress_weight_gradient;
  table["latent_norm"] = latent_norm;
  table["d_latent_norm"] = latent_norm_backward;
  table["q_up"] = expand_queries;
  table["d_q_up"] = expand_queries_input_gradient;
  table["w_q_up"] = expand_queries_weight_gradient;
  table["kv_up"] = expand_keys_and_values;
  table["d_kv_up"] = expand_keys_and_values_input_gradient;
  table["w_kv_up"] = expand_keys_and_values_weight_gradient;
}

}  // namespace msmoe::executor
