// Every parameter of a model: what it is for, where it belongs and its shape, from the Model alone. Names of files are
// hf_names.h's affair.
//
// Shapes are those of Hugging Face's files: a matrix is [outputs, inputs], with heads one after another in either, so
// that y = x W^T. h is the hidden size, H the heads, G the key/value heads, d and v their widths.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/model.h"

namespace msmoe::executor {

enum class Part : std::uint8_t {
  // Of the model.
  kEmbedding,  // [vocab, h]
  kFinalNorm,  // [h]
  kHead,       // [vocab, h]; absent where it is tied to the embedding
  // Of every layer.
  kAttentionNorm,    // [h]
  kFeedForwardNorm,  // [h]
  // Grouped attention.
  kQuery,      // [H d, h]
  kKey,        // [G d, h]
  kValue,      // [G d, h]
  kQueryBias,  // [H d]
  kKeyBias,    // [G d]
  kValueBias,  // [G d]
  kQueryNorm,  // [d] where every head is normed by itself, [H d] where all are together
  kKeyNorm,    // [d] or [G d]
  // Latent attention, with ranks q and c and the rotary part r of a head. Where q is 0 there is kQuery for the first
  // four.
  kQueryDown,      // [q, h]
  kQueryDownBias,  // [q]
  kQueryDownNorm,  // [q]
  kQueryUp,        // [H d, q]; of a head, the part without positions comes first
  kKvDown,         // [c + r, h]; the rotary key that all heads share comes last
  kKvDownBias,     // [c + r]
  kKvDownNorm,     // [c]
  kKvUp,           // [H (d - r + v), c]; of a head, the key comes first
  // Both attentions.
  kAttentionOutput,      // [h, H v]
  kAttentionOutputBias,  // [h]
  // Feed-forward of width f: a dense one, or one expert where `expert` is set.
  kGate,      // [f, h]
  kUp,        // [f, h]
  kDown,      // [h, f]
  kGateBias,  // [f]
  kUpBias,    // [f]
  kDownBias,  // [h]
  // Mixture of E experts; the shared ones are one feed-forward as wide as they are together.
  kRouter,       // [E, h]
  kRouterBias,   // [E]; balances without a loss: no gradient reaches it, and count_parameters leaves it out
  kSharedGate,   // [f, h]
  kSharedUp,     // [f, h]
  kSharedDown,   // [h, f]
  kSharedScale,  // [1, h]: a sigmoid of this row times the token scales the shared expert's output
  // Of an extra prediction layer, beside all those of a layer (DeepSeek-V3, arXiv 2412.19437, section 2.2).
  kPredictTokenNorm,   // [h], of the next token's embedding
  kPredictHiddenNorm,  // [h], of the last hidden state
  kPredictProjection,  // [h, 2 h], inputs in that order
  kPredictFinalNorm,   // [h]
};

struct Parameter {
  Part part = Part::kEmbedding;
  int layer = -1;   // prediction layers follow the decoder's: num_layers() and up; -1: of the model
  int expert = -1;  // -1: not of a routed expert
  std::vector<std::int64_t> shape;

  std::int64_t elements() const;
  bool is_counted() const { return part != Part::kRouterBias; }  // by count_parameters; trained by gradients
  bool operator==(const Parameter&) const = default;
};

// In the order of the forward pass: embedding, layers, final norm, head, prediction layers. A UserError where the
// model's family is not one whose parts are known (supported_families), or has vectors that its family does not
// explain.
std::vector<Parameter> list_parameters(const Model& model);

// "mixtral", ...: model_type of the families whose parameters can be listed and named.
const std::vector<std::string_view>& supported_families();

}  // namespace msmoe::executor
