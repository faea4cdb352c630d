// A Model counts its vectors, biases and norms of queries and keys together. Which of them a family may have is in the
// table below; the one combination that adds up to the count is the one that is there.
#include "executor/checkpoint/model_parameters.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <string>
#include <utility>

#include "core/error.h"

namespace msmoe::executor {
namespace {

enum class HeadNorm : std::uint8_t { kNone, kPerHead, kWhole };

struct AttentionVectors {
  bool input_bias = false;  // of queries, keys and values
  bool output_bias = false;
  HeadNorm norm = HeadNorm::kNone;
};

struct FamilyRow {
  std::string_view name;
  std::vector<AttentionVectors> grouped;  // what its grouped attention may have
  bool router_bias = false;               // its sigmoid routers have a bias that balances them
};

const std::vector<FamilyRow>& families() {
  constexpr AttentionVectors kPlain{}, kInputs{.input_bias = true}, kBoth{.input_bias = true, .output_bias = true};
  const auto with = [](AttentionVectors vectors, HeadNorm norm) {
    vectors.norm = norm;
    return vectors;
  };
  constexpr HeadNorm kPerHead = HeadNorm::kPerHead, kWhole = HeadNorm::kWhole;
  static const std::vector<FamilyRow> rows = {
      {"llama", {kPlain, kBoth}},
      {"mistral", {kPlain}},
      {"qwen2", {kInputs}},
      {"qwen3", {with(kPlain, kPerHead), with(kBoth, kPerHead)}},
      {"mixtral", {kPlain}},
      {"qwen2_moe", {kPlain, kInputs}},
      {"qwen3_moe", {with(kPlain, kPerHead), with(kBoth, kPerHead)}},
      {"olmoe", {with(kPlain, kWhole), with(kBoth, kWhole)}},
      {"deepseek", {kPlain, kBoth}},
      {"deepseek_v2", {}},
      {"deepseek_v3", {}, true},
      {"kimi_k2", {}, true},
      {"glm4_moe", {kPlain, kInputs, with(kPlain, kPerHead), with(kInputs, kPerHead)}, true},
      {"megascale_moe", {kPlain}},
  };
  return rows;
}

class Lister {
 public:
  explicit Lister(const Model& model) : model_(model), h_(model.hidden) {
    const auto row = std::find_if(families().begin(), families().end(),
                                  [&](const FamilyRow& family) { return family.name == model.family; });
    if (row == families().end())
      fail(fmt::format("the parameters of model_type \"{}\" have no names here", excerpt(model.family)),
           fmt::format("{} are allowed", fmt::join(supported_families(), ", ")));
    family_ = &*row;
  }

  std::vector<Parameter> list() {
    add(Part::kEmbedding, {model_.vocab, h_});
    for (layer_ = 0; layer_ < model_.num_layers(); ++layer_) add_layer(model_.layer(static_cast<std::size_t>(layer_)));
    layer_ = -1;
    if (model_.final_norm_parameters != h_ || model_.head_vector_parameters != 0) unexplained("final norm or head");
    add(Part::kFinalNorm, {h_});
    if (!model_.tied_embeddings) add(Part::kHead, {model_.vocab, h_});
    for (int predict_idx = 0; predict_idx < model_.predict_layers; ++predict_idx) {
      layer_ = model_.num_layers() + predict_idx;
      add(Part::kPredictTokenNorm, {h_});
      add(Part::kPredictHiddenNorm, {h_});
      add(Part::kPredictProjection, {h_, 2 * h_});
      add_layer(model_.kinds[static_cast<std::size_t>(model_.predict_kind)]);
      add(Part::kPredictFinalNorm, {h_});
    }
    return std::move(parameters_);
  }

 private:
  [[noreturn]] void fail(const std::string& message, const std::string& hint = {}) const {
    throw UserError(model_.name, "", message, hint);
  }
  [[noreturn]] void unexplained(const std::string& what) const {
    fail(fmt::format("{} of {} has vectors that its family does not explain", what,
                     layer_ < 0 ? "the model" : fmt::format("layer {}", layer_)));
  }

  void add(Part part, std::vector<std::int64_t> shape) {
    parameters_.push_back({.part = part, .layer = layer_, .expert = expert_, .shape = std::move(shape)});
  }

  void add_layer(const LayerKind& kind) {
    if (kind.norm_parameters != 2 * h_) unexplained("a norm");
    add(Part::kAttentionNorm, {h_});
    switch (kind.attention.kind) {
      case AttentionKind::kGrouped: add_grouped(kind.attention); break;
      case AttentionKind::kLatent: add_latent(kind.attention); break;
      case AttentionKind::kLinear:
      case AttentionKind::kStateSpace: unexplained("the mixer");
    }
    add(Part::kFeedForwardNorm, {h_});
    if (kind.feed_forward.matrices != 3) unexplained("a feed-forward without gate");
    if (kind.feed_forward.is_moe())
      add_mixture(kind.feed_forward);
    else
      add_dense(kind.feed_forward);
  }

