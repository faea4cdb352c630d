// From router logits to rows sorted by expert, and back. All of the router is fp32; counts stay where they are made, so
// nothing waits for the host.
#pragma once

#include "kernels/view.h"

namespace msmoe::kernels {

enum class Scoring : std::uint8_t { kSoftmax, kSigmoid };

struct RouterShape {
  Scoring scoring = Scoring::kSoftmax;
  int top_k = 1;
  // Only the best `top_groups` of `groups` equal groups of experts are chosen from. A group is as good as the sum of
  // its two best experts with sigmoid scores and bias, as its best one with softmax (DeepSeek-V3 and -V2).
  int groups = 1, top_groups = 1;
  bool normalize = true;  // gates of a token add up to `scale`; else they are the scores times it
  double scale = 1;
};

// logits: fp32 [tokens, experts]. bias: fp32 [1, experts] or null, added to the scores for choosing only (arXiv
// 2408.15664).
//   scores   fp32 [tokens, experts]: softmax or sigmoid of the logits
//   experts  int32 [tokens, k], all different, best first; of equals the lower number first, and a score that is no
//            number is as good as minus infinity
//   gates    fp32 [tokens, k]
//   counts   int32 [1, experts]: tokens for each, overwritten
//   losses   fp32 [1, 2], overwritten, or null: the auxiliary loss  E / (k T) * sum_e counts_e * mean over tokens of
//   p_e,
//            p = scores normalized over experts  (arXiv 2101.03961, section 2.2; 1 under balance),
//            and the z loss  mean of (log sum exp(logits))^2  (arXiv 2202.08906)
struct Router {
  RouterShape shape;
  View logits, bias;
  View scores, experts, gates, counts, losses;
};
// logit_gradient, overwritten: what comes through the gates, and the gradients of aux_scale * auxiliary loss and
// z_scale * z loss. The choice itself and the counts have no gradient.
struct RouterBackward {
  RouterShape shape;
  View logits, scores, experts, counts, gate_gradient;
  View logit_gradient;
  double aux_scale = 0, z_scale = 0;
};

// Where the assignments of tokens to experts go when rows are sorted by expert, then by token, then by choice.
// experts: int32 [tokens, k]; those outside [first_expert, first_expert + experts_here) are left out.
//   offsets      int32 [1, experts_here + 1]
//   row_of       int32 [tokens, k]: the row of an assignment, -1 if left out
//   assignment_of int32 [1, tokens * k]: token * k + choice of a row, -1 beyond the last
struct SortByExpert {
  View experts;
  View offsets, row_of, assignment_of;
  int first_expert = 0;
};

// The same for rows that arrived sorted by source rank, then expert, and have to lie by expert, then source rank.
// counts: int32 [ranks, experts_here].
//   offsets  int32 [1, experts_here + 1]
//   source_of int32 [1, rows]: the arrived row that goes to a row, -1 beyond the last; arrives_at is its inverse
struct SortArrivals {
  View counts;
  View offsets, source_of, arrives_at;
};

// out[r] = weight * in[source_of[r] / fan_out]; zeros where source_of[r] is -1. source_of: int32 [1, rows]. fan_out = k
// for the rows of assignments. weights: fp32 [1, assignments], by source_of[r], or null for 1.
struct GatherRows {
  View in, source_of, weights;
  View out;
  int fan_out = 1;
};
// out[t] = sum over choices c of weights[t, c] * in[row_of[t, c]], in fp32, in order of c; -1 adds nothing.
// row_of: int32 [tokens, k]; weights: fp32 [tokens, k] or null for 1. With weights null this is the gradient of
// GatherRows, and GatherRows that of this.
struct CombineRows {
  View in, row_of, weights;
  View out;
};
// weight_gradient[t, c] = out_gradient[t] . in[row_of[t, c]], fp32; 0 where row_of is -1.
struct CombineWeightGradient {
  View in, row_of, out_gradient;
  View weight_gradient;
};
// out[t, c] = in[row_of[t, c]], fp32 scalars: brings the gates' gradients back from the rows (0 for -1).
struct GatherScalars {
  View in, row_of;
  View out;
};

}  // namespace msmoe::kernels
