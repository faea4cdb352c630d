#include "simulator/job.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <string>

#include "core/plan_names.h"
#include "core/schedule.h"
#include "simulator/compose.h"
#include "simulator/module_times.h"
#include "tests/simulator/timeline_checker.h"

namespace msmoe::simulator {
namespace {

Cluster eight_gpu_nodes() {
  Cluster cluster;
  cluster.name = "test";
  cluster.gpu.bf16_peak = {989e12};
  cluster.gpu.hbm = {3.35e12};
  cluster.gpu.sms = 132;
  cluster.nvlink = {450e9};
  cluster.nvlink_latency = seconds(2e-6);
  cluster.nic = {50e9};
  cluster.network_latency = seconds(5e-6);
  cluster.fits = operator_fits(find_profile(kBaseProfile));
  return cluster;
}

Operator gemm(const char* name, std::int64_t m, std::int64_t n, std::int64_t k, std::vector<std::int16_t> waits) {
  Operator op{.name = name};
  op.compute = {.kind = ComputeKind::kGemm, .m = m, .n = n, .k = k};
  op.compute.flops = {2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k)};
  op.compute.hbm = {2.0 * static_cast<double>(m * k + k * n + m * n)};
  op.waits = std::move(waits);
  return op;
}

Operator exchange(const char* name, double bytes, std::vector<std::int16_t> waits) {
  Operator op{.name = name, .stream = Stream::kCommunication};
  op.transfer = {Collective::kAllToAll, GroupKind::kExpert, {bytes}};
  op.sms = 20;
  op.waits = std::move(waits);
  return op;
}

// What a lowered model looks like from here: an embedding, one kind of layer, a head; a forward is a product, an
// exchange beside an independent product, and a product of both; a backward is twice that.
struct Synthetic {
  Model model;
  Plan plan;
  Cluster cluster = eight_gpu_nodes();
  Program program;
};

std::vector<Operator> layer_pass(std::mt19937_64& random, int repeats) {
  const auto size = [&] { return std::uniform_int_distribution<std::int64_t>(4, 32)(random) * 256; };
  std::vector<Operator> operators;
  for (int i = 0; i < repeats; ++i) {
    const auto first = static_cast<std::int16_t>(operators.size());
    const auto after = [&](int offset) { return static_cast<std::int16_t>(first + offset); };
    operators.push_back(
        gemm("in", 4096, size(), 4096, first > 0 ? std::vector{after(-1)} : std::vector<std::int16_t>{}));
    operators.push_back(exchange("exchange", 2.0 * 4096 * static_cast<double>(size()), {after(0)}));
    operators.push_back(gemm("beside", 4096, size(), 2048, {after(0)}));
    operators.push_back(gemm("out", 4096, size(), 4096, {after(1), after(2)}));
  }
  return operators;
}

Module random_module(std::mt19937_64& random, ModuleKind kind) {
  Module module;
  module.kind = kind;
  module.forward = layer_pass(random, 1);
  module.backward = layer_pass(random, 2);
  // Half of backward's products are weight gradients, for which nothing waits.
  for (Operator& op : module.backward) {
    if (op.name == std::string("beside")) op.pass = Pass::kBackwardWeight;
    if (op.name == std::string("out")) op.waits.pop_back();
  }
  // The products above have 30 to 100 million weights, half of them on the experts' side.
  std::uniform_real_distribution<> weights(1.5e7, 5e7);
  module.parameters = {weights(random), weights(random)};
  return module;
}

void fill_stages(Program& program) {
  const Plan& plan = program.plan;
  std::vector<Chunk> chunks(plan.virtual_stages());
  for (std::int64_t v = 0; v < plan.virtual_stages(); ++v) {
    Chunk& chunk = chunks[v];
    if (v == 0) chunk.modules.push_back(0);
    for (std::int64_t layer = 0; layer < plan.layout[v]; ++layer) chunk.modules.push_back(1);
    if (v == plan.virtual_stages() - 1) chunk.modules.push_back(2);
    for (const std::int16_t module : chunk.modules) {
      chunk.parameters.dense += program.modules[module].parameters.dense;
      chunk.parameters.expert += program.modules[module].parameters.expert;
    }
  }
  program.stages = lay_out_stages(pipeline_shape(plan), chunks);
}

Synthetic random_program(std::mt19937_64& random) {
  const auto number = [&](std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(random);
  };
  Synthetic made;
  Plan& plan = made.plan;
  made.model.hidden = 4096;
  plan.pp = number(1, 6);
  plan.schedule = static_cast<PipelineSchedule>(number(0, 4));
  plan.vpp = plan.schedule == PipelineSchedule::kInterleaved ? number(1, 3) : 1;
  if (plan.schedule == PipelineSchedule::kZbV) plan.vpp = 2;
  if (plan.schedule == PipelineSchedule::kDualPipe) plan.pp = 2 * number(1, 3);
  plan.merge_passes = plan.schedule == PipelineSchedule::kInterleaved && number(0, 1) == 1;
  plan.delay_weight_gradients = number(0, 1) == 1;
  plan.seq_len = 8192;
  plan.attention_degree = plan.ep = 8;
  const std::int64_t dp = std::int64_t{1} << number(0, 3);
  plan.gpus = plan.pp * dp * 8;
  plan.global_batch = dp * 2 * number(plan.pp, 2 * plan.pp);
  for (std::int64_t v = 0; v < plan.virtual_stages(); ++v) plan.layout.push_back(number(0, 3));
  plan.overlap_p2p = number(0, 1) == 1;
  plan.overlap_param_gather = number(0, 1) == 1;
  plan.overlap_grad_reduce = number(0, 1) == 1;
  plan.zero = static_cast<int>(number(0, 1));
  for (const std::int64_t layers : plan.layout) made.model.layers.insert(made.model.layers.end(), layers, 0);
  made.program.plan = plan;
  for (const ModuleKind kind : {ModuleKind::kEmbedding, ModuleKind::kLayer, ModuleKind::kHead}) {
    made.program.modules.push_back(random_module(random, kind));
  }
  fill_stages(made.program);
  return made;
}

std::string describe(const Plan& plan) {
  return fmt::format("{}, merged {}, pp {}, vpp {}, m {}, dp {}, zero {}, overlap p2p {} gather {} reduce {}",
                     choice_name(kScheduleChoices, plan.schedule), plan.merge_passes, plan.pp, plan.vpp,
                     plan.micro_batches(), plan.dp(), plan.zero, plan.overlap_p2p, plan.overlap_param_gather,
                     plan.overlap_grad_reduce);
}

// Nearly always; what is left is traffic of data-parallel groups beside the messages between stages.
TEST(Job, CompositionIsWithinOnePercentOfTheEngine) {
  std::mt19937_64 random(1);
  Composer composer;
  constexpr int kJobs = 80;
  int within = 0;
  for (int i = 0; i < kJobs; ++i) {
    const Synthetic made = random_program(random);
    const CostModel costs(made.cluster, made.plan);
    const auto exact = static_cast<double>(run(make_job(made.program, made.model, costs).job).makespan_ps);
    const auto fast =
        static_cast<double>(composer.compose(make_pipeline_times(made.program, made.model, costs)).step_ps);
    within += std::abs(fast / exact - 1) <= 0.01;
    EXPECT_NEAR(fast / exact, 1, 0.02) << describe(made.plan);
  }
  EXPECT_GE(within, kJobs - 2);
}

// With nothing beside a slot both are the same sum, up to the tick that the engine rounds a shared task's end by.
TEST(Job, CompositionEqualsTheEngineWithoutDataParallelism) {
  std::mt19937_64 random(2);
  Composer composer;
  for (int i = 0; i < 30; ++i) {
    Synthetic made = random_program(random);
    Plan& plan = made.program.plan;
    plan.gpus = plan.pp * 8;  // one replica
    plan.global_batch = made.plan.micro_batches();
    plan.overlap_p2p = false;
    plan.overlap_param_gather = plan.overlap_grad_reduce = false;  // between DualPipe's two copies
    const CostModel costs(made.cluster, plan);
    const std::int64_t exact = run(make_job(made.program, made.model, costs).job).makespan_ps;
    const std::int64_t fast = composer.compose(make_pipeline_times(made.program, made.model, costs)).step_ps;
    EXPECT_NEAR(static_cast<double>(fast), static_cast<double>(exact), 1e-6 * static_cast<double>(exact))
        << describe(plan);
  }
}

TEST(Job, TimelineIsConsistent) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 6; ++i) {
    const Synthetic made = random_program(random);
    const CostModel costs(made.cluster, made.plan);
    const IndexedJob made_job = make_job(made.program, made.model, costs);
    std::vector<TaskRun> runs;
    run(made_job.job, [&](const TaskRun& task) { runs.push_back(task); });
    EXPECT_EQ(TimelineChecker(made_job.job, runs).check(), std::vector<std::string>{}) << describe(made.plan);
  }
}

