// What happens to each token on its own: norms, positions, activations, embedding and loss. Bound by HBM.
//
// Elements are bf16 on GPUs and fp32 on CPUs unless a comment says otherwise; arithmetic is fp32 inside. Gradients of
// parameters are fp32 and are added to what is there; those of activations are overwritten.
#pragma once

#include "kernels/view.h"

namespace msmoe::kernels {

// s = input + residual;  out = s / rms(s) * weight,  rms(s) = sqrt(mean(s^2) + epsilon)  (arXiv 1910.07467).
// All [tokens, width]; weight [1, width]. residual and sum may be null, together; inverse_rms fp32 [1, tokens].
struct RmsNorm {
  View input, residual, weight;
  View out, sum, inverse_rms;
  double epsilon = 1e-6;
};
// input: what was normalized (the sum). With r = inverse_rms, g = out_gradient * weight, x = input:
//   input_gradient = r (g - x r^2 mean(g x)) + residual_gradient,    weight_gradient += sum over tokens of out_gradient
//   x r
// residual_gradient may be null: what reaches the sum by the way round the block.
struct RmsNormBackward {
  View input, weight, inverse_rms, out_gradient, residual_gradient;
  View input_gradient, weight_gradient;
};

// Rotates the last `rotated` columns of every head of `width`: column pairs (i, i + rotated / 2) by the angle
// position * base^(-2 i / rotated)  (arXiv 2104.09864, paired as Hugging Face models do). vectors: [tokens, heads *
// width]; positions: int32 [1, tokens]. out: as vectors, with the columns that do not turn copied; null: in place.
// Backward is the rotation by the opposite angle. On GPUs rotated is a multiple of 16 up to 4096, and width one of 8.
struct Rope {
  View vectors, positions;
  View out;
  std::int64_t width = 0, rotated = 0;
  double base = 10000;
  bool backward = false;
};

// Queries, keys and values of multi-head latent attention, from what its up-projections give (DeepSeek-V2, arXiv
// 2405.04434, equations 14-19). A head's query and key are a part without position, `plain` columns wide, and then a
// part of `turned` columns, rotated as in Rope, which in keys is the same for all heads:
//   queries   [tokens, heads * (plain + turned)], not rotated yet
//   expanded  [tokens, heads * (plain + value)]: of each head the plain part of its key, then its value
//   rotary    [tokens, turned]: the rotary part of all keys, not rotated yet
//   positions int32 [1, tokens]
//   query_out, key  [tokens, heads * (plain + turned)];  query_out may be queries
//   value           [tokens, heads * value]
// The widths are those of the views. On GPUs turned is a multiple of 16 up to 2048, plain and value of 8.
struct LatentHeads {
  View queries, expanded, rotary, positions;
  View query_out, key, value;
  std::int64_t heads = 0;
  double base = 10000;
};
// The gradients are shaped as what they are of. rotary_gradient is the sum over heads of key_gradient's turned parts,
// rotated back. queries_gradient may be query_out_gradient.
struct LatentHeadsBackward {
  View query_out_gradient, key_gradient, value_gradient, positions;
  View queries_gradient, expanded_gradient, rotary_gradient;
  std::int64_t heads = 0;
  double base = 10000;
};

// out = gate_weight * silu(gate) * up. gate_up: [rows, 2 f], gate in the first half; out: [rows, f].
// gate_weights: fp32 [1, rows] or null, the router's weight of each row: folded in here, the combination after the
// experts' second product only adds rows (arXiv 2505.11432, section 3.2).
struct SwiGlu {
  View gate_up, gate_weights;
  View out;
};
// gate_weight_gradient: fp32 [1, rows], overwritten; null with gate_weights.
// out: [rows, f], recomputed for the weight gradient of the next product, or null.
struct SwiGluBackward {
  View gate_up, gate_weights, out_gradient;
  View gate_up_gradient, gate_weight_gradient, out;
};

// out = a + b; out may be either.
struct Add {
  View a, b;
  View out;
};

// out[t] = table[ids[t] - first_id]; zeros where the id is another shard's. ids: int32 [1, tokens].
struct Embedding {
  View table, ids;
  View out;
  std::int64_t first_id = 0;
};
// table_gradient[ids[t] - first_id] += out_gradient[t], fp32.
struct EmbeddingBackward {
  View out_gradient, ids;
  View table_gradient;
  std::int64_t first_id = 0;
};

// Cross-entropy of one shard of the vocabulary, logits [tokens, shard]. Shards combine with all-reduces between the two
// operations: maximum by maximum; then exp_sum, scaled to the common maximum, and target_logit by sums.
//   maximum[t] = max(logits[t]),  exp_sum[t] = sum(exp(logits[t] - maximum[t])),
//   target_logit[t] = logits[t, targets[t] - first_id], or 0 where the target is another shard's.
// targets: int32 [1, tokens]; the three results fp32 [1, tokens].
struct CrossEntropy {
  View logits, targets;
  View maximum, exp_sum, target_logit;
  std::int64_t first_id = 0;
};
// In place: logits = (exp(logits - maximum) / exp_sum - [target]) * scale. A target below 0 is padding: its row gets 0.
struct CrossEntropyBackward {
  View targets, maximum, exp_sum;
  View logits;
  std::int64_t first_id = 0;
  double scale = 1;  // of the loss: 1 / tokens for a mean
};

}  // namespace msmoe::kernels
