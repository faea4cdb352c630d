// Plans that change the numbers: fewer bits on the wires, and experts' ranks that take only so many tokens.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>

#include "tests/executor/rank_processes.h"
#include "tests/executor/tiny_training.h"

namespace msmoe::executor {
namespace {

constexpr int kSteps = 10;

std::vector<StepResult> train_alone(const TinyModel& tiny, Plan plan) {
  plan.gpus = plan.attention_degree = plan.context_degree = plan.ep = plan.etp = plan.pp = 1;
  const std::unique_ptr<Communicator> alone = lone_communicator();
  return train_tiny(
      tiny, plan, 0, [&](GroupKind) -> Communicator& { return *alone; }, kSteps);
}

// Checks what every rank got.
void train_together(const TinyModel& tiny, const Plan& plan,
                    const std::function<void(const std::vector<StepResult>&)>& check) {
  SCOPED_TRACE(describe_plan(plan));
  ASSERT_TRUE(is_valid(tiny.model, tiny.cluster, plan)) << broken_rule(tiny.model, tiny.cluster, plan);
  for (const std::string& outcome :
       outcomes_of_ranks(static_cast<int>(plan.gpus), [&](int rank, Rendezvous&rendezvous) {
         Communicators communicators(plan, rank, rendezvous);
         check(train_tiny(
             tiny, plan, rank, [&](GroupKind kind) -> Communicator& { return communicators.of(kind); }, kSteps));
       }))
    EXPECT_EQ(outcome, "");
}

// Some of everything that exchanges activations.
std::vector<Plan> exchanging_plans(const TinyModel& tiny) {
  Plan ulysses = tiny.plan(), tensor = ulysses, expert_tensor = ulysses;
  ulysses.gpus = tensor.gpus = expert_tensor.gpus = 4;
  ulysses.attention = AttentionParallelism::kSequence;
  ulysses.attention_degree = ulysses.ep = 2;
  tensor.attention_degree = tensor.ep = 2;
  tensor.dispatch = Dispatch::kAllGather;
  tensor.zero = 2;
  expert_tensor.ep = expert_tensor.etp = 2;
  expert_tensor.recompute = kRecomputeSelective;
  expert_tensor.in_layer_overlap = InLayerOverlap::kIntraOperator;
  return {ulysses, tensor, expert_tensor};
}

double worst_difference(const std::vector<StepResult>& a, const std::vector<StepResult>& b) {
  double worst = 0;
  for (std::size_t step = 0; step < a.size(); ++step)
    worst = std::max(worst, std::abs(a[step].loss - b[step].loss) / b[step].loss);
  return worst;
}

// bf16 has 8 bits, E4M3 has 4: what is exchanged is off by up to 2^-9 and 2^-5, and errors of many values mostly
// cancel.
TEST(Wires, FewerBitsChangeTheLossALittle) {
  const TinyModel tiny("qwen3_moe");
  for (Plan plan : exchanging_plans(tiny)) {
    const std::vector<StepResult> exact = train_alone(tiny, plan);
    for (const auto& [format, most] : {std::pair{WireFormat::kBf16, 2e-3}, std::pair{WireFormat::kFp8, 2e-2}}) {
      plan.act_wire = format;
      train_together(tiny, plan, [&, most = most](const std::vector<StepResult>& results) {
        const double difference = worst_difference(results, exact);
        EXPECT_LT(difference, most);
        EXPECT_GT(difference, 1e-6) << "nothing was rounded";
      });
    }
  }
}

TEST(Wires, GradientsInBf16) {
  const TinyModel tiny("mixtral");
  Plan plan = tiny.plan();
  plan.gpus = 4;
  plan.ep = 2;
  const std::vector<StepResult> exact = train_alone(tiny, plan);
  for (const int zero : {0, 1, 2, 3}) {
    plan.zero = zero;
    plan.grad_wire = WireFormat::kBf16;
    train_together(tiny, plan, [&](const std::vector<StepResult>& results) {
      const double difference = worst_difference(results, exact);
      EXPECT_LT(difference, 2e-3);
      EXPECT_NE(results.front().gradient_norm, exact.front().gradient_norm) << "nothing was rounded";
      EXPECT_NEAR(results.front().gradient_norm, exact.front().gradient_norm, 5e-3 * exact.front().gradient_norm);
    });
  }
}

TEST(Capacity, EnoughOfItDropsNothing) {
  const TinyModel tiny("mixtral");
  Plan plan = tiny.plan();
  plan.gpus = plan.ep = 2;
  const std::vector<StepResult> exact = train_alone(tiny, plan);
  plan.capacity = 2;  // all tokens of both ranks
  train_together(tiny, plan, [&](const std::vector<StepResult>& results) {
    EXPECT_LT(worst_difference(results, exact), 1e-5);
    for (const StepResult& result : results) EXPECT_EQ(result.dropped, 0);
  });
}

TEST(Capacity, WhatHasNoRoomIsCountedAndTrainsOn) {
  const TinyModel tiny("mixtral");
  const std::int64_t layers = tiny.model.num_layers();
  for (const Dispatch dispatch : {Dispatch::kAllToAll, Dispatch::kAllGather}) {
    Plan plan = tiny.plan();
    plan.gpus = 4;
    plan.ep = plan.etp = 2;
    plan.dispatch = dispatch;
    plan.capacity = 0.5;
    const std::int64_t copies = plan.global_batch * plan.seq_len * tiny.model.kinds[0].feed_forward.top_k * layers;
    train_together(tiny, plan, [&](const std::vector<StepResult>& results) {
      for (const StepResult& result : results) {
        EXPECT_GE(result.dropped, copies / 2);
        EXPECT_LT(result.dropped, copies);
        EXPECT_TRUE(std::isfinite(result.loss) && std::isfinite(result.gradient_norm));
      }
      EXPECT_LT(results.back().loss, results.front().loss);
    });
  }
}

// The same choice of what is dropped, however the experts' rows travel.
TEST(Capacity, DispatchesDropTheSame) {
  const TinyModel tiny("mixtral");
  Plan plan = tiny.plan();
  plan.gpus = plan.ep = 2;
  plan.capacity = 0.8;
  std::array<float, kSteps> losses{};
  const std::string file = testing::TempDir() + "/losses_of_all_to_all_" + std::to_string(::getpid());
  train_together(tiny, plan, [&](const std::vector<StepResult>& results) {
    for (int step = 0; step < kSteps; ++step)
      losses[static_cast<std::size_t>(step)] = static_cast<float>(results[static_cast<std::size_t>(step)].loss);
    std::FILE* out = std::fopen(file.c_str(), "wb");
    std::fwrite(losses.data(), sizeof(float), losses.size(), out);
    std::fclose(out);
  });
  std::FILE* in = std::fopen(file.c_str(), "rb");
  ASSERT_NE(in, nullptr);
  ASSERT_EQ(std::fread(losses.data(), sizeof(float), losses.size(), in), losses.size());
  std::fclose(in);
  std::remove(file.c_str());
  plan.dispatch = Dispatch::kAllGather;
  train_together(tiny, plan, [&](const std::vector<StepResult>& results) {
    for (std::size_t step = 0; step < losses.size(); ++step)
      EXPECT_NEAR(results[step].loss, losses[step], 1e-5 * losses[step]);
  });
}

}  // namespace
}  // namespace msmoe::executor