// Every operator of every slot runs, no more and no less, under its own name.
TEST(Job, IndexNamesEveryTask) {
  std::mt19937_64 random(4);
  Synthetic made = random_program(random);
  while (!pipeline_shape(made.plan).is_plain()) made = random_program(random);
  const Plan& plan = made.plan;
  const CostModel costs(made.cluster, plan);
  const IndexedJob made_job = make_job(made.program, made.model, costs);
  std::size_t module_tasks = 0, sends = 0, optimizers = 0;
  run(made_job.job, [&](const TaskRun& task) {
    const TaskOrigin& origin = made_job.index.task(made_job.job, task);
    const SlotOrigin& slot = made_job.index.slot(task);
    if (origin.op == nullptr) return;
    if (origin.op->name == std::string("pipeline_send")) ++sends;
    if (slot.role == SlotRole::kOptimizer) ++optimizers;
    if (origin.place < 0) return;
    ++module_tasks;
    const Chunk& chunk = made.program.stages[task.device].chunks[slot.slot.chunk];
    const Module& module = made.program.modules[chunk.modules[origin.place]];
    const std::vector<Operator>& pass = slot.slot.kind == SlotKind::kBackward ? module.backward : module.forward;
    EXPECT_TRUE(origin.op >= pass.data() && origin.op < pass.data() + pass.size());
  });
  // 4 operators of a module forward and 8 backward; embedding, head and layers.
  std::int64_t modules = 2;
  for (const std::int64_t layers : plan.layout) modules += layers;
  EXPECT_EQ(module_tasks, static_cast<std::size_t>(12 * modules * plan.micro_batches()));
  EXPECT_EQ(sends, static_cast<std::size_t>(plan.pp > 1 ? 2 * (plan.virtual_stages() - 1) * plan.micro_batches() : 0));
  EXPECT_EQ(optimizers, static_cast<std::size_t>(3 * plan.pp));  // norm, its all-reduce, AdamW
}

