#include <gtest/gtest.h>

#include <set>
#include <utility>

#include "tests/kernels/tensors.h"

namespace msmoe::kernels {
namespace {

std::string refusal(const Operation& operation) {
  try {
    run(operation);
  } catch (const Unsupported& error) {
    return error.what();
  }
  return "accepted";
}

template <std::size_t... kIndices>
std::vector<Operation> one_of_each(std::index_sequence<kIndices...>) {
  return {Operation(std::in_place_index<kIndices>)...};
}
std::vector<Operation> one_of_each() { return one_of_each(std::make_index_sequence<std::variant_size_v<Operation>>()); }

TEST(Names, AreDifferent) {
  std::set<std::string> names;
  for (const Operation& operation : one_of_each()) names.insert(name_of(operation));
  EXPECT_EQ(names.size(), std::variant_size_v<Operation>);
  EXPECT_STREQ(name_of(RmsNormBackward{}), "rms_norm_backward");
}

TEST(Cpu, NeedsNoWorkspace) {
  for (const Operation& operation : one_of_each()) EXPECT_EQ(cpu_kernels()->workspace_bytes(operation), 0u);
}

TEST(Unsupported, NamesTheOperationWhatIsWrongAndWhatIsAllowed) {
  Tensor a(2, 5), b(5, 4), c(2, 3, 9);
  Bf16 narrow(2, 5);
  EXPECT_EQ(refusal(Gemm{.a = a, .b = b, .c = c}), "gemm: c is fp32 [2, 3], allowed is fp32 [2, 4]");
  EXPECT_EQ(refusal(Gemm{.a = narrow, .b = b, .c = c}), "gemm: a is bf16 [2, 5], allowed is fp32 [any, any]");
  EXPECT_EQ(refusal(Gemm{.a = a, .b = b, .c = {nullptr, 2, 4}}), "gemm: c is null, allowed is fp32 [2, 4]");
  EXPECT_EQ(refusal(Gemm{.a = a, .b = c, .c = c}), "gemm: b is fp32 [2, 3], allowed is fp32 [5, any]");
  EXPECT_EQ(c.values, std::vector<float>(6, 9)) << "nothing is written";
}

TEST(Unsupported, GroupedGemm) {
  Tensor rows(4, 3), weights(4, 3), out(4, 2, 9);
  Integers offsets(1, 3, {0, 2, 5}), falling(1, 3, {0, 3, 2}), late(1, 3, {1, 2, 3});
  GroupedGemm operation{.rows = rows, .weights = weights, .out = out, .offsets = offsets};
  EXPECT_EQ(refusal(operation), "grouped_gemm: offsets[2] is 5, allowed is 2 to 4");
  operation.offsets = falling;
  EXPECT_EQ(refusal(operation), "grouped_gemm: offsets[2] is 2, allowed is 3 to 4");
  operation.offsets = late;
  EXPECT_EQ(refusal(operation), "grouped_gemm: offsets[0] is 1, allowed is 0 to 0");
  operation.accumulate = true;
  EXPECT_EQ(refusal(operation), "grouped_gemm: accumulate is set, allowed is false but for weight gradients");
  EXPECT_EQ(out.values, std::vector<float>(8, 9));
}

TEST(Unsupported, Attention) {
  Tensor query(6, 6), key(6, 4), value(6, 4), out(6, 6), log_sum_exp(3, 6);
  Integers starts(1, 3, {0, 4, 6}), short_of(1, 3, {0, 2, 4});
  Attention operation{{.heads = 3, .kv_heads = 2, .width = 2, .value_width = 2, .sequence_length = 3},
                      query,
                      key,
                      value,
                      out,
                      log_sum_exp,
                      {}};
  EXPECT_EQ(refusal(operation), "attention: heads is 3, allowed is a multiple of 2");
  operation.shape.kv_heads = 0;
  EXPECT_EQ(refusal(operation), "attention: kv_heads is 0, allowed is 1 or more");
  operation.shape.kv_heads = 1;
  operation.key = operation.value = View{key.values.data(), 6, 2};
  operation.shape.sequence_length = 4;
  EXPECT_EQ(refusal(operation), "attention: the number of tokens is 6, allowed is a multiple of 4");
  operation.shape.sequence_length = 3;
  operation.starts = starts;
  EXPECT_EQ(refusal(operation), "attention: the length of a sequence is 4, allowed is 0 to 3");
  operation.starts = short_of;
  EXPECT_EQ(refusal(operation), "attention: the last start is 4, allowed is 6 to 6");
}

// Two sequences of three queries, and eight keys.
TEST(Unsupported, RangesOfKeys) {
  Tensor query(6, 2), key(8, 2), value(8, 2), out(6, 2, 9), log_sum_exp(1, 6);
  Integers ranges(2, 2, {0, 5, 3, 9}), three(2, 3);
  Attention operation{{.heads = 1, .kv_heads = 1, .width = 2, .value_width = 2, .sequence_length = 3},
                      query,
                      key,
                      value,
                      out,
                      log_sum_exp,
                      {},
                      {}};
  EXPECT_EQ(refusal(operation), "attention: key is fp32 [8, 2], allowed is fp32 [6, 2]");
  operation.key_ranges = three;
  EXPECT_EQ(refusal(operation), "attention: key_ranges is int32 [2, 3], allowed is int32 [2, 2]");
  operation.key_ranges = ranges;
  EXPECT_EQ(refusal(operation), "attention: the end of a range of keys is 9, allowed is 8 to 8");
  ranges[1] = 6;
  EXPECT_EQ(refusal(operation), "attention: the begin of a range of keys is 6, allowed is 0 to 5");
  ranges.values = {0, 5, 2, 8};
  EXPECT_EQ(refusal(operation), "attention: the end of a range of keys is 2, allowed is 3 to 8");
  EXPECT_EQ(out.values, std::vector<float>(12, 9)) << "nothing is written";
  ranges.values = {0, 5, 8, 8};
  EXPECT_EQ(refusal(operation), "accepted");
}

TEST(Unsupported, Tokens) {
  Tensor x(2, 6), weight(1, 6), inverse_rms(1, 2), out(2, 6);
  Integers positions(1, 2);
  EXPECT_EQ(refusal(RmsNorm{.input = x, .residual = x, .weight = weight, .out = out, .inverse_rms = inverse_rms}),
            "rms_norm: one of residual and sum is null, allowed is both or none");
  EXPECT_EQ(refusal(Rope{.vectors = x, .positions = positions, .width = 6, .rotated = 3}),
            "rope: rotated is 3, allowed is a multiple of 2");
  EXPECT_EQ(refusal(Rope{.vectors = x, .positions = positions, .width = 4, .rotated = 2}),
            "rope: the number of columns is 6, allowed is a multiple of 4");
  EXPECT_EQ(refusal(Rope{.vectors = x, .positions = positions, .out = weight, .width = 6, .rotated = 2}),
            "rope: out is fp32 [1, 6], allowed is fp32 [2, 6]");
  EXPECT_EQ(refusal(LatentHeads{x, x, x, positions, out, out, out, 4}),
            "latent_heads: the number of columns of queries is 6, allowed is a multiple of 4");
  EXPECT_EQ(refusal(LatentHeads{x, x, x, positions, out, out, out, 2}),
            "latent_heads: the number of columns of the rotary key is 6, allowed is 0 to 3");
  EXPECT_EQ(refusal(LatentHeadsBackward{x, weight, x, positions, out, out, out, 1}),
            "latent_heads_backward: key_gradient is fp32 [1, 6], allowed is fp32 [2, 6]");
  EXPECT_EQ(refusal(SwiGlu{.gate_up = x, .out = out}), "swiglu: gate_up is fp32 [2, 6], allowed is fp32 [2, 12]");
  EXPECT_EQ(refusal(CrossEntropy{x, x, inverse_rms, inverse_rms, inverse_rms}),
            "cross_entropy: targets is fp32 [2, 6], allowed is int32 [1, 2]");
}

TEST(Unsupported, Routing) {
  Tensor logits(2, 6), scores(2, 6), gates(2, 2);
  Integers experts(2, 2), counts(1, 6), source_of(1, 2, {4, 0}), row_of(2, 1, {0, -2}), arrivals(2, 1, {2, 1}),
      offsets(1, 2), two(1, 2), other_two(1, 2);
  Router router{{.top_k = 2, .groups = 4}, logits, {}, scores, experts, gates, counts, {}};
  EXPECT_EQ(refusal(router), "router: the number of experts is 6, allowed is a multiple of 4");
  router.shape = {.top_k = 3, .groups = 3, .top_groups = 1};
  EXPECT_EQ(refusal(router), "router: top_k is 3, allowed is 1 to 2");
  EXPECT_EQ(refusal(GatherRows{.in = gates, .source_of = source_of, .out = gates, .fan_out = 2}),
            "gather_rows: source_of[0] is 4, allowed is -1 to 3");
  EXPECT_EQ(refusal(CombineRows{.in = gates, .row_of = row_of, .out = gates}),
            "combine_rows: row_of[1] is -2, allowed is -1 to 1");
  EXPECT_EQ(refusal(SortArrivals{arrivals, offsets, two, other_two}),
            "sort_arrivals: the number of arrived rows is 3, allowed is 0 to 2");
}

TEST(Unsupported, Training) {
  Tensor in(2, 130), scales(2, 1), out(2, 130), sum(1, 1);
  E4m3 narrow(2, 130);
  Bf16 chunks(5, 130);
  EXPECT_EQ(refusal(Quantize{in, narrow, scales}), "quantize: scales is fp32 [2, 1], allowed is fp32 [2, 2]");
  EXPECT_EQ(refusal(Cast{in, narrow}), "cast: out is e4m3 [2, 130], allowed is fp32 or bf16 [2, 130]");
  EXPECT_EQ(refusal(SumChunks{chunks, out}),
            "sum_chunks: the number of rows of chunks is 5, allowed is a multiple of 2");
  EXPECT_EQ(refusal(SumChunks{in, out}), "sum_chunks: chunks is fp32 [2, 130], allowed is bf16 [any, any]");
  EXPECT_EQ(refusal(SquaredNorm{{in, narrow}, sum}),
            "squared_norm: a tensor is e4m3 [2, 130], allowed is fp32 [any, any]");
  EXPECT_EQ(refusal(AdamW{.step = 0}), "adamw: step is 0, allowed is 1 or more");
}

// Empty batches are no mistake: ranks without tokens run the same program.
TEST(Unsupported, NothingToDoIsSupported) {
  Tensor none(0, 4), weight(1, 4), scalars(1, 0), logits(0, 4), scores(0, 4), gates(0, 2), losses(1, 2, 9);
  Integers experts(0, 2), counts(1, 4, 9), offsets(1, 5), row_of(0, 2), assignment_of(1, 0);
  EXPECT_EQ(refusal(RmsNorm{.input = none, .weight = weight, .out = none, .inverse_rms = scalars}), "accepted");
  EXPECT_EQ(refusal(Router{{.top_k = 2}, logits, {}, scores, experts, gates, counts, losses}), "accepted");
  EXPECT_EQ(counts.values, std::vector<std::int32_t>(4));
  EXPECT_EQ(losses.values, std::vector<float>(2));
  EXPECT_EQ(refusal(SortByExpert{experts, offsets, row_of, assignment_of}), "accepted");
  EXPECT_EQ(refusal(GatherRows{.in = none, .source_of = assignment_of, .out = none, .fan_out = 2}), "accepted");
  EXPECT_EQ(refusal(Zero{none}), "accepted");
}

}  // namespace
}  // namespace msmoe::kernels
