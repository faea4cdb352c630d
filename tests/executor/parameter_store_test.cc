#include "executor/parameters/parameter_store.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <string>
#include <vector>

#include "core/error.h"
#include "executor/parameters/initialize.h"
#include "kernels/cpu/number_formats.h"
#include "tests/executor/parameter_job.h"

namespace msmoe::executor {
namespace {

using kernels::View;

constexpr InitialValues kInitial{.seed = 7, .deviation = 0.1};
constexpr int kSteps = 3, kMicroBatches = 2;

// The gradient of a whole batch, whoever computes which part of it.
double batch_gradient(int step, const Parameter& parameter, std::int64_t element_idx) {
  const double size = some_value(static_cast<std::uint64_t>(step), parameter, element_idx);
  return element_idx % 3 == 0 ? -size : size;
}

UpdateSettings settings_of(int step) { return {.step = step, .rate = 0.01 / step, .decay = 0.3, .clip = 20}; }

double batch_norm(const Model& model, int step) {
  double sum = 0;
  for (const Parameter& parameter : list_parameters(model))
    for (std::int64_t idx = 0; parameter.is_counted() && idx < parameter.elements(); ++idx)
      sum += std::pow(batch_gradient(step, parameter, idx), 2);
  return std::sqrt(sum);
}

// AdamW by its formulas on one element; norms: by step.
double trained(const Parameter& parameter, std::int64_t element_idx, const std::vector<double>& norms) {
  double weight = initial_value(kInitial, parameter, element_idx), m = 0, v = 0;
  for (int step = 1; step <= kSteps; ++step) {
    const UpdateSettings settings = settings_of(step);
    const double clip = std::min(1.0, settings.clip / norms[static_cast<std::size_t>(step)]);
    const double gradient = batch_gradient(step, parameter, element_idx) * clip;
    m = settings.beta1 * m + (1 - settings.beta1) * gradient;
    v = settings.beta2 * v + (1 - settings.beta2) * gradient * gradient;
    const double direction =
        m / (1 - std::pow(settings.beta1, step)) / std::sqrt(v / (1 - std::pow(settings.beta2, step)));
    const bool is_matrix = parameter.shape.size() > 1;
    weight -= settings.rate * (direction + (is_matrix ? settings.decay * weight : 0));
  }
  return weight;
}

bool is_feed_forward(Part part) {
  return (part >= Part::kGate && part <= Part::kDown) || (part >= Part::kSharedGate && part <= Part::kSharedDown);
}
FeedForwardPart feed_forward_of(const Parameter& parameter) {
  if (parameter.expert >= 0) return FeedForwardPart::kExperts;
  return parameter.part >= Part::kSharedGate ? FeedForwardPart::kShared : FeedForwardPart::kDense;
}

// A parameter as operators see it: by the module's views. first_expert: of this rank.
View view_of(const ParameterStore& store, std::size_t module_idx, const LocalParameter& local, int first_expert,
             bool is_gradient) {
  const Part part = local.whole.part;
  if (!is_feed_forward(part)) return is_gradient ? store.gradient(module_idx, part) : store.weight(module_idx, part);
  const FeedForwardPart kind = feed_forward_of(local.whole);
  const bool is_down = part == Part::kDown || part == Part::kSharedDown;
  const bool is_up = part == Part::kUp || part == Part::kSharedUp;
  View all = is_down ? (is_gradient ? store.down_gradient(module_idx, kind) : store.down(module_idx, kind))
                     : (is_gradient ? store.gate_up_gradient(module_idx, kind) : store.gate_up(module_idx, kind));
  const std::int64_t rows = local.slice.rows(), expert = std::max(local.whole.expert - first_expert, 0);
  const std::int64_t first = rows * (is_down ? expert : 2 * expert + (is_up ? 1 : 0));
  EXPECT_LE(first + rows, all.rows);
  EXPECT_EQ(all.columns, local.slice.columns());
  all.data = static_cast<std::byte*>(all.data) + static_cast<std::size_t>(first * all.columns) * size_of(all.element);
  all.rows = rows;
  return all;
}

// Trains with gradients that ranks have parts of. Then gives every parameter of every rank to check_weights(local,
// view) and every piece of its states to check_state(piece). Returns the norms by step.
template <class BackendType, class CheckWeights, class CheckState>
std::vector<double> train(const Model& model, const Plan& plan, CheckWeights check_weights, CheckState check_state) {
  std::vector<double> norms(kSteps + 1);
  run_job<BackendType>(model, plan, [&](int rank, ParameterStore& store, auto communicator) {
    const MeshPlace place = place_of(plan, rank);
    const auto for_each_parameter = [&](std::size_t module_idx, auto act) {
      const LocalParameters local = local_parameters(model, plan, place, store.modules()[module_idx]);
      for (const LocalParameter& parameter : local.dense.parameters) act(parameter, 0, GroupKind::kDenseData);
      for (const LocalParameter& parameter : local.expert.parameters)
        act(parameter, local.expert.parameters[0].whole.expert, GroupKind::kExpertData);
    };
    initialize(store, kInitial);
    for (int step = 1; step <= kSteps; ++step) {
      for (int micro_batch = 0; micro_batch < kMicroBatches; ++micro_batch)
        for (std::size_t module_idx = store.modules().size(); module_idx-- > 0;) {
          store.begin_use(module_idx);
          store.begin_use(module_idx);
          store.begin_gradients(module_idx);
          for_each_parameter(module_idx, [&](const LocalParameter& local, int first_expert, GroupKind kind) {
            // Contributor k of K has a part of k + 1 in K (K + 1) / 2, the same in all micro-batches.
            const int replicas = communicator(kind).size(),
                      k = communicator(kind).rank() * local.sharers + place.attention % local.sharers;
            const double holders = replicas * local.sharers;
            const double part = 2 * (k + 1) / (holders * (holders + 1)) / kMicroBatches;
            const View gradient = view_of(store, module_idx, local, first_expert, true);
            for_each_element(local, 0, local.slice.size(), [&](std::int64_t idx, std::int64_t at) {
              gradient.as<float>()[at] += static_cast<float>(part * batch_gradient(step, local.whole, idx));
            });
          });
          store.end_use(module_idx);
          store.end_gradients(module_idx);
          store.end_use(module_idx);
        }
      store.reduce_gradients();
      store.sum_shared_gradients();
      const double norm = std::sqrt(store.squared_norm());
      if (rank == 0) norms[static_cast<std::size_t>(step)] = norm;
      store.update(settings_of(step));
      store.zero_gradients();
    }
    for (std::size_t module_idx = 0; module_idx < store.modules().size(); ++module_idx) {
      store.begin_use(module_idx);
      for_each_parameter(module_idx, [&](const LocalParameter& local, int first_expert, GroupKind) {
        check_weights(local, view_of(store, module_idx, local, first_expert, false));
      });
      store.end_use(module_idx);
    }
    for (const StatePiece& piece : store.held_pieces()) check_state(piece);
  });
  return norms;
}

// The largest distances from what one rank's AdamW comes to.
struct Distance {
  std::atomic<double> of_weights = 0, of_masters = 0;
};

void raise_to(std::atomic<double>& largest, double value) {
  double before = largest;
  while (!(value <= before) && !largest.compare_exchange_weak(before, value)) {
  }
}

// Norms have to agree within `tolerance` of themselves.
template <class BackendType = CpuBackend>
void measure(const Model& model, const Plan& plan, double tolerance, Distance& distance) {
  std::vector<double> expected(kSteps + 1);
  for (int step = 1; step <= kSteps; ++step) expected[static_cast<std::size_t>(step)] = batch_norm(model, step);
  std::atomic<std::int64_t> checked = 0;
  const auto compare = [&](const LocalParameter& local, std::int64_t begin, std::int64_t end, const View& values,
                           std::atomic<double>& largest) {
    for_each_element(local, begin, end, [&](std::int64_t idx, std::int64_t at) {
      const double value = values.element == kernels::Element::kFp32
                               ? values.as<float>()[at]
                               : kernels::cpu::from_bf16(values.as<std::uint16_t>()[at]);
      raise_to(largest, std::abs(value - trained(local.whole, idx, expected)));
    });
  };
  const std::vector<double> norms = train<BackendType>(
      model, plan,
      [&](const LocalParameter& local, const View& weights) {
        compare(local, 0, local.slice.size(), weights, distance.of_weights);
        checked += local.slice.size();
      },
      [&](const StatePiece& piece) {
        if (piece.parameter->whole.part == Part::kRouterBias) return;
        const View masters{piece.state(StateKind::kMaster), 1, piece.end - piece.begin};
        compare(*piece.parameter, piece.begin, piece.end, masters, distance.of_masters);
      });
  EXPECT_GE(checked, count_parameters(model).total);
  for (int step = 1; step <= kSteps; ++step) {
    const auto idx = static_cast<std::size_t>(step);
    EXPECT_NEAR(norms[idx], expected[idx], tolerance * expected[idx]);
    EXPECT_GT(expected[idx], settings_of(step).clip);  // else nothing would tell of the clipping
  }
}

// Every plan that store takes, at every ZeRO stage.
std::vector<ModelAndPlan> all_plans() {
  std::vector<ModelAndPlan> plans;
  for (ModelAndPlan each : plans_of_every_kind())
    for (each.plan.zero = 0; each.plan.zero <= 3; ++each.plan.zero) {
      if (each.plan.zero >= 2 && each.plan.schedule == PipelineSchedule::kDualPipe) continue;
      plans.push_back(each);
      plans.back().name += ", ZeRO-" + std::to_string(each.plan.zero);
    }
  return plans;
}

TEST(ParameterStore, EveryPlanAndZeroStageTrainsAsOneRank) {
  for (const auto& [name, model, plan] : all_plans()) {
    Distance distance;
    measure(model, plan, 1e-6, distance);
    EXPECT_LT(distance.of_weights, 1e-6) << name;
    EXPECT_LT(distance.of_masters, 1e-6) << name;
  }
}

// Each contribution is rounded to 8 bits, by 2^-9 of it at most; AdamW's steps are 0.01 (1 + 1/2 + 1/3) together, and
// moved by about as much of themselves.
TEST(ParameterStore, GradientsCrossWiresInBf16AndAreSummedInFp32) {
  for (auto [name, model, plan] : all_plans()) {
    if (group_of(GroupKind::kDenseData, plan, 1).size == 1) continue;
    plan.grad_wire = WireFormat::kBf16;
    Distance distance;
    measure(model, plan, 1e-3, distance);
    EXPECT_LT(distance.of_weights, 0.02 * 0x1p-8) << name;
    EXPECT_GT(distance.of_weights, 1e-6) << name;  // it was rounded indeed
  }
}

// Masters keep what weights lose: half a unit in the last of 8 bits, of weights below 2.
TEST(ParameterStore, WeightsInBf16HaveMastersInFp32) {
  for (const auto& [name, model, plan] : all_plans()) {
    if (plan.zero % 2 == 0) continue;
    Distance distance;
    measure<NarrowBackend>(model, plan, 1e-6, distance);
    EXPECT_LT(distance.of_masters, 1e-6) << name;
    EXPECT_LT(distance.of_weights, 0x1p-8) << name;
    EXPECT_GT(distance.of_weights, 1e-4) << name;
  }
}

// Three experts too busy, too idle and as busy as the mean, which is 5.
TEST(ParameterStore, RouterBiasesBalance) {
  const Model model = latent_model();
  run_job(model, Plan{}, [&](int, ParameterStore& store, auto) {
    const std::size_t layer_1 = 2;
    ASSERT_EQ(store.modules()[layer_1], (ModuleId{ModuleKind::kLayer, 1}));
    store.update_router_bias(layer_1, std::vector<std::int64_t>{6, 4, 5, 5, 5, 5, 5, 5}, 0.25);
    store.update_router_bias(layer_1, std::vector<std::int64_t>{40, 0, 0, 0, 0, 0, 0, 0}, 0.25);
    const float* const bias = store.router_bias(layer_1).as<float>();
    EXPECT_EQ(std::vector<float>(bias, bias + 8), (std::vector<float>{-0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25}));
    EXPECT_FALSE(store.router_bias(1));  // the first layer is dense
  });
}

TEST(ParameterStore, ATiedHeadUsesTheEmbedding) {
  const Model model = tied_model();
  Plan plan;
  plan.zero = 3;
  run_job(model, plan, [&](int, ParameterStore& store, auto) {
    const std::size_t head = store.modules().size() - 1;
    store.begin_use(head);
    store.begin_gradients(head);
    EXPECT_TRUE(store.has(head, Part::kHead));
    EXPECT_EQ(store.weight(head, Part::kHead).data, store.weight(0, Part::kEmbedding).data);
    EXPECT_EQ(store.gradient(head, Part::kHead).data, store.gradient(0, Part::kEmbedding).data);
    EXPECT_FALSE(store.has(0, Part::kFinalNorm));
    store.end_gradients(head);
    store.end_use(head);
  });
}

TEST(ParameterStore, DualPipeTakesNoSharedGradients) {
  const Model model = latent_model();
  Plan plan;
  plan.gpus = plan.pp = 2;
  plan.schedule = PipelineSchedule::kDualPipe;
  plan.zero = 2;
  ThreadWorld world(plan);
  CpuBackend backend;
  EXPECT_THROW(ParameterStore(model, plan, place_of(plan, 0), modules_of_rank(model, plan, 0), backend,
                              [&](GroupKind kind) -> Communicator& { return world.communicator(kind, 0); }),
               UserError);
}

}  // namespace
}  // namespace msmoe::executor