// The sums by layout and those over a lowered program's chunks are two ways to one result.
TEST(ModuleTimes, ChunksByLayoutEqualChunksOfTheProgram) {
  std::mt19937_64 random(5);
  for (int i = 0; i < 10; ++i) {
    const Synthetic made = random_program(random);
    const CostModel costs(made.cluster, made.plan);
    std::vector<ModuleTimes> modules;
    for (const Module& module : made.program.modules) modules.push_back(time_module(module, costs, {}, {}));
    const ModelTimes by_kind{.layers = {modules[1]}, .embedding = modules[0], .head = modules[2], .predict = {}};
    const std::vector<ModuleTimes> by_layout = chunk_times(made.model, made.plan, by_kind);
    const std::vector<ModuleTimes> by_program = chunk_times(made.program, modules);
    ASSERT_EQ(by_layout.size(), by_program.size());
    for (std::size_t v = 0; v < by_layout.size(); ++v) {
      EXPECT_EQ(by_layout[v].forward, by_program[v].forward);
      EXPECT_EQ(by_layout[v].backward_beside_data.slot, by_program[v].backward_beside_data.slot);
      EXPECT_DOUBLE_EQ(by_layout[v].parameters.expert, by_program[v].parameters.expert);
    }
  }
}

// A collective that holds half of the SMs beside one GEMM that wants them all: of 512 tiles on 132 SMs, 4 waves become
// 8 and one more (engine.h). One that uses the NIC alone leaves it as it is. While the first runs for one second and
// the second for three, the GEMM runs at 1/4 * 4/9 + 3/4 * 1 = 31/36 of its rate. The collectives do not suffer.
TEST(ModuleTimes, CollectiveBesideSlowsWhatItShares) {
  Module module;
  module.forward = {gemm("only", 4096, 4096, 4096, {})};
  const Cluster cluster = eight_gpu_nodes();
  const Plan plan;
  const CostModel costs(cluster, plan);
  DataShare half_of_sms{.share = {}, .holder = true, .time_ps = 1e12},
      nic{.share = {}, .holder = true, .time_ps = 3e12};
  half_of_sms.share[kSm] = 0.5F;
  nic.share[kNicOut] = 1;
  const ModuleTimes slowed = time_module(module, costs, {half_of_sms}, {});
  const auto alone = static_cast<double>(slowed.forward);
  EXPECT_EQ(slowed.forward, costs.cost(module.forward[0]).alone.count());
  EXPECT_NEAR(static_cast<double>(slowed.forward_beside_data.slot), alone * 9 / 4, 2);
  EXPECT_EQ(slowed.forward_beside_data.other, slowed.forward_beside_data.slot);
  EXPECT_EQ(slowed.backward, 0);
  EXPECT_EQ(slowed.forward_beside_send.slot, slowed.forward);
  EXPECT_EQ(time_module(module, costs, {}, {nic}).forward_beside_send.slot, slowed.forward);
  const ModuleTimes both = time_module(module, costs, {half_of_sms, nic}, {});
  EXPECT_NEAR(static_cast<double>(both.forward_beside_data.slot), alone * 36 / 31, 2);
  EXPECT_NEAR(static_cast<double>(both.forward_beside_data.other), alone * 36 / 31, 2);
}

