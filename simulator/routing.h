// Routing: how unevenly tokens go to experts, and what each rank gets of them.
//
//   factor      the most loaded rank of each layer has so many times the balanced rows, the others share the rest
//   histogram   tokens routed to each expert, read from a file
//   drawn       shares of the experts from a symmetric Dirichlet distribution of E experts and concentration a. The
//               variance of a share is (1/E)(1 - 1/E) / (E a + 1), by which a standard deviation stands for an a.
//               COMET gives 0.032 for production runs with 8 experts (arXiv 2502.19811); the shape is assumed.
//
// A layer's routing is the same in all its replicas and micro-batches; layers and steps have their own. Experts lie on
// EP ranks in order: expert e on rank e / (experts / ep). docs/imbalance.md describes the files.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/model.h"
#include "core/plan.h"
#include "core/units.h"
#include "core/units_text.h"

namespace msmoe::simulator {

struct RoutingHistogram {
  std::string file;
  // tokens[step][MoE layer][expert]; a single layer stands for all.
  std::vector<std::vector<std::vector<double>>> tokens;
};
// JSON where the text starts with '{', else CSV. name: for errors. Throws UserError.
RoutingHistogram parse_routing_histogram(const std::string& name, std::string_view text);

struct Routing {
  enum class Kind : std::uint8_t { kFactor, kHistogram, kDeviation, kDirichlet };
  Kind kind = Kind::kFactor;
  double value = 1;  // the factor; the standard deviation of shares; the concentration of each expert
  std::shared_ptr<const RoutingHistogram> histogram;  // kHistogram

  Routing() = default;
  Routing(double factor) : value(factor) {}  // a factor is a routing
  Routing(Kind k, double v) : kind(k), value(v) {}

  bool is_drawn() const { return kind == Kind::kDeviation || kind == Kind::kDirichlet; }
  bool is_even() const { return kind == Kind::kFactor && value <= 1; }
  // Steps after which it repeats; 0: never.
  std::int64_t period() const;
  std::string text() const;  // for people
};
// "1.5", "draw:std=0.032", "draw:dirichlet=4" or a file.
Routing parse_routing(const std::string& text, const Place& place);

// The imbalance that routing can reach at most: all tokens to the experts of one rank, as far as top-k lets them.
double largest_imbalance(const Model& model, const Plan& plan);

// loads[MoE layer][EP rank]: rows over balanced rows. Their mean is 1, and none exceeds what top-k allows.
using RankLoads = std::vector<std::vector<double>>;
// Throws UserError where a histogram does not fit the model, or where no shares vary so much.
RankLoads rank_loads(const Routing& routing, const Model& model, const Plan& plan, std::uint64_t seed,
                     std::int64_t step);

// Each layer waits for its most loaded rank: the mean over layers, and over the first steps, of the largest load.
double imbalance_factor(const Routing& routing, const Model& model, const Plan& plan, std::uint64_t seed);

// What one rank sends to each rank of its expert group in an all-to-all of `payload` under balance, itself included.
std::vector<Bytes> destination_bytes(const std::vector<double>& loads, Bytes payload);

}  // namespace msmoe::simulator
