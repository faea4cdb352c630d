// What lives in a rank's arena at its worst, measured while it trains, against the memory plan: to the byte.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "core/memory_plan.h"
#include "core/schedule.h"
#include "tests/executor/plan_draws.h"
#include "tests/executor/rank_processes.h"

namespace msmoe::executor {
namespace {

constexpr std::size_t kPlansOfAModel = 24;

// Merged passes run one after the other here. The plan is of those that run side by side: it adds what both need.
Bytes workspace_of_serial_passes(const Program& program, const Stage& stage) {
  Bytes worst, passed;
  for (const Chunk& chunk : stage.chunks) {
    for (const std::int16_t module_idx : chunk.modules) {
      const ModuleMemory memory = summarize(program.modules[static_cast<std::size_t>(module_idx)],
                                            pipeline_shape(program.plan).parts_backward());
      worst = std::max({worst, memory.forward_peak, memory.backward_peak, memory.input_peak});
      passed = std::max(passed, memory.passed);
    }
  }
  return worst + passed * 2;
}

void expect_planned_memory(const TinyModel& tiny, const Plan& plan, TinyRank& rank) {
  const Program program = executable_program(tiny.model, tiny.cluster, plan);
  const auto stage_idx = static_cast<std::size_t>(rank.trainer.place().stage);
  const StageMemory planned = plan_memory(tiny.model, tiny.cluster, program).stages[stage_idx];
  const ArenaPeak measured = rank.trainer.runner().arena_peak();
  EXPECT_DOUBLE_EQ(measured.activations.count, planned[MemoryRow::kActivations].count);

  const Bytes transient = measured.workspace + measured.logits;
  const Bytes planned_transient = planned[MemoryRow::kWorkspace] + planned[MemoryRow::kLogits];
  if (pipeline_shape(plan).has_merged_slots()) {
    EXPECT_DOUBLE_EQ(transient.count, workspace_of_serial_passes(program, program.stages[stage_idx]).count);
    EXPECT_LE(transient, planned_transient);
  } else {
    EXPECT_DOUBLE_EQ(transient.count, planned_transient.count);
  }
  const double live = (measured.activations + transient).count;
  const auto arena = static_cast<double>(rank.trainer.runner().arena_bytes());
  if (std::getenv("MSMOE_SHOW_PLANS") != nullptr)
    std::printf("stage %zu: activations %.0f, transient %.0f, arena %.0f: %.4f\n", stage_idx,
                measured.activations.count, transient.count, arena, arena / live);
  EXPECT_GE(arena, std::max(measured.activations, transient).count);
}

class MemoryTest : public testing::TestWithParam<std::string> {};

TEST_P(MemoryTest, IsAsPlanned) {
  const TinyModel tiny(GetParam());
  const std::vector<Plan> plans = draw_plans(tiny, 2, kPlansOfAModel);
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const Plan& plan = plans[i];
    if (std::getenv("MSMOE_SHOW_PLANS") != nullptr) std::puts(describe_plan(plan).c_str());
    SCOPED_TRACE(std::to_string(i) + ": " + describe_plan(plan) + "\n" + plan_to_json(plan));
    run_ranks(static_cast<int>(plan.gpus), [&](int rank_idx, Rendezvous& rendezvous) {
      Communicators communicators(plan, rank_idx, rendezvous);
      TinyRank rank(tiny, plan, rank_idx, [&](GroupKind kind) -> Communicator& { return communicators.of(kind); });
      rank.accumulate(0);
      expect_planned_memory(tiny, plan, rank);
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Families, MemoryTest, testing::ValuesIn(tiny_models()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace msmoe::executor