// An exchange that uses u of NVLink beside one that uses it all: both run at 1 / (1 + u). So the module takes 1 + u
// times as long, and of the other gets done what the module takes alone.
TEST(ModuleTimes, CollectiveBesideIsSlowedByWhatItShares) {
  Module module;
  module.backward = {exchange("only", 1e9, {})};
  const Cluster cluster = eight_gpu_nodes();
  Plan plan;
  plan.gpus = plan.attention_degree = plan.ep = 8;
  const CostModel costs(cluster, plan);
  DataShare nvlink{.share = {}, .holder = true, .time_ps = 1e12};
  nvlink.share[kNvlinkOut] = 1;
  const ModuleTimes times = time_module(module, costs, {nvlink}, {nvlink});
  const double u = costs.cost(module.backward[0]).share[kNvlinkOut];
  ASSERT_GT(u, 0.5);
  const auto alone = static_cast<double>(times.backward);
  EXPECT_NEAR(static_cast<double>(times.backward_beside_data.slot), alone * (1 + u), 2);
  EXPECT_NEAR(static_cast<double>(times.backward_beside_data.other), alone, 2);
  EXPECT_EQ(times.backward_beside_send.slot, times.backward_beside_data.slot);
  EXPECT_EQ(times.backward_beside_send.other, times.backward_beside_data.other);
}

// A message runs beside modules where there is a neighbour and the compute stream does not wait for it.
TEST(ModuleTimes, SendSharesOfOverlappedMessages) {
  const Model model;
  const Cluster cluster = eight_gpu_nodes();
  Plan plan;
  plan.gpus = plan.pp = 2;
  const auto kinds = [&] { return send_shares(plan, model, CostModel(cluster, plan)).size(); };
  plan.overlap_p2p = true;
  EXPECT_EQ(kinds(), 1U);
  plan.overlap_p2p = false;
  EXPECT_EQ(kinds(), 0U);
  plan.overlap_p2p = true;
  plan.gpus = plan.pp = 1;
  EXPECT_EQ(kinds(), 0U);
}

// Data-parallel ranks on other nodes: gather and reduction use the NIC and the same SMs, so they are one kind, and the
// cast of gradients to bf16 before the reduction is the other.
TEST(ModuleTimes, DataSharesJoinWhatIsAlike) {
  Plan plan;
  plan.gpus = 16;
  plan.attention_degree = plan.ep = 8;
  plan.global_batch = 2;
  const Cluster cluster = eight_gpu_nodes();
  const CostModel costs(cluster, plan);
  const Shares shares = data_shares(plan, {.dense = 1e9, .expert = 2e9}, costs);
  ASSERT_EQ(shares.size(), 2U);
  const ChunkSync sync = lower_sync(plan, {.dense = 1e9, .expert = 2e9});
  double time = 0;
  for (const std::vector<Operator>* operators : {&sync.gather, &sync.reduce}) {
    for (const Operator& op : *operators) time += static_cast<double>(costs.cost(op).alone.count());
  }
  EXPECT_DOUBLE_EQ(shares[0].time_ps + shares[1].time_ps, time);
  EXPECT_EQ(data_shares(plan, {}, costs).size(), 0U);
}

}  // namespace
}  // namespace msmoe::simulator
