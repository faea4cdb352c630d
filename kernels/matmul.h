// Matrix products and attention: what tensor cores do. Sums are fp32 whatever the operands are.
//
// On GPUs operands are bf16, and every row takes a multiple of 16 bytes, as TMA asks for; on CPUs all is fp32.
#pragma once

#include "kernels/view.h"

namespace msmoe::kernels {

// c = op(a) op(b), or c += with accumulate. op(a): [m, k], op(b): [k, n], c: [m, n]; a transposed operand lies in
// memory as [k, m], [n, k]. c is bf16 or fp32. A linear layer y = x w^T, w: [out, in], is {x, w, y, .transpose_b =
// true}.
struct Gemm {
  View a, b, c;
  bool transpose_a = false, transpose_b = false;
  bool accumulate = false;
  int sms = 0;  // how many SMs to make do with, beside a kernel that holds the others; 0: all
};

// One product per expert. rows are sorted by expert: those of expert e are [offsets[e], offsets[e + 1]), offsets an
// int32 [1, experts + 1] where the rest lies, so that no size has to come to the host; an expert may have none. Rows
// beyond offsets[experts] are neither read nor written.
//
//   kForward         out[r] = rows[r] w_e^T     rows: [rows, in]    weights: [experts * out, in]   out: [rows, out]
//   kInputGradient   out[r] = rows[r] w_e       rows: [rows, out]   weights: [experts * out, in]   out: [rows, in]
//   kWeightGradient  out_e (+)= rows_e^T inputs_e   rows: [rows, out], weights (the inputs): [rows, in],
//                                               out: [experts * out, in] in fp32; without accumulate an expert
//                                               without rows gets zeros
enum class GroupedPass : std::uint8_t { kForward, kInputGradient, kWeightGradient };
struct GroupedGemm {
  GroupedPass pass = GroupedPass::kForward;
  View rows, weights, out;
  View offsets;
  bool accumulate = false;  // kWeightGradient only
  int sms = 0;              // as Gemm's
};

// Causal attention over sequences laid end to end: o = softmax(scale q k^T) v for each head. Queries and keys have
// `width` columns a head, values `value_width` (MLA: 192 and 128); heads is a multiple of kv_heads, and heads /
// kv_heads neighbours share one key head.
//
//   query [tokens, heads * width]     key [tokens, kv_heads * width]    value [tokens, kv_heads * value_width]
//   out   [tokens, heads * value_width]          log_sum_exp fp32 [heads, tokens], what backward needs of the softmax
//   starts int32 [1, sequences + 1]: sequence s is the tokens [starts[s], starts[s + 1]).
// A null starts stands for tokens / sequence_length sequences of equal length.
//
// With context parallelism a rank's queries are pieces of sequences whose keys it has gathered. Then, on CPUs only:
//   key_ranges int32 [2, sequences], begins and then ends: the L queries of sequence s see rows [begin, end) of key and
//   value, L of them or more, causally from the end: query i sees those up to end - L + i.
// key and value have rows of their own number then; ranges may overlap, and the gradients of a row are the sums over
// its ranges, zeros where it is in none. A null key_ranges: the keys of a sequence are its own tokens.
struct AttentionShape {
  std::int64_t heads = 0, kv_heads = 0, width = 0, value_width = 0;
  std::int64_t sequence_length = 0;  // of the longest, in queries
  double scale = 1;
};
struct Attention {
  AttentionShape shape;
  View query, key, value, out, log_sum_exp;
  View starts, key_ranges;
};
struct AttentionBackward {
  AttentionShape shape;
  View query, key, value, out, log_sum_exp, out_gradient;
  View query_gradient, key_gradient, value_gradient;
  View starts, key_ranges;
};

}  // namespace msmoe::kernels
