#include "simulator/routing.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "core/error.h"
#include "core/text_file.h"
#include "simulator/random_draws.h"

namespace msmoe::simulator {
namespace {

constexpr const char* kAllowed =
    "1 or more: rows of the most loaded expert rank over balanced rows; or a file of tokens by expert, "
    "draw:std=0.032, draw:dirichlet=4";
constexpr double kLeastConcentration = 1e-3, kMostConcentration = 1e9;
constexpr std::int64_t kMeanSteps = 20;  // of a drawn routing, for one factor

const FeedForward* moe_of(const Model& model, std::size_t layer) {
  const FeedForward& ffn = model.kinds[static_cast<std::size_t>(model.layers[layer])].feed_forward;
  return ffn.is_moe() ? &ffn : nullptr;
}

std::vector<const FeedForward*> moe_layers(const Model& model) {
  std::vector<const FeedForward*> layers;
  for (std::size_t layer = 0; layer < model.layers.size(); ++layer)
    if (const FeedForward* ffn = moe_of(model, layer)) layers.push_back(ffn);
  return layers;
}

// A token goes to an expert once at most, so no share exceeds 1 / top_k; what is above goes to the others in
// proportion.
void limit_shares(std::vector<double>& shares, double top_k) {
  const double most = 1 / top_k;
  for (std::size_t round = 0; round < shares.size(); ++round) {
    double above = 0, below = 0;
    std::size_t open = 0;
    for (double& share : shares) {
      above += std::max(0.0, share - most);
      if (share < most) {
        below += share;
        ++open;
      }
      share = std::min(share, most);
    }
    if (above <= 1e-12 || open == 0) return;
    for (double& share : shares)
      if (share < most) share = below > 0 ? share * (1 + above / below) : above / static_cast<double>(open);
  }
}

std::vector<double> drawn_shares(double concentration, std::int64_t experts, Draws& draws) {
  std::vector<double> shares(static_cast<std::size_t>(experts));
  double sum = 0;
  for (double& share : shares) {
    share = draws.gamma(concentration);
    sum += share;
  }
  if (!(sum > 0)) {  // so small a concentration that all underflow: one expert has everything
    shares[draws.below(shares.size())] = 1;
    sum = 1;
  }
  for (double& share : shares) share /= sum;
  return shares;
}

double concentration_of(const Routing& routing, std::int64_t experts) {
  if (routing.kind == Routing::Kind::kDirichlet) return routing.value;
  const auto count = static_cast<double>(experts);
  const double largest = std::sqrt((1 / count) * (1 - 1 / count));  // all tokens to one expert
  if (routing.value >= largest)
    throw UserError("", "imbalance", fmt::format("shares of {} experts cannot deviate by {}", experts, routing.value),
                    fmt::format("less than {:.3g}", largest));
  return std::clamp((largest * largest / (routing.value * routing.value) - 1) / count, kLeastConcentration,
                    kMostConcentration);
}

std::vector<double> loads_of_shares(const std::vector<double>& shares, std::int64_t ep) {
  std::vector<double> loads(static_cast<std::size_t>(ep), 0.0);
  const std::size_t local = shares.size() / loads.size();
  for (std::size_t expert = 0; expert < shares.size(); ++expert)
    loads[std::min(expert / local, loads.size() - 1)] += shares[expert] * static_cast<double>(ep);
  return loads;
}

std::vector<double> loads_of_factor(double factor, const FeedForward& ffn, std::int64_t ep, Draws& draws) {
  const auto ranks = static_cast<double>(ep);
  const double most = std::min(ranks, static_cast<double>(ffn.experts) / static_cast<double>(ffn.top_k));
  const double largest = std::clamp(factor, 1.0, std::max(1.0, most));
  std::vector<double> loads(static_cast<std::size_t>(ep), ep > 1 ? (ranks - largest) / (ranks - 1) : 1);
  if (ep > 1) loads[draws.below(loads.size())] = largest;
  return loads;
}

std::vector<double> histogram_shares(const RoutingHistogram& histogram, std::int64_t step, std::size_t layer,
                                     std::size_t num_layers, const FeedForward& ffn) {
  const std::size_t step_idx = static_cast<std::size_t>(step) % histogram.tokens.size();
  const auto& layers = histogram.tokens[step_idx];
  if (layers.size() != 1 && layers.size() != num_layers)
    throw UserError(histogram.file, fmt::format("step {}", step_idx), fmt::format("has {} layers", layers.size()),
                    fmt::format("1 for all, or the {} MoE layers of the model", num_layers));
  const std::size_t layer_idx = layers.size() == 1 ? 0 : layer;
  const std::vector<double>& tokens = layers[layer_idx];
  if (static_cast<std::int64_t>(tokens.size()) != ffn.experts)
    throw UserError(histogram.file, fmt::format("step {}, layer {}", step_idx, layer_idx),
                    fmt::format("has {} experts", tokens.size()), fmt::format("the model has {}", ffn.experts));
  const double sum = std::accumulate(tokens.begin(), tokens.end(), 0.0);
  std::vector<double> shares;
  for (const double count : tokens) shares.push_back(count / sum);
  return shares;
}

}  // namespace

std::int64_t Routing::period() const {
  return is_drawn() ? 0 : kind == Kind::kHistogram ? static_cast<std::int64_t>(histogram->tokens.size()) : 1;
}

std::string Routing::text() const {
  switch (kind) {
    case Kind::kFactor: return fmt::format("{:.4g}", value);
    case Kind::kHistogram: return histogram->file;
    case Kind::kDeviation: return fmt::format("draw:std={}", value);
    case Kind::kDirichlet: return fmt::format("draw:dirichlet={}", value);
  }
  return {};
}

Routing parse_routing(const std::string& text, const Place& place) {
  const auto refuse = [&](const std::string& why) {
    throw UserError(place.file, place.key, fmt::format("'{}' {}", excerpt(text), why), kAllowed);
  };
  for (const auto& [prefix, kind] :
       {std::pair{"draw:std=", Routing::Kind::kDeviation}, std::pair{"draw:dirichlet=", Routing::Kind::kDirichlet}}) {
    if (!text.starts_with(prefix)) continue;
    const double value = parse_number(text.substr(std::string_view(prefix).size()), place);
    const bool allowed = kind == Routing::Kind::kDeviation
                             ? value > 0 && value < 1
                             : value >= kLeastConcentration && value <= kMostConcentration;
    if (!allowed) refuse("is not allowed");
    return {kind, value};
  }
  if (text.starts_with("draw:")) refuse("is no distribution");
  std::error_code no_file;
  if (std::filesystem::is_regular_file(text, no_file)) {
    Routing routing(Routing::Kind::kHistogram, 0);
    routing.histogram = std::make_shared<const RoutingHistogram>(parse_routing_histogram(text, read_text_file(text)));
    return routing;
  }
  if (text.find_first_of("0123456789") != 0 && !text.starts_with('-') && !text.starts_with('.'))
    refuse("is neither a number nor a file");
  const double factor = parse_number(text, place);
  if (!(factor >= 1)) refuse("is not allowed");
  return factor;
}

double largest_imbalance(const Model& model, const Plan& plan) {
  double largest = 1;
  for (const LayerKind& kind : model.kinds) {
    const FeedForward& ffn = kind.feed_forward;
    if (ffn.is_moe())
      largest = std::max(largest, std::min(static_cast<double>(plan.ep),
                                           static_cast<double>(ffn.experts) / static_cast<double>(ffn.top_k)));
  }
  return largest;
}

RankLoads rank_loads(const Routing& routing, const Model& model, const Plan& plan, std::uint64_t seed,
                     std::int64_t step) {
  constexpr std::uint64_t kStream = 0x2017;  // apart from the draws of stragglers and jitter
  const std::vector<const FeedForward*> layers = moe_layers(model);
  RankLoads loads;
  for (std::size_t layer = 0; layer < layers.size(); ++layer) {
    const FeedForward& ffn = *layers[layer];
    // A factor keeps its ranks from step to step.
    const std::uint64_t drawn_step = routing.is_drawn() ? static_cast<std::uint64_t>(step) : 0;
    Draws draws(draw_key({seed, kStream, drawn_step, layer}));
    if (routing.kind == Routing::Kind::kFactor) {
      loads.push_back(loads_of_factor(routing.value, ffn, plan.ep, draws));
      continue;
    }
    std::vector<double> shares = routing.kind == Routing::Kind::kHistogram
                                     ? histogram_shares(*routing.histogram, step, layer, layers.size(), ffn)
                                     : drawn_shares(concentration_of(routing, ffn.experts), ffn.experts, draws);
    limit_shares(shares, static_cast<double>(ffn.top_k));
    loads.push_back(loads_of_shares(shares, plan.ep));
  }
  return loads;
}

double imbalance_factor(const Routing& routing, const Model& model, const Plan& plan, std::uint64_t seed) {
  if (routing.kind == Routing::Kind::kFactor) return std::min(routing.value, largest_imbalance(model, plan));
  const std::int64_t steps = routing.is_drawn() ? kMeanSteps : routing.period();
  double sum = 0, count = 0;
  for (std::int64_t step = 0; step < steps; ++step) {
    for (const std::vector<double>& layer : rank_loads(routing, model, plan, seed, step)) {
      sum += *std::max_element(layer.begin(), layer.end());
      ++count;
    }
  }
  return count > 0 ? std::max(1.0, sum / count) : 1;
}

std::vector<Bytes> destination_bytes(const std::vector<double>& loads, Bytes payload) {
  std::vector<Bytes> bytes;
  for (const double load : loads) bytes.push_back(payload * (load / static_cast<double>(loads.size())));
  return bytes;
}

}  // namespace msmoe::simulator
