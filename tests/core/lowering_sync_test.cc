// Data-parallel synchronisation, the optimizer step and pipeline messages: bytes by hand.
#include <gtest/gtest.h>

#include "tests/core/lowering_samples.h"

namespace msmoe {
namespace {

// 64 GPUs, SP8 + EP8: attention's weights have 64 replicas, an expert's 8.
constexpr double kDense = 3e6, kExpert = 50e6;
const ModuleParameters kParameters{kDense, kExpert};

Plan sync_plan(const Fields& fields) {
  Plan plan = plan_with({{"attention", "sp"}, {"attention_degree", "8"}, {"ep", "8"}});
  for (const auto& [key, value] : fields) set_plan_field(plan, key, value);
  return plan;
}

double payload(const Operators& operators, const char* name) {
  return find_operator(operators, name).transfer.payload.count;
}
double wire(const Operators& operators, const Plan& plan, const char* name) {
  const Transfer& transfer = find_operator(operators, name).transfer;
  return wire_bytes(transfer, group_of(transfer.group, plan, 8).size).count;
}

// What leaves a rank: (g-1)/g of the payload; all-reduce is a reduce-scatter and an all-gather; a message goes whole.
TEST(WireBytes, ByCollective) {
  const Bytes megabyte{1e6};
  for (const Collective collective : {Collective::kAllGather, Collective::kReduceScatter, Collective::kAllToAll})
    EXPECT_EQ(wire_bytes({collective, GroupKind::kExpert, megabyte}, 8).count, 875e3);
  EXPECT_EQ(wire_bytes({Collective::kAllReduce, GroupKind::kExpert, megabyte}, 8).count, 1750e3);
  EXPECT_EQ(wire_bytes({Collective::kSend, GroupKind::kPipeline, megabyte}, 2).count, 1e6);
  EXPECT_EQ(wire_bytes({Collective::kNone, GroupKind::kWorld, megabyte}, 8).count, 0);
  EXPECT_EQ(wire_bytes({Collective::kAllGather, GroupKind::kExpert, megabyte}, 1).count, 0);
}

// ZeRO-1: bf16 parameters gathered, gradients scattered. Of attention's 6 MB 63/64 leave a rank, of the experts' 100 MB
// 7/8. Two bytes an element on the wire are half of fp32's four (MegaScale-MoE, arXiv 2505.11432, section 5).
TEST(Sync, OptimizerSharded) {
  const Plan bf16 = sync_plan({{"grad_wire", "bf16"}}), fp32 = sync_plan({{"grad_wire", "fp32"}});
  const ChunkSync half = lower_sync(bf16, kParameters), whole = lower_sync(fp32, kParameters);
  EXPECT_EQ(names_of(half.gather), (std::vector<std::string>{"param_gather", "expert_param_gather"}));
  EXPECT_DOUBLE_EQ(wire(half.gather, bf16, "param_gather"), 6e6 * 63 / 64);
  EXPECT_DOUBLE_EQ(wire(half.gather, bf16, "expert_param_gather"), 100e6 * 7 / 8);
  EXPECT_DOUBLE_EQ(wire(half.reduce, bf16, "grad_reduce"), 6e6 * 63 / 64);
  EXPECT_DOUBLE_EQ(wire(half.reduce, bf16, "expert_grad_reduce"), 100e6 * 7 / 8);
  for (const char* name : {"grad_reduce", "expert_grad_reduce"}) {
    EXPECT_DOUBLE_EQ(2 * payload(half.reduce, name), payload(whole.reduce, name));
    EXPECT_EQ(find_operator(half.reduce, name).transfer.collective, Collective::kReduceScatter);
  }
  // fp32 gradients are cast once, 4 bytes read and 2 written; where the wire carries fp32 there is nothing to cast.
  EXPECT_DOUBLE_EQ(find_operator(half.reduce, "expert_grad_cast").compute.hbm.count, 6 * kExpert);
  EXPECT_EQ(names_of(whole.reduce), (std::vector<std::string>{"grad_reduce", "expert_grad_reduce"}));
  EXPECT_EQ(names_of(lower_sync(sync_plan({{"grad_bytes", "2"}}), kParameters).reduce), names_of(whole.reduce));
  // FP8 weights are gathered as they are, one byte each.
  const Plan fp8 = sync_plan({{"precision", "fp8"}});
  EXPECT_DOUBLE_EQ(payload(lower_sync(fp8, kParameters).gather, "param_gather"), kDense);
}

// ZeRO-0 has nothing to gather and sums whole gradients; ZeRO-2 has scattered them inside the modules already; ZeRO-3
// gathers there too. A group of one has nothing to do.
TEST(Sync, OtherStages) {
  const ChunkSync none = lower_sync(sync_plan({{"zero", "0"}}), kParameters);
  EXPECT_TRUE(none.gather.empty());
  EXPECT_EQ(find_operator(none.reduce, "grad_reduce").transfer.collective, Collective::kAllReduce);
  const ChunkSync two = lower_sync(sync_plan({{"zero", "2"}}), kParameters);
  EXPECT_EQ(two.gather.size(), 2u);
  EXPECT_TRUE(two.reduce.empty());
  const ChunkSync three = lower_sync(sync_plan({{"zero", "3"}}), kParameters);
  EXPECT_TRUE(three.gather.empty() && three.reduce.empty());
  const ChunkSync no_replicas = lower_sync(sync_plan({{"gpus", "8"}}), kParameters);
  EXPECT_EQ(names_of(no_replicas.gather), (std::vector<std::string>{"param_gather"}));
}

// Tensor ranks add up what they hold alike after everything else, over 8 of them, in fp32. Where 8 data ranks own
// gradients each has 375e3 dense ones, all of a shared kind at worst.
TEST(Sync, SharedParametersOfTensorRanks) {
  for (const auto& [zero, shared, held] :
       {std::tuple{"0", 1e6, 1e6}, {"1", 1e6, 375e3}, {"1", 100e3, 100e3}, {"2", 1e6, 375e3}, {"3", 1e6, 375e3}}) {
    const Plan tensor = sync_plan({{"attention", "tp"}, {"zero", zero}});
    const ChunkSync sync = lower_sync(tensor, {kDense, kExpert, shared});
    ASSERT_FALSE(sync.reduce.empty());
    EXPECT_EQ(sync.reduce.back().name, std::string("shared_grad_reduce"));
    EXPECT_EQ(sync.reduce.back().transfer.group, GroupKind::kAttention);
    EXPECT_EQ(sync.reduce.back().transfer.collective, Collective::kAllReduce);
    EXPECT_DOUBLE_EQ(payload(sync.reduce, "shared_grad_reduce"), 4 * held);
    EXPECT_DOUBLE_EQ(wire(sync.reduce, tensor, "shared_grad_reduce"), 2 * 4 * held * 7 / 8);
  }
}

TEST(ModuleParameters, AddUpAndCompareInAllParts) {
  ModuleParameters sum{1, 2, 3};
  sum += 2 * ModuleParameters{10, 20, 30};
  EXPECT_EQ(sum, (ModuleParameters{21, 42, 63}));
  EXPECT_EQ(sum / 3, (ModuleParameters{7, 14, 21}));
  EXPECT_NE(sum, (ModuleParameters{21, 42, 62}));
}

TEST(Sync, OneAfterTheOtherOnTheDataStream) {
  const ChunkSync sync = lower_sync(sync_plan({{"attention", "tp"}}), {kDense, kExpert, 1e5});
  for (const Operators* list : {&sync.gather, &sync.reduce}) {
    for (std::size_t op_idx = 0; op_idx < list->size(); ++op_idx) {
      EXPECT_EQ((*list)[op_idx].stream, Stream::kData);
      EXPECT_EQ((*list)[op_idx].waits, op_idx == 0 ? std::vector<std::int16_t>{}
                                                   : std::vector<std::int16_t>{static_cast<std::int16_t>(op_idx - 1)});
    }
  }
}

// Replicated attention weights P of 8 Ulysses ranks in a node and d nodes: the group is one of 8 d ranks, 8 a node, so
// that inside the node 7/8 P goes each way and 1/8 P between d nodes, 2 (P/n) (d-1)/d in all (appendix A.1).
// Tensor ranks hold different weights: replicas lie one a node.
TEST(Sync, GroupsThatReplicateWeights) {
  const Plan sequence = sync_plan({});
  EXPECT_EQ(group_of(GroupKind::kDenseData, sequence, 8), (Group{64, 8}));
  EXPECT_EQ(group_of(GroupKind::kExpertData, sequence, 8), (Group{8, 1}));
  const Plan tensor = sync_plan({{"attention", "tp"}});
  EXPECT_EQ(group_of(GroupKind::kDenseData, tensor, 8), (Group{8, 1}));
}

// A rank owns 3e6/64 + 50e6/8 = 6,296,875 parameters. AdamW reads and writes 12 bytes of master weight and moments of
// each, reads 4 of gradient and writes 2 of weight: 30; the norm reads the gradients once more and adds up 4 bytes over
// all GPUs.
TEST(Optimizer, WorksOnWhatARankOwns) {
  const Operators step = lower_optimizer(sync_plan({}), kParameters);
  EXPECT_EQ(names_of(step), (std::vector<std::string>{"grad_norm", "grad_norm_reduce", "adamw"}));
  EXPECT_DOUBLE_EQ(find_operator(step, "adamw").compute.hbm.count, 30 * 6296875.0);
  EXPECT_DOUBLE_EQ(find_operator(step, "grad_norm").compute.hbm.count, 4 * 6296875.0);
  EXPECT_EQ(payload(step, "grad_norm_reduce"), 4);
  const Operators replicated = lower_optimizer(sync_plan({{"zero", "0"}}), kParameters);
  EXPECT_DOUBLE_EQ(find_operator(replicated, "adamw").compute.hbm.count, 30 * (kDense + kExpert));
  // bf16 gradients and moments, no master weights: 2 + 2 (0 + 2 * 2) + 2.
  const Operators lean =
      lower_optimizer(sync_plan({{"grad_bytes", "2"}, {"moment_bytes", "2"}, {"master_bytes", "0"}}), kParameters);
  EXPECT_DOUBLE_EQ(find_operator(lean, "adamw").compute.hbm.count, 12 * 6296875.0);
  // On one GPU there is nobody to add up with.
  EXPECT_FALSE(has_operator(lower_optimizer(plan_with({{"gpus", "1"}}), kParameters), "grad_norm_reduce"));
}

// Each of 8 ranks sends its 1024 tokens of 4096 in bf16, on a stream of its own if that is asked for.
TEST(Pipeline, RanksSendTheirTokens) {
  const Model model = find_model("megascale-352b");
  for (const char* attention : {"sp", "tp", "cp"}) {
    const Plan plan = sync_plan({{"attention", attention}});
    const Operator send = lower_pipeline_send(model, plan);
    EXPECT_EQ(send.transfer.payload.count, 1024 * 4096 * 2);
    EXPECT_EQ(send.transfer.collective, Collective::kSend);
    EXPECT_EQ(send.stream, Stream::kPipeline);
  }
  EXPECT_EQ(lower_pipeline_send(model, sync_plan({{"overlap_p2p", "off"}})).stream, Stream::kCompute);
}

}  // namespace
}  // namespace msmoe
