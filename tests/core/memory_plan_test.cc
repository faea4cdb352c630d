// The memory plan's rows: states by hand, activations against a walk through every slot, and how the rows add up.
#include "core/memory_plan.h"

#include <gtest/gtest.h>

#include <random>

#include "core/schedule.h"
#include "tests/core/lowering_samples.h"

namespace msmoe {
namespace {

// Modules of given sizes: two layer kinds, the embedding and the head, the first two in the chunks as `counts` says.
struct Sample {
  std::vector<ModuleMemory> modules = {
      {ModuleKind::kLayer, {1e6, 8e6}, {40e6}, {5e6}, {9e6}},
      {ModuleKind::kLayer, {2e6, 0}, {25e6}, {6e6}, {7e6}},
      {ModuleKind::kEmbedding, {3e6, 0}, {}, {1e6}, {1e6}},
      {ModuleKind::kHead, {3e6, 0}, {2e6}, {4e6}, {12e6}},
  };
  Contents contents;
  Cluster cluster = find_cluster("h100");

  // layers[v]: how many of each kind virtual stage v holds.
  explicit Sample(const std::vector<std::pair<int, int>>& layers) {
    contents.num_modules = 4;
    for (std::size_t v = 0; v < layers.size(); ++v) {
      for (const int count : {layers[v].first, layers[v].second, v == 0 ? 1 : 0, v + 1 == layers.size() ? 1 : 0})
        contents.counts.push_back(count);
    }
  }
  StageMemory stage(const Plan& plan, std::int64_t stage_idx) const {
    return stage_memory(cluster, plan, contents, modules, stage_idx);
  }
};

// What a stage holds at the worst moment, by walking through its slots.
double walk(const Sample& sample, const Plan& plan, std::int64_t stage) {
  std::vector<double> kept(static_cast<std::size_t>(plan.vpp));
  for (std::int64_t chunk = 0; chunk < plan.vpp; ++chunk)
    for (int module = 0; module < sample.contents.num_modules; ++module)
      kept[static_cast<std::size_t>(chunk)] += sample.contents.count(chunk * plan.pp + stage, module) *
                                               sample.modules[static_cast<std::size_t>(module)].kept.count;
  double held = 0, worst = 0;
  for (const Slot& slot : stage_slots(pipeline_shape(plan), stage)) {
    held += (slot.kind == SlotKind::kBackward ? -1 : 1) * kept[static_cast<std::size_t>(slot.chunk)];
    worst = std::max(worst, held);
  }
  return worst;
}

Plan pipeline_plan(std::int64_t pp, std::int64_t vpp, std::int64_t micro_batches) {
  Plan plan;
  plan.gpus = plan.pp = pp;
  plan.vpp = vpp;
  plan.schedule = vpp > 1 ? PipelineSchedule::kInterleaved : PipelineSchedule::k1F1B;
  plan.global_batch = micro_batches;
  return plan;
}

// 4 stages of two layers of 40 MB: stage i has 4 - i micro-batches in flight, so the first one is worst, by 80 MB each.
TEST(Activations, OneForwardOneBackwardHoldsMostOnTheFirstStage) {
  const Sample sample({{2, 0}, {2, 0}, {2, 0}, {2, 0}});
  const Plan plan = pipeline_plan(4, 1, 8);
  for (std::int64_t stage = 0; stage < 4; ++stage) {
    const StageMemory memory = sample.stage(plan, stage);
    EXPECT_EQ(memory.in_flight, 4 - stage);
    const double head = stage == 3 ? 2e6 : 0;
    EXPECT_DOUBLE_EQ(memory[MemoryRow::kActivations].count, static_cast<double>(4 - stage) * (80e6 + head));
  }
  const MemoryReport report = plan_memory(sample.cluster, plan, sample.contents, sample.modules);
  EXPECT_EQ(report.worst_stage, 0u);
  // Fewer micro-batches than stages: none but those can be in flight.
  EXPECT_EQ(sample.stage(pipeline_plan(4, 1, 2), 0).in_flight, 2);
}

// PP4 in two chunks of one layer: stage 0 runs 2 * 3 + 4 forwards before its first pair of a forward and a backward, so
// 11 chunks of 40 MB are in flight, where one chunk of two layers would have 4.
TEST(Activations, InterleavingHoldsMore) {
  const Sample sample({{1, 0}, {1, 0}, {1, 0}, {1, 0}, {1, 0}, {1, 0}, {1, 0}, {1, 0}});
  const Plan plan = pipeline_plan(4, 2, 16);
  EXPECT_EQ(sample.stage(plan, 0).in_flight, 11);
  EXPECT_EQ(sample.stage(plan, 0)[MemoryRow::kActivations].count, 11 * 40e6);
  EXPECT_EQ(sample.stage(plan, 3).in_flight, 5);
}

// The closed form over ends of rounds equals the walk, for chunks of any sizes and any number of micro-batches that
// rounds may leave over.
TEST(Activations, ClosedFormEqualsTheWalkOverSlots) {
  std::mt19937 random(7);
  for (int trial = 0; trial < 3000; ++trial) {
    const auto pp = static_cast<std::int64_t>(2 + random() % 7), vpp = static_cast<std::int64_t>(1 + random() % 5);
    const std::int64_t micro_batches = pp + static_cast<std::int64_t>(random() % 40);
    const Plan plan = pipeline_plan(pp, vpp, micro_batches);
    std::vector<std::pair<int, int>> layers;
    for (std::int64_t v = 0; v < pp * vpp; ++v) layers.emplace_back(random() % 4, random() % 3);
    const Sample sample(layers);
    for (std::int64_t stage = 0; stage < pp; ++stage) {
      ASSERT_DOUBLE_EQ(sample.stage(plan, stage)[MemoryRow::kActivations].count, walk(sample, plan, stage))
          << "pp " << pp << ", vpp " << vpp << ", " << micro_batches << " micro-batches, stage " << stage;
    }
  }
}

// Input gradients of a layer that keeps 40 MB and holds 30 MB for its weight gradients. Under ZB-H1 stage i of 4 has,
// at its worst, 4 - i micro-batches before their backward and i between its halves.
TEST(Activations, PartedBackwardsHoldWhatWeightGradientsRead) {
  Sample sample({{1, 0}, {1, 0}, {1, 0}, {1, 0}});
  sample.modules[0].held = {30e6};
  Plan plan = pipeline_plan(4, 1, 16);
  plan.schedule = PipelineSchedule::kZbH1;
  for (std::int64_t stage = 0; stage < 4; ++stage) {
    const StageMemory memory = sample.stage(plan, stage);
    EXPECT_EQ(memory.in_flight, 4);
    const double pairs = static_cast<double>(4 - stage), parted = static_cast<double>(stage);
    const double head = stage == 3 ? 2e6 : 0;
    EXPECT_DOUBLE_EQ(memory[MemoryRow::kActivations].count, pairs * (40e6 + head) + parted * 30e6);
  }
}

// DualPipe's stage 0 of 2 holds both halves of the model: parameters of all modules, and the head's activations.
TEST(Activations, DualPipeHoldsTwoStages) {
  Sample sample({{1, 0}, {1, 0}});
  sample.modules[0].passed = {1e6};
  Plan plan = pipeline_plan(2, 1, 8);
  const StageMemory first = sample.stage(plan, 0), second = sample.stage(plan, 1);
  plan.schedule = PipelineSchedule::kDualPipe;
  const StageMemory both = sample.stage(plan, 0);
  EXPECT_EQ(both.in_flight, 3);
  EXPECT_DOUBLE_EQ(both[MemoryRow::kWeights].count,
                   first[MemoryRow::kWeights].count + second[MemoryRow::kWeights].count);
  // Optimizer states are shared with the stage that holds the copies.
  EXPECT_DOUBLE_EQ(both[MemoryRow::kOptimizer].count,
                   (first[MemoryRow::kOptimizer].count + second[MemoryRow::kOptimizer].count) / 2);
  // Merged slots need a forward's and a backward's workspace; a hidden state leaves, a gradient comes and one leaves.
  EXPECT_DOUBLE_EQ(both[MemoryRow::kWorkspace].count, 5e6 + 9e6 + 3e6);
}

// One stage of one layer of 1e6 dense and 8e6 expert parameters (and 6e6 of embedding and head), on 16 GPUs with EP4:
// 16 dense replicas, 4 of each expert.
class States : public testing::Test {
 protected:
  StageMemory with(const Fields& fields) {
    Plan plan;
    plan.gpus = plan.global_batch = 16;
    plan.ep = 4;
    for (const auto& [key, value] : fields) set_plan_field(plan, key, value);
    return sample.stage(plan, 0);
  }
  static void expect(const StageMemory& memory, double weights, double gradients, double optimizer) {
    EXPECT_DOUBLE_EQ(memory[MemoryRow::kWeights].count, weights);
    EXPECT_DOUBLE_EQ(memory[MemoryRow::kGradients].count, gradients);
    EXPECT_DOUBLE_EQ(memory[MemoryRow::kOptimizer].count, optimizer);
    EXPECT_DOUBLE_EQ(memory.states().count, weights + gradients + optimizer);
  }
  const Sample sample = [] {
    Sample made{{{1, 0}}};
    made.modules[0].passed = made.modules[2].passed = made.modules[3].passed = {1e6};
    return made;
  }();
};

// bf16 weight 2, fp32 gradient 4, fp32 master weight and two moments 12: 18 bytes a parameter.
TEST_F(States, EighteenBytesAParameterDividedByZero) {
  const double dense = 7e6, expert = 8e6;
  expect(with({{"zero", "0"}}), 2 * (dense + expert), 4 * (dense + expert), 12 * (dense + expert));
  expect(with({{"zero", "1"}}), 2 * (dense + expert), 4 * (dense + expert), 12 * (dense / 16 + expert / 4));
  expect(with({{"zero", "2"}}), 2 * (dense + expert), 4 * (dense / 16 + expert / 4), 12 * (dense / 16 + expert / 4));
  expect(with({{"zero", "3"}}), 2 * (dense / 16 + expert / 4), 4 * (dense / 16 + expert / 4),
         12 * (dense / 16 + expert / 4));
}

// fp32 weight 4, gradient 4, two moments 8: 16 bytes a parameter, 20 with a master beside the weight.
TEST_F(States, Fp32WeightsAreTheirOwnMasters) {
  const double all = 15e6;
  expect(with({{"zero", "0"}, {"precision", "fp32"}, {"master_bytes", "0"}}), 4 * all, 4 * all, 8 * all);
  expect(with({{"zero", "0"}, {"precision", "fp32"}}), 4 * all, 4 * all, 12 * all);
}

// 16 bytes with bf16 gradients; 2 + 2 + (4 + 2 * 2) = 12 with bf16 moments too; 8 without master weights; FP8
// weights 1.
TEST_F(States, FewerBytesAParameter) {
  const double all = 15e6;
  expect(with({{"zero", "0"}, {"grad_bytes", "2"}}), 2 * all, 2 * all, 12 * all);
  expect(with({{"zero", "0"}, {"grad_bytes", "2"}, {"moment_bytes", "2"}}), 2 * all, 2 * all, 8 * all);
  expect(with({{"zero", "0"}, {"grad_bytes", "2"}, {"moment_bytes", "2"}, {"master_bytes", "0"}}), 2 * all, 2 * all,
         4 * all);
  expect(with({{"zero", "0"}, {"precision", "fp8"}}), all, 4 * all, 12 * all);
}

// Offloaded, the 12 bytes are in host memory, those of 8 ranks in each node's; 6 stay.
TEST_F(States, OffloadMovesTheOptimizer) {
  const double owned = 7e6 / 16 + 8e6 / 4;
  const StageMemory memory = with({{"optimizer_offload", "on"}});
  expect(memory, 2 * 15e6, 4 * 15e6, 0);
  EXPECT_DOUBLE_EQ(memory.host.count, 12 * owned);
  Plan plan;
  plan.gpus = plan.global_batch = 16;
  plan.ep = 4;
  plan.optimizer_offload = true;
  const MemoryReport report = plan_memory(sample.cluster, plan, sample.contents, sample.modules);
  EXPECT_DOUBLE_EQ(report.host_per_node.count, 8 * 12 * owned);
}

// ZeRO-3: the module in use and the next one stand whole, 2 bytes of weight and 4 of gradient each; ZeRO-2: gradients
// alone. The largest dense module is the embedding (3e6), the largest experts are the layer's (8e6). With EP16 each
// expert is on one rank: nothing of it was sharded, nothing is gathered.
TEST_F(States, GatheredModules) {
  EXPECT_DOUBLE_EQ(with({{"zero", "3"}})[MemoryRow::kGathered].count, 2 * 6 * (3e6 + 8e6));
  EXPECT_DOUBLE_EQ(with({{"zero", "2"}})[MemoryRow::kGathered].count, 2 * 4 * (3e6 + 8e6));
  EXPECT_EQ(with({{"zero", "1"}})[MemoryRow::kGathered].count, 0);
  EXPECT_DOUBLE_EQ(with({{"zero", "3"}, {"ep", "16"}})[MemoryRow::kGathered].count, 2 * 6 * 3e6);
}

// Workspace: the layers' worst transient, 9 MB, and the gradients that a module reads and writes, 1 MB each. The head's
// 12 MB beyond the former are the logits' row.
TEST_F(States, WorkspaceAndLogits) {
  const StageMemory memory = with({});
  EXPECT_EQ(memory[MemoryRow::kWorkspace].count, 9e6 + 2e6);
  EXPECT_EQ(memory[MemoryRow::kLogits].count, 3e6);
  EXPECT_DOUBLE_EQ(memory[MemoryRow::kSlack].count, 0.03 * (42e6 + 11e6 + 3e6));
  EXPECT_EQ(memory[MemoryRow::kReserved], sample.cluster.reserved_memory);
}

// Buffers for each communicator that spans ranks, 240 MiB, and 8 MiB for each peer of an all-to-all: expert, dense
// data, expert data and world here, with three peers.
TEST_F(States, CommunicationBuffers) {
  EXPECT_DOUBLE_EQ(with({})[MemoryRow::kCommunication].count, (4 * 240 + 3 * 8) * kMiB);
  EXPECT_DOUBLE_EQ(with({{"dispatch", "ag_rs"}})[MemoryRow::kCommunication].count, 4 * 240 * kMiB);
  Sample sockets = sample;
  sockets.cluster.communicator_memory = Bytes{4 * kMiB};
  Plan sharded;
  sharded.gpus = sharded.zero = 2;
  EXPECT_DOUBLE_EQ(sockets.stage(sharded, 0)[MemoryRow::kCommunication].count, 3 * 4 * kMiB);
  const StageMemory alone = sample.stage(Plan{}, 0);
  EXPECT_EQ(alone[MemoryRow::kCommunication].count, 0);
}

TEST_F(States, RowsAddUp) {
  for (const char* zero : {"0", "1", "2", "3"}) {
    const StageMemory memory = with({{"zero", zero}});
    Bytes sum;
    for (int row = 0; row < kNumMemoryRows; ++row) sum += memory[static_cast<MemoryRow>(row)];
    EXPECT_DOUBLE_EQ(memory.steady_peak().count, sum.count);
    EXPECT_EQ(memory.total(), std::max(memory.steady_peak(), memory.resume_peak));
  }
}

// Loading a checkpoint: all states, and those of one module staged beside them (weight 2 + master and moments 12), with
// communicators and context but no activations. Steps need more unless activations are small.
TEST_F(States, ResumePeak) {
  const StageMemory memory = with({});
  const double staged = 14 * (3e6 / 16 + 8e6 / 4);
  EXPECT_DOUBLE_EQ(memory.resume_peak.count,
                   (memory.states() + memory[MemoryRow::kCommunication] + memory[MemoryRow::kReserved]).count + staged);
  Sample lean{{{1, 0}}};
  lean.modules[0].kept = lean.modules[0].backward_peak = lean.modules[0].forward_peak = {1e6};
  lean.modules[3] = {ModuleKind::kHead, {3e6, 0}, {1e6}, {1e6}, {1e6}};
  Plan plan;
  plan.gpus = plan.global_batch = 16;
  plan.ep = 4;
  EXPECT_EQ(lean.stage(plan, 0).total(), lean.stage(plan, 0).resume_peak);
  EXPECT_GT(lean.stage(plan, 0).resume_peak, lean.stage(plan, 0).steady_peak());
}

// Through the lowering: the report of a program is that of its parts, and counts each layer where the plan puts it.
TEST(MemoryReport, OfAProgram) {
  const Model model = find_model("megascale-352b");
  const Cluster cluster = find_cluster("h800");
  const Plan plan = find_plan("megascale-moe-352b");
  const Program program = lower(model, cluster, plan);
  const MemoryReport report = plan_memory(model, cluster, program);
  ASSERT_EQ(report.stages.size(), 15u);
  EXPECT_EQ(report.worst_stage, 0u);
  const Module layer = lower_layer(model, plan, 0, {});
  // Stage 7: chunks of two layers each, 2 * 7 + 15 + 1 in flight.
  EXPECT_EQ(report.stages[7].in_flight, 30);
  EXPECT_DOUBLE_EQ(report.stages[7][MemoryRow::kActivations].count, 30 * 2 * layer.kept.count);
  EXPECT_DOUBLE_EQ(report.stages[7][MemoryRow::kWeights].count,
                   2 * 4 * (layer.parameters.dense + layer.parameters.expert));
  // Between modules pass two hidden states of 1024 tokens, 4096 wide, in bf16.
  EXPECT_DOUBLE_EQ(report.stages[7][MemoryRow::kWorkspace].count,
                   std::max(layer.forward_peak, layer.backward_peak).count + 2 * 1024 * 4096 * 2.0);
  EXPECT_EQ(report.usable, cluster.gpu.memory);
  EXPECT_EQ(report.fits(), report.worst().total() <= cluster.gpu.memory);
}

}  // namespace
}  // namespace msmoe
