// What the simulator says of the points of a figure.
#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "simulator/cost_model.h"
#include "simulator/validation/figures.h"

namespace msmoe::simulator::validation {
namespace {

double seconds_of(const Prediction& prediction, std::initializer_list<TimePart> parts) {
  Duration sum{};
  for (const TimePart part : parts) sum += prediction.part(part);
  return to_seconds(sum);
}

// The first layer that routes.
Module moe_layer(const Scenario& scenario) {
  for (const int kind : scenario.model.layers)
    if (scenario.model.kinds[static_cast<std::size_t>(kind)].feed_forward.is_moe())
      return lower_layer(scenario.model, scenario.plan, kind, {.gpus_per_node = scenario.cluster.gpus_per_node});
  throw UserError(scenario.file, "operators", scenario.model.name + " has no layer that routes");
}

double operator_seconds(const Scenario& scenario, const std::vector<std::string>& names) {
  const Module layer = moe_layer(scenario);
  const CostModel costs(scenario.cluster, scenario.plan);
  double sum = 0;
  for (const std::string& name : names) {
    const auto op = std::find_if(layer.forward.begin(), layer.forward.end(),
                                 [&](const Operator& candidate) { return candidate.name == name; });
    if (op == layer.forward.end())
      throw UserError(scenario.file, "operators", fmt::format("a layer has no forward operator '{}'", excerpt(name)));
    sum += to_seconds(costs.cost(*op).alone);
  }
  return sum;
}

// The top_k, on the line between two whole ones, at which an all-to-all of every token's top_k copies takes as long as
// gathering all tokens. Infinite, so to speak, where it never does: one more than there are experts.
double crossing(Scenario scenario) {
  const auto dispatch_seconds = [&](Dispatch dispatch, std::int64_t top_k) {
    scenario.plan.dispatch = dispatch;
    for (LayerKind& kind : scenario.model.kinds) kind.feed_forward.top_k = top_k;
    return operator_seconds(scenario, {"dispatch"});
  };
  const double gather = dispatch_seconds(Dispatch::kAllGather, 1);
  double before = 0;
  const std::int64_t experts = scenario.model.kinds.front().feed_forward.experts;
  for (std::int64_t top_k = 1; top_k <= experts; ++top_k) {
    const double exchange = dispatch_seconds(Dispatch::kAllToAll, top_k);
    if (exchange >= gather) return static_cast<double>(top_k) - (exchange - gather) / (exchange - before);
    before = exchange;
  }
  return static_cast<double>(experts + 1);
}

// What a system holds in flight that keeps every output of a forward pass, beyond what backward reads of them.
double unread_outputs(const Scenario& scenario, const Prediction& prediction) {
  const Program program = lower(scenario.model, scenario.cluster, scenario.plan);
  const std::size_t stage = prediction.memory.worst_stage;
  double chunks = 0, unread = 0;
  for (const Chunk& chunk : program.stages[stage].chunks) {
    chunks += 1;
    for (const std::int16_t module_idx : chunk.modules) {
      const Module& module = program.modules[static_cast<std::size_t>(module_idx)];
      std::vector<bool> counted(module.tensors.size());
      for (const Operator& op : module.forward)
        for (const std::int16_t id : op.writes) {
          const auto tensor = static_cast<std::size_t>(id);
          if (!counted[tensor] && !module.tensors[tensor].kept) unread += module.tensors[tensor].size.count;
          counted[tensor] = true;
        }
    }
  }
  return unread / chunks * static_cast<double>(prediction.memory.worst().in_flight);
}

double value_of(const Scenario& scenario, const FigurePoint& point) {
  if (point.measure == Measure::kOperators) return operator_seconds(scenario, point.operators);
  if (point.measure == Measure::kCrossing) return crossing(scenario);
  const Prediction prediction = simulate(scenario);
  const double exposed = to_seconds(prediction.exposed_communication());
  // The grouped and dense GEMMs of the experts, and attention itself: the paper's "FA + GEMM".
  const double products = seconds_of(prediction, {TimePart::kGemm, TimePart::kExpertGemm, TimePart::kAttention});
  switch (point.measure) {
    case Measure::kStepSeconds: return to_seconds(prediction.step);
    case Measure::kThroughput: return prediction.tokens_per_second_per_gpu();
    case Measure::kMfu: return prediction.mfu();
    case Measure::kExposed: return exposed;
    case Measure::kAttentionAndGemm: return products;
    case Measure::kOthers: return to_seconds(prediction.step) - exposed - products;
    case Measure::kBubble: return seconds_of(prediction, {TimePart::kBubble});
    case Measure::kOptimizer: return seconds_of(prediction, {TimePart::kOptimizer});
    case Measure::kActivations:
    case Measure::kMemory: {
      const StageMemory& worst = prediction.memory.worst();
      double bytes = worst.total().count + (point.keeps_outputs ? unread_outputs(scenario, prediction) : 0);
      if (point.measure == Measure::kActivations)  // all that is no state of the training
        bytes -= (worst[MemoryRow::kWeights] + worst[MemoryRow::kGradients] + worst[MemoryRow::kOptimizer]).count;
      return bytes * 1e-9;
    }
    case Measure::kOperators:
    case Measure::kCrossing: break;
  }
  return 0;
}

}  // namespace

std::vector<FigureValue> compare(const Figure& figure, const FigureSeries& series,
                                 const std::vector<double>& measured) {
  std::vector<FigureValue> values;
  for (std::size_t point_idx = 0; point_idx < measured.size(); ++point_idx) {
    FigureValue value{&figure, &series, &series.points[point_idx], measured[point_idx], 0, true};
    switch (figure.relative) {
      case Relative::kNone: break;
      case Relative::kFirst:
        value.predicted /= measured.front();
        value.compared = point_idx > 0;
        break;
      case Relative::kLast:
        value.predicted /= measured.back();
        value.compared = point_idx + 1 < measured.size();
        break;
      case Relative::kGain:
        value.compared = point_idx > 0;
        value.predicted = (measured[point_idx] - (value.compared ? measured[point_idx - 1] : 0)) / measured.front();
        break;
    }
    const double published = value.point->published;
    value.error = figure.error == ErrorKind::kRatio ? value.predicted / published - 1 : value.predicted - published;
    values.push_back(value);
  }
  return values;
}

std::vector<FigureValue> predict_figure(const Figure& figure) {
  std::vector<FigureValue> values;
  for (const FigureSeries& series : figure.series) {
    std::vector<double> measured;
    for (const FigurePoint& point : series.points) {
      const std::string name = figure.id + ", " + series.name + ", " + point.name;
      measured.push_back(value_of(scenario_of(point, name), point));
    }
    for (const FigureValue& value : compare(figure, series, measured)) values.push_back(value);
  }
  return values;
}

}  // namespace msmoe::simulator::validation
