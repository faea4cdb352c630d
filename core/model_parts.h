// The parts that families of models are put together from: each reads its keys and returns a piece of a LayerKind.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/model.h"
#include "core/model_config.h"

namespace msmoe {

// Vectors of a grouped attention, as the family has them.
struct AttentionVectors {
  enum class Norm { kNone, kPerHead, kWhole };  // kPerHead: one weight of head_dim for all heads; kWhole: of all heads
  bool input_bias = false;                      // of the query, key and value projections
  bool output_bias = false;
  Norm query_key_norm = Norm::kNone;
  bool sinks = false;  // one learned logit a head
};

// num_attention_heads, num_key_value_heads (missing: as many), head_dim (missing: hidden / heads).
Attention grouped_attention(ModelConfig& config, const Model& model);
// The same with the key/value heads already read.
Attention grouped_attention(ModelConfig& config, const Model& model, std::int64_t kv_heads);
void add_vectors(Attention& attention, const Model& model, const AttentionVectors& vectors);
// q_lora_rank, kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim, attention_bias. head_dim and
// num_key_value_heads of such a file say nothing about sizes and are left unread.
Attention latent_attention(ModelConfig& config, const Model& model);

std::vector<LayerKind> uniform_layers(std::int64_t num_layers, const LayerKind& kind);
// Gives a window to the layers that layer_types calls `word`, the others being "full_attention"; without layer_types,
// to those of which missing(layer_idx) holds.
void set_windows(ModelConfig& config, std::vector<LayerKind>& layers, const char* word, std::int64_t window,
                 const std::function<bool(std::int64_t)>& missing);

FeedForward dense_feed_forward(std::int64_t width);
// A dense feed-forward of the file's intermediate_size.
FeedForward dense_feed_forward(ModelConfig& config);
// Expert count and top-k under any of their names, `width` wide; REQUIRES the caller to set shared_width and vectors.
FeedForward routed_feed_forward(ModelConfig& config, std::int64_t width);
void check_top_k(const ModelConfig& config, const std::string& key, std::int64_t top_k, std::int64_t experts);
// n_group and topk_group, unless topk_method says that groups play no part.
void read_group_limits(ModelConfig& config, FeedForward& feed_forward);
// scoring_func, or what the family does.
RouterKind router_kind(ModelConfig& config, RouterKind missing);

// Of Qwen2-MoE, Qwen3-MoE and Qwen3-Next: the routed experts, the shared one and its gate; and the mixture on every
// decoder_sparse_step-th layer that mlp_only_layers does not name.
FeedForward qwen_moe_feed_forward(ModelConfig& config, const Model& model);
std::vector<LayerKind> qwen_moe_layers(ModelConfig& config, std::int64_t num_layers, const LayerKind& moe);

// Layer after layer, `moe` where is_moe(layer_idx) and a dense feed-forward elsewhere; reads the dense width only
// where there is such a layer, and once; `dense` tells how.
std::vector<LayerKind> mixed_layers(std::int64_t num_layers, const LayerKind& moe,
                                    const std::function<bool(std::int64_t)>& is_moe,
                                    const std::function<FeedForward()>& dense);

}  // namespace msmoe