  void add_grouped(const Attention& attention) {
    const std::int64_t query = attention.heads * attention.head_dim, key = attention.kv_heads * attention.head_dim;
    const std::int64_t d = attention.head_dim;
    const auto count = [&](const AttentionVectors& vectors) {
      const std::int64_t norm = vectors.norm == HeadNorm::kPerHead ? 2 * d : query + key;
      return (vectors.input_bias ? query + 2 * key : 0) + (vectors.output_bias ? h_ : 0) +
             (vectors.norm == HeadNorm::kNone ? 0 : norm);
    };
    const auto vectors = std::find_if(
        family_->grouped.begin(), family_->grouped.end(),
        [&](const AttentionVectors& candidate) { return count(candidate) == attention.vector_parameters; });
    if (vectors == family_->grouped.end() || attention.output_gate || attention.shares_kv) unexplained("attention");
    const bool whole = vectors->norm == HeadNorm::kWhole;

    add(Part::kQuery, {query, h_});
    if (vectors->input_bias) add(Part::kQueryBias, {query});
    add(Part::kKey, {key, h_});
    if (vectors->input_bias) add(Part::kKeyBias, {key});
    add(Part::kValue, {key, h_});
    if (vectors->input_bias) add(Part::kValueBias, {key});
    if (vectors->norm != HeadNorm::kNone) {
      add(Part::kQueryNorm, {whole ? query : d});
      add(Part::kKeyNorm, {whole ? key : d});
    }
    add(Part::kAttentionOutput, {h_, attention.heads * attention.value_dim});
    if (vectors->output_bias) add(Part::kAttentionOutputBias, {h_});
  }

  void add_latent(const Attention& attention) {
    const std::int64_t q = attention.query_rank, c = attention.kv_rank, r = attention.rope_dim;
    const std::int64_t biases = q + c + r + h_;
    const bool bias = attention.vector_parameters == q + c + biases;
    if (!bias && attention.vector_parameters != q + c) unexplained("attention");
    if (q > 0) {
      add(Part::kQueryDown, {q, h_});
      if (bias) add(Part::kQueryDownBias, {q});
      add(Part::kQueryDownNorm, {q});
      add(Part::kQueryUp, {attention.heads * attention.head_dim, q});
    } else {
      add(Part::kQuery, {attention.heads * attention.head_dim, h_});
    }
    add(Part::kKvDown, {c + r, h_});
    if (bias) add(Part::kKvDownBias, {c + r});
    add(Part::kKvDownNorm, {c});
    add(Part::kKvUp, {attention.heads * (attention.head_dim - r + attention.value_dim), c});
    add(Part::kAttentionOutput, {h_, attention.heads * attention.value_dim});
    if (bias) add(Part::kAttentionOutputBias, {h_});
  }

  void add_dense(const FeedForward& dense) {
    const std::int64_t f = dense.width;
    const bool bias = dense.vector_parameters == 2 * f + h_;
    if (!bias && dense.vector_parameters != 0) unexplained("the feed-forward");
    add(Part::kGate, {f, h_});
    if (bias) add(Part::kGateBias, {f});
    add(Part::kUp, {f, h_});
    if (bias) add(Part::kUpBias, {f});
    add(Part::kDown, {h_, f});
    if (bias) add(Part::kDownBias, {h_});
  }

  void add_mixture(const FeedForward& mixture) {
    const bool scale = mixture.shared_width > 0 && mixture.vector_parameters == h_;
    if ((!scale && mixture.vector_parameters != 0) || mixture.expert_vector_parameters != 0) unexplained("the mixture");
    add(Part::kRouter, {mixture.experts, h_});
    if (family_->router_bias && mixture.router == RouterKind::kSigmoid) add(Part::kRouterBias, {mixture.experts});
    for (expert_ = 0; expert_ < mixture.experts; ++expert_) {
      add(Part::kGate, {mixture.width, h_});
      add(Part::kUp, {mixture.width, h_});
      add(Part::kDown, {h_, mixture.width});
    }
    expert_ = -1;
    if (mixture.shared_width == 0) return;
    add(Part::kSharedGate, {mixture.shared_width, h_});
    add(Part::kSharedUp, {mixture.shared_width, h_});
    add(Part::kSharedDown, {h_, mixture.shared_width});
    if (scale) add(Part::kSharedScale, {1, h_});
  }

  const Model& model_;
  const std::int64_t h_;
  const FamilyRow* family_ = nullptr;
  int layer_ = -1, expert_ = -1;
  std::vector<Parameter> parameters_;
};

}  // namespace

std::int64_t Parameter::elements() const {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

std::vector<Parameter> list_parameters(const Model& model) { return Lister(model).list(); }

const std::vector<std::string_view>& supported_families() {
  static const std::vector<std::string_view> names = [] {
    std::vector<std::string_view> of_rows;
    for (const FamilyRow& row : families()) of_rows.push_back(row.name);
    return of_rows;
  }();
  return names;
}

}  // namespace msmoe::executor
