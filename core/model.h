// Model: a decoder-only transformer as its Hugging Face config.json describes it.
//
// A model is a list of layers; layers that are alike share one LayerKind, so that whatever is computed per kind
// (operators, costs, memory) is computed once. Everything downstream reads this noun, never the JSON.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/units.h"

namespace msmoe {

enum class AttentionKind {
  kGrouped,     // multi-head, grouped-query or multi-query attention
  kLatent,      // multi-head latent attention (DeepSeek-V2, arXiv 2405.04434 section 2.1)
  kLinear,      // linear attention (Qwen3-Next, MiniMax-Text-01): counted, not planned
  kStateSpace,  // Mamba (Jamba): counted, not planned
};

// Widths are per head, counts per layer.
struct Attention {
  AttentionKind kind = AttentionKind::kGrouped;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;    // kLatent: equals heads
  std::int64_t head_dim = 0;    // of queries and keys; kLatent: qk_nope_head_dim + qk_rope_head_dim
  std::int64_t value_dim = 0;   // of values; kGrouped: equals head_dim
  std::int64_t query_rank = 0;  // kLatent: q_lora_rank, 0 where queries are not compressed
  std::int64_t kv_rank = 0;     // kLatent: kv_lora_rank
  std::int64_t rope_dim = 0;    // kLatent: qk_rope_head_dim
  std::int64_t window = 0;      // tokens that a query sees at most (sliding window or chunk); 0: all before it
  bool chunked = false;         // the window does not slide: a query sees its own chunk of window tokens (Llama 4)
  bool output_gate = false;     // the query projection is twice as wide; its second half gates the output
  bool shares_kv = false;       // no key and value projections: those of an earlier layer serve (arXiv 2405.12981)
  bool query_key_norm = false;  // RMSNorm of queries and keys before RoPE, head by head or all heads together
  std::int64_t vector_parameters = 0;        // biases, q/k norms, sinks: whatever is no matrix
  std::int64_t mixer_matrix_parameters = 0;  // kLinear, kStateSpace: all matrices of the mixer
  bool operator==(const Attention&) const = default;
};

enum class RouterKind { kSoftmax, kSigmoid };

struct FeedForward {
  std::int64_t width = 0;     // of a dense layer, or of ONE routed expert
  std::int64_t matrices = 3;  // 3: gated (SwiGLU and kin); 2: plain
  std::int64_t experts = 0;   // routed; 0: a dense layer
  std::int64_t top_k = 0;
  std::int64_t shared_width = 0;  // of all shared experts together; 0: none
  RouterKind router = RouterKind::kSoftmax;
  std::int64_t expert_groups = 1;             // group-limited routing: n_group
  std::int64_t groups_per_token = 1;          // topk_group
  std::int64_t vector_parameters = 0;         // biases of dense or shared parts, router bias, shared gate
  std::int64_t expert_vector_parameters = 0;  // biases of ONE routed expert
  bool is_moe() const { return experts > 0; }
  bool operator==(const FeedForward&) const = default;
};

struct LayerKind {
  Attention attention;
  FeedForward feed_forward;
  std::int64_t norm_parameters = 0;  // the layer's own norms (usually 2 * hidden)
  bool operator==(const LayerKind&) const = default;
};

struct Model {
  std::string name;    // as the user named it
  std::string family;  // model_type
  std::int64_t hidden = 0;
  std::int64_t vocab = 0;  // as published; padding is the plan's affair
  bool tied_embeddings = false;
  std::int64_t max_seq_len = 0;  // 0: not stated
  std::vector<LayerKind> kinds;  // distinct
  std::vector<int> layers;       // for each decoder layer, its index in kinds
  int predict_layers = 0;        // extra multi-token-prediction layers after the last, each of kind predict_kind
  int predict_kind = 0;          // REQUIRES a valid index where predict_layers > 0
  std::int64_t final_norm_parameters = 0;
  std::int64_t head_vector_parameters = 0;  // a bias of the output head

  std::vector<std::string> defaulted;  // "top_k = 8 (class default of qwen3_moe)": what the file left out
  std::vector<std::string> ignored;    // keys of the file that do not bear on size or speed, in its order

  const LayerKind& layer(std::size_t layer_idx) const { return kinds[static_cast<std::size_t>(layers[layer_idx])]; }
  int num_layers() const { return static_cast<int>(layers.size()); }
  // True where every layer can be lowered: false for linear attention and state-space mixers.
  bool can_be_planned() const;
};

// Reads a config.json. Throws UserError naming file, key and reason for a missing or contradictory key, and for a
// model_type it does not know (docs/model.md lists the families). Multi-modal wrappers are descended into
// (text_config).
Model read_model(const std::string& path);
Model parse_model(const std::string& name, std::string_view json_text);  // name: how errors call it
// A file, or the name of a config that ships (models/NAME.json, searched beside the program and in its data folder).
Model find_model(const std::string& name_or_path);

// ---- Counting. Matrices are what a token is multiplied with; vectors (norms, biases) are counted as parameters
// and neglected as FLOPs.

struct LayerParameters {
  std::int64_t attention_matrices = 0;
  std::int64_t router_matrices = 0;
  std::int64_t dense_matrices = 0;   // a dense feed-forward, or the shared experts
  std::int64_t expert_matrices = 0;  // of ONE routed expert
  std::int64_t experts = 0;
  std::int64_t attention_vectors = 0, norm_vectors = 0, feed_forward_vectors = 0;
  std::int64_t expert_vectors = 0;  // of ONE routed expert
  std::int64_t total() const;
  std::int64_t active(std::int64_t top_k) const;  // what one token touches
};
LayerParameters count_layer(const Model& model, const LayerKind& kind);

struct ParameterCount {
  std::int64_t total = 0;            // embeddings included, tied ones once; extra prediction layers excluded
  std::int64_t active = 0;           // with top_k routed experts a layer, embeddings included
  std::int64_t active_matrices = 0;  // what FLOPs are counted on: the head included, the embedding look-up not
  std::int64_t predict_layers = 0;   // parameters of the extra prediction layers, beside total
};
ParameterCount count_parameters(const Model& model);

// Training FLOPs per token: 6 per active matrix parameter, plus causal attention at half of the square (a window
// counts the tokens it lets a query see), no recomputation, no extra prediction layers.
//   attention of one layer = 3 * 2 * heads * (head_dim + value_dim) * average span,  span = s / 2 without a window
Flops flops_per_token(const Model& model, std::int64_t seq_len);
// The average number of tokens a query attends to: s/2 for full causal attention; for a sliding window w < s,
// w * (1 - w / (2 s)); for chunks of w < s, w / 2 (less where the last chunk is cut short); 0 for mixers that are no
// attention.
double average_span(const Attention& attention, std::int64_t seq_len);

}  // namespace msmoe
