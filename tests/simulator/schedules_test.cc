// Every schedule through the job builder and the engine, on many small random pipelines.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "core/plan_names.h"
#include "core/schedule.h"
#include "simulator/compose.h"
#include "simulator/job.h"
#include "simulator/module_times.h"
#include "tests/simulator/pipeline_checker.h"
#include "tests/simulator/timeline_checker.h"

namespace msmoe::simulator {
namespace {

class Pipelines {
 public:
  explicit Pipelines(std::uint64_t seed) : random_(seed) {
    cluster_.gpu = {.name = "test", .bf16_peak = {989e12}, .hbm = {3.35e12}, .sms = 132};
    cluster_.nvlink = {450e9};
    cluster_.nic = {50e9};
    cluster_.nvlink_latency = seconds(2e-6);
    cluster_.network_latency = seconds(5e-6);
    cluster_.fits = operator_fits(find_profile(kBaseProfile));
  }

  struct One {
    Model model;
    Program program;
  };

  One next() {
    One one;
    one.model.hidden = 1024;
    Plan& plan = one.program.plan;
    plan.schedule = static_cast<PipelineSchedule>(number(0, 4));
    plan.pp = number(1, 4);
    std::int64_t micro_batches = number(1, 6);
    switch (plan.schedule) {
      case PipelineSchedule::k1F1B:
        plan.merge_passes = coin();
        if (plan.merge_passes) plan.pp = 1;
        break;
      case PipelineSchedule::kInterleaved:
        plan.vpp = number(2, 3);
        plan.merge_passes = coin();
        micro_batches += plan.pp;
        break;
      case PipelineSchedule::kZbV: plan.vpp = 2; break;
      case PipelineSchedule::kZbH1: break;
      case PipelineSchedule::kDualPipe: plan.pp = 2 * number(1, 2); micro_batches = 2 * (plan.pp + number(0, 2));
    }
    plan.delay_weight_gradients = coin();
    plan.overlap_p2p = coin();
    plan.overlap_param_gather = coin();
    plan.overlap_grad_reduce = coin();
    plan.seq_len = 1024;
    plan.attention_degree = plan.ep = 8;
    const std::int64_t dp = number(1, 2);
    plan.gpus = plan.pp * dp * 8;
    plan.global_batch = dp * micro_batches;
    one.program.modules = {module(ModuleKind::kEmbedding), module(ModuleKind::kLayer), module(ModuleKind::kHead)};
    std::vector<Chunk> chunks(static_cast<std::size_t>(plan.virtual_stages()));
    for (Chunk& chunk : chunks)
      chunk = {std::vector<std::int16_t>(static_cast<std::size_t>(number(0, 2)), 1), {1e7, 1e7}};
    chunks.front().modules.insert(chunks.front().modules.begin(), 0);
    chunks.back().modules.push_back(2);
    one.program.stages = lay_out_stages(pipeline_shape(plan), chunks);
    return one;
  }
  const Cluster& cluster() const { return cluster_; }

 private:
  std::int64_t number(std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(random_);
  }
  bool coin() { return number(0, 1) == 1; }

  Operator operation(const char* name, Pass pass, bool exchanges, std::vector<std::int16_t> waits) {
    Operator op{.name = name, .pass = pass};
    if (exchanges) {
      op.stream = Stream::kCommunication;
      op.transfer = {Collective::kAllToAll, GroupKind::kExpert, {static_cast<double>(number(1, 20)) * 1e6}};
      op.sms = 20;
    } else {
      op.compute = {.kind = ComputeKind::kGemm, .m = 1024, .n = 256 * number(1, 8), .k = 1024};
      op.compute.flops = {2.0 * 1024 * 1024 * static_cast<double>(op.compute.n)};
    }
    op.waits = std::move(waits);
    return op;
  }
  Module module(ModuleKind kind) {
    Module made;
    made.kind = kind;
    made.forward = {operation("in", Pass::kForward, false, {}), operation("exchange", Pass::kForward, true, {0}),
                    operation("out", Pass::kForward, false, {1})};
    made.backward = {
        operation("d_out", Pass::kBackwardInput, false, {}), operation("d_exchange", Pass::kBackwardInput, true, {0}),
        operation("w_out", Pass::kBackwardWeight, false, {0}), operation("d_in", Pass::kBackwardInput, false, {1})};
    return made;
  }

  std::mt19937_64 random_;
  Cluster cluster_;
};

std::string describe(const Plan& plan) {
  return fmt::format("{} pp {} vpp {} m {} merged {}", choice_name(kScheduleChoices, plan.schedule), plan.pp, plan.vpp,
                     plan.micro_batches(), plan.merge_passes);
}

Placement placement_of(const Plan& plan) {
  if (plan.schedule == PipelineSchedule::kZbV) return Placement::kV;
  return plan.schedule == PipelineSchedule::kDualPipe ? Placement::kBidirectional : Placement::kRoundRobin;
}

TEST(Schedules, TimelinesOfRandomPipelinesAreRight) {
  Pipelines pipelines(1);
  for (int i = 0; i < 10000; ++i) {
    const Pipelines::One one = pipelines.next();
    const Plan& plan = one.program.plan;
    const CostModel costs(pipelines.cluster(), plan);
    const IndexedJob indexed = make_job(one.program, one.model, costs);
    std::vector<TaskRun> runs;
    run(indexed.job, [&](const TaskRun& task) { runs.push_back(task); });
    PipelineChecker pipeline(indexed, runs, placement_of(plan), plan.pp, plan.vpp);
    ASSERT_EQ(pipeline.check(plan.micro_batches()), std::vector<std::string>{}) << describe(plan);
    for (std::int32_t stage = 0; stage < plan.pp; ++stage)
      ASSERT_LE(pipeline.peak_in_flight(stage), peak_in_flight(pipeline_shape(plan), stage)) << describe(plan);
    if (i % 20 == 0) {  // the rates, which take long
      ASSERT_EQ(TimelineChecker(indexed.job, runs).check(), std::vector<std::string>{}) << describe(plan);
    }
  }
}

TEST(Schedules, BoundsOfRandomPipelinesHold) {
  Pipelines pipelines(2);
  Composer composer;
  for (int i = 0; i < 1000; ++i) {
    const Pipelines::One one = pipelines.next();
    const CostModel costs(pipelines.cluster(), one.program.plan);
    const PipelineTimes times = make_pipeline_times(one.program, one.model, costs);
    EXPECT_LE(lower_bound_ps(times), composer.compose(times).step_ps) << describe(one.program.plan);
  }
}

}  // namespace
}  // namespace msmoe::simulator
