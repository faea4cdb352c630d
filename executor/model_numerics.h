// What a training step computes that the sizes of a Model do not tell: from the same config.json, with the meaning that
// `transformers` gives to its keys. What msmoe has no operator for is refused, so that whatever trains here computes in
// `transformers` what it computed here.
//
// Two facts that no key tells. The norms of latent attention's compressed streams have an epsilon of their own. The
// correction bias of sigmoid routers takes part in choosing only, the gates are scores without it; of equal groups of
// experts, the best are those with the largest sum of their two best biased scores (DeepSeek-V3, GLM-4.5, Kimi-K2),
// with softmax scores those with the largest best score (DeepSeek-V2): kernels::RouterShape has both.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/model.h"
#include "kernels/routing.h"

namespace msmoe::executor {

// Of the norms on the q_lora_rank and kv_lora_rank streams, whatever rms_norm_eps says.
inline constexpr double kLatentNormEpsilon = 1e-6;

struct ModelNumerics {
  double norm_epsilon = 1e-6;  // rms_norm_eps, of all other norms
  double rope_base = 10000;    // rope_theta
  // Files pair neighbours (2 i, 2 i + 1) among the rotary columns r of a head of queries, and of the rotary key, where
  // kernels::Rope pairs (i, i + r / 2). Column 2 i + j of a file is therefore column i + j r / 2 here: rows of kQuery
  // or kQueryUp, of each head the last r, and the last r rows of kKvDown and kKvDownBias. Scores stay the same.
  bool rope_interleaved = false;
  double attention_scale = 1;       // of q . k: 1 / sqrt(head_dim)
  bool normalize_gates = false;     // norm_topk_prob: the gates of a token add up to gate_scale
  double gate_scale = 1;            // routed_scaling_factor
  double initializer_range = 0.02;  // standard deviation of a new model's matrices
  // router_aux_loss_coef or aux_loss_alpha; 0 where the file has neither. The loss that `transformers` adds (only where
  // output_router_logits asks for it) is top_k under balance, that of kernels::Router and of DeepSeek is 1.
  double aux_loss = 0;

  std::vector<std::string> defaulted;  // "rms_norm_eps = 1e-05 (class default of mixtral)": what the file left out
};

// The numerics of a model that read_model or find_model has read. A UserError, naming file, key, value and what is
// allowed, for: families other than supported_families(), and qwen2 (biases); scaled rotary positions (yarn, llama3,
// linear, ...); heads rotated in part; activations other than silu; biases of projections; the gate of a shared expert;
// extra prediction layers; dropout, jitter, clipped queries, capped logits; and routing keys that contradict what the
// family does. Tied embeddings are fine.
ModelNumerics read_numerics(const Model& model);
ModelNumerics parse_numerics(const Model& model, const std::string& file, std::string_view json_text);

// A UserError where a sequence is longer than the window of some layer: attention here sees all tokens before.
void check_windows(const Model& model, std::int64_t seq_len);

// Of the mixtures of one kind.
kernels::RouterShape router_shape(const FeedForward& mixture, const ModelNumerics& numerics);

}  // namespace msmoe::executor
