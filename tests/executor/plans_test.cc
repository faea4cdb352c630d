// Whatever the plan, it trains as one rank does: losses, norms and all gradients, over 10 steps of four families.
//
// Some of the plans run, or all (plan_stride).
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "tests/executor/plan_draws.h"
#include "tests/executor/rank_processes.h"

namespace msmoe::executor {
namespace {

constexpr int kSteps = 10;
constexpr std::size_t kPlansOfAModel = 36;
constexpr double kBiasRate = 0.01;
constexpr LossCoefficients kCoefficients{.auxiliary = 0.02, .z = 0.001};

UpdateSettings settings_of(int step) { return {.step = step + 1, .rate = 2e-3, .beta1 = 0.9, .clip = 1}; }

// What a run leaves: results of each step, and each parameter's first moments after the first, in our order.
struct Record {
  std::vector<StepResult> steps;
  std::map<std::string, std::vector<float>> moments;
};
std::string key_of(const Parameter& parameter) {
  return std::to_string(static_cast<int>(parameter.part)) + "/" + std::to_string(parameter.layer) + "/" +
         std::to_string(parameter.expert);
}

template <class Visit>
void for_each_moment(const ParameterStore& store, Visit visit) {
  for (const StatePiece& piece : store.held_pieces()) {
    const float* moments = piece.data[static_cast<std::size_t>(StateKind::kFirstMoment)];
    if (moments == nullptr) continue;
    const std::int64_t columns = whole_box(piece.parameter->whole).columns();
    for_each_row(piece.parameter->slice, piece.begin, piece.end,
                 [&](std::int64_t row, std::int64_t begin, std::int64_t end, std::int64_t at) {
                   for (std::int64_t column = begin; column < end; ++column)
                     visit(piece.parameter->whole, row * columns + column, moments[at + column - begin]);
                 });
  }
}

Record one_rank(const TinyModel& tiny) {
  Plan plan = tiny.plan();
  plan.micro_batch = plan.global_batch;
  const std::unique_ptr<Communicator> alone = lone_communicator();
  TinyRank rank(
      tiny, plan, 0, [&](GroupKind) -> Communicator& { return *alone; }, kCoefficients);
  Record run;
  for (int step = 0; step < kSteps; ++step) {
    run.steps.push_back(rank.accumulate(step));
    rank.trainer.update(settings_of(step), kBiasRate);
    if (step > 0) continue;
    for_each_moment(rank.trainer.store(), [&](const Parameter& parameter, std::int64_t at, float value) {
      std::vector<float>& values = run.moments[key_of(parameter)];
      values.resize(static_cast<std::size_t>(parameter.elements()));
      values[static_cast<std::size_t>(at)] = value;
    });
  }
  return run;
}

void expect_same_gradients(const Record& expected, const ParameterStore& store) {
  std::map<std::string, double> worst;
  for_each_moment(store, [&](const Parameter& parameter, std::int64_t at, float value) {
    const double reference = expected.moments.at(key_of(parameter))[static_cast<std::size_t>(at)];
    double& difference = worst[key_of(parameter)];
    difference = std::max(difference, std::isfinite(value) ? std::abs(value - reference) : 1e30);
  });
  for (const auto& [key, difference] : worst) {
    double largest = 1e-30;
    for (const float value : expected.moments.at(key)) largest = std::max(largest, std::abs(double{value}));
    EXPECT_LT(difference, 1e-4 * largest) << "gradient of part/layer/expert " << key;
  }
}

void train(const TinyModel& tiny, const Plan& plan, const Record& expected, int rank_idx, Rendezvous& rendezvous) {
  Communicators communicators(plan, rank_idx, rendezvous);
  TinyRank rank(
      tiny, plan, rank_idx, [&](GroupKind kind) -> Communicator& { return communicators.of(kind); }, kCoefficients);
  for (int step = 0; step < kSteps; ++step) {
    const StepResult result = rank.accumulate(step);
    const StepResult& reference = expected.steps[static_cast<std::size_t>(step)];
    EXPECT_NEAR(result.loss, reference.loss, 1e-5 * reference.loss) << "step " << step;
    EXPECT_NEAR(result.gradient_norm, reference.gradient_norm, 1e-5 * reference.gradient_norm) << "step " << step;
    EXPECT_NEAR(result.auxiliary, reference.auxiliary, 1e-4 * reference.auxiliary) << "step " << step;
    EXPECT_NEAR(result.z, reference.z, 1e-4 * std::abs(reference.z)) << "step " << step;
    EXPECT_NEAR(result.expert_load, reference.expert_load, 1e-6) << "step " << step;
    rank.trainer.update(settings_of(step), kBiasRate);
    if (step == 0) expect_same_gradients(expected, rank.trainer.store());
    if (testing::Test::HasFailure()) throw std::runtime_error("step " + std::to_string(step) + " differs");
  }
}

class PlansTest : public testing::TestWithParam<std::string> {};

TEST_P(PlansTest, TrainAsOneRank) {
  const TinyModel tiny(GetParam());
  const Record expected = one_rank(tiny);
  const std::vector<Plan> plans = draw_plans(tiny, 1, kPlansOfAModel);
  const std::size_t stride = plan_stride();
  // Others of them for each model.
  const auto model = std::find(tiny_models().begin(), tiny_models().end(), GetParam()) - tiny_models().begin();
  for (std::size_t i = static_cast<std::size_t>(model) % stride; i < plans.size(); i += stride) {
    const Plan& plan = plans[i];
    if (std::getenv("MSMOE_SHOW_PLANS") != nullptr) std::puts(describe_plan(plan).c_str());
    SCOPED_TRACE(std::to_string(i) + ": " + describe_plan(plan) + "\n" + plan_to_json(plan));
    const std::vector<std::string> outcomes = outcomes_of_ranks(
        static_cast<int>(plan.gpus),
        [&](int rank, Rendezvous& rendezvous) { train(tiny, plan, expected, rank, rendezvous); },
        std::chrono::seconds(120));
    for (std::size_t rank = 0; rank < outcomes.size(); ++rank) EXPECT_EQ(outcomes[rank], "") << "rank " << rank;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, PlansTest, testing::ValuesIn(tiny_models()),
                         [](const auto& family) { return family.param; });

}  // namespace
}  // namespace msmoe::executor
