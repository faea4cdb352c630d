// Program: a plan lowered to operators. The simulator runs it with a clock, the executor with GPUs.
//
//   Module     one layer (or the embedding, or the head): its tensors, and the operators of its forward and backward
//              pass in issue order. Modules that are alike are lowered once.
//   Chunk      the modules that one virtual stage holds, first to last.
//   Slot       one pass of one chunk over one micro-batch, or two of them merged. A stage runs its slots in a fixed
//   order. Operator   exact shapes, the stream it runs on, the tensors it reads and writes. It waits for the writers of
//   what
//              it reads, and for the operator before it on its stream.
//
// Shapes are per rank. Expert rows are those of balanced routing times the imbalance asked for.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include "core/cluster.h"
#include "core/group.h"
#include "core/model.h"
#include "core/plan.h"
#include "core/units.h"

namespace msmoe {

enum class ComputeKind : std::uint8_t {
  kNone,
  kGemm,         // [m, k] x [k, n]
  kGroupedGemm,  // groups of [m / groups, k] x [k, n]
  kAttention,    // forward
  kAttentionBackward,
  kElementwise,  // norms, RoPE, SwiGLU, residuals, casts, loss: bound by HBM
  kPermute,      // rows gathered or scattered by an index: bound by HBM
  kRouting,      // softmax, top-k, counts, row maps: small kernels, bound by their launches
  kOptimizer,
};

// What the SMs do. flops and bytes follow from the shape; they are kept so that nobody computes them twice.
struct Compute {
  ComputeKind kind = ComputeKind::kNone;
  std::int64_t m = 0, n = 0, k = 0;  // GEMM: rows, columns, depth. Attention: query tokens, average span, head width
  std::int64_t groups = 1;           // grouped GEMM: experts of this rank. Attention: heads of this rank
  Flops flops;
  Bytes hbm;                               // read and written
  int kernels = 1;                         // launches
  Precision precision = Precision::kBf16;  // of the multiplications
};

enum class Collective : std::uint8_t { kNone, kAllGather, kReduceScatter, kAllToAll, kAllReduce, kSend };

// What the wires do. payload is per rank: all-gather the gathered result, reduce-scatter and all-reduce the full
// input, all-to-all the send buffer with the part that stays, send the message.
struct Transfer {
  Collective collective = Collective::kNone;
  GroupKind group = GroupKind::kWorld;
  Bytes payload;
  // All-to-all that sends one copy of a token to each node and lets the node's ranks pass it on: what a rank sends over
  // each wire. Both 0: the payload goes to all peers alike.
  Bytes nvlink, nic;
};
// What one rank sends over wires of any kind: (g-1)/g of the payload, twice that for all-reduce, all of it for send.
Bytes wire_bytes(const Transfer& transfer, std::int64_t group_size);

enum class Pass : std::uint8_t { kForward, kRecompute, kBackwardInput, kBackwardWeight, kSync, kOptimizer };
enum class Stream : std::uint8_t { kCompute, kCommunication, kPipeline, kData };
inline constexpr int kNumStreams = 4;

struct Operator {
  const char* name = "";  // "fc1", "dispatch": unique in its pass of its module, up to recomputation
  Pass pass = Pass::kForward;
  Stream stream = Stream::kCompute;
  Compute compute;  // both compute and transfer: a fused, tile-level operator
  Transfer transfer;
  bool transfer_leads = false;      // fused: tiles wait for what arrives; else what tiles finish leaves
  std::int16_t pieces = 1;          // fused: GEMM and exchange are cut into so many; 1: tile by tile in one kernel
  Bytes absorbed;                   // fused: what the operators between the two halves would move on their own
  std::vector<Operator> parts;      // fused: the operators that it stands for, in order
  std::int64_t sms = 0;             // that the transfer's kernel holds; 0: copy engines or none
  std::vector<std::int16_t> reads;  // indices into Module::tensors
  std::vector<std::int16_t> writes;
  std::vector<std::int16_t> waits;  // indices of operators of the same pass; the writers of reads, deduplicated
};

struct Tensor {
  const char* name = "";
  Bytes size;
  bool kept = false;  // written in forward and read in backward: lives from one to the other
};

// Parameters of a module on one rank, by who replicates them.
struct ModuleParameters {
  double dense = 0;   // gradient group: GroupKind::kDenseData
  double expert = 0;  // gradient group: GroupKind::kExpertData
  double shared = 0;  // of the dense ones, those that tensor ranks hold alike: each has a part of their gradients

  ModuleParameters& operator+=(const ModuleParameters& other) {
    dense += other.dense;
    expert += other.expert;
    shared += other.shared;
    return *this;
  }
  friend ModuleParameters operator*(double count, const ModuleParameters& each) {
    return {count * each.dense, count * each.expert, count * each.shared};
  }
  friend ModuleParameters operator/(const ModuleParameters& sum, double count) {
    return {sum.dense / count, sum.expert / count, sum.shared / count};
  }
  auto operator<=>(const ModuleParameters&) const = default;
};

enum class ModuleKind : std::uint8_t { kLayer, kEmbedding, kHead, kPredict };

struct Module {
  ModuleKind kind = ModuleKind::kLayer;
  int layer_kind = 0;  // index in Model::kinds, for layers and predict layers
  std::vector<Tensor> tensors;
  std::vector<Operator> forward;
  std::vector<Operator> backward;  // recomputation, input gradients and weight gradients, in issue order
  ModuleParameters parameters;

  // What passes from module to module: the input and the output of the forward pass, and their gradients; -1: none.
  // The input is kept with the module; output and gradients lie in buffers between the modules, not in its workspace.
  std::int16_t input = -1, output = -1, output_gradient = -1, input_gradient = -1;

  // From the tensors' lifetimes in issue order:
  Bytes kept;          // bytes that one micro-batch leaves between its forward and its backward
  Bytes forward_peak;  // transient bytes beside what is kept and what passes, at the worst operator
  Bytes backward_peak;
};

// Backward is the gradients of a chunk's input, which the stage before waits for, and those of its weights, which
// nothing does. Schedules may part the two.
enum class SlotKind : std::uint8_t {
  kForward,
  kBackward,        // both
  kBackwardInput,   // keeps alive what the weight gradients read
  kBackwardWeight,  // needs the input's slot before it on its stage
  kMerged,          // a forward beside a backward of another micro-batch
};
struct Slot {
  std::int16_t chunk = 0;
  SlotKind kind = SlotKind::kForward;
  std::int32_t micro_batch = 0;
  std::int16_t backward_chunk = 0;  // the backward of kMerged, whose forward the two above are
  std::int32_t backward_micro_batch = 0;

  bool runs_forward() const { return kind == SlotKind::kForward || kind == SlotKind::kMerged; }
  bool makes_input_gradients() const {
    return kind == SlotKind::kBackward || kind == SlotKind::kBackwardInput || kind == SlotKind::kMerged;
  }
  bool makes_weight_gradients() const {
    return kind == SlotKind::kBackward || kind == SlotKind::kBackwardWeight || kind == SlotKind::kMerged;
  }
  // Of the gradients that it makes.
  std::int16_t gradient_chunk() const { return kind == SlotKind::kMerged ? backward_chunk : chunk; }
  std::int32_t gradient_micro_batch() const { return kind == SlotKind::kMerged ? backward_micro_batch : micro_batch; }
};

struct Chunk {
  std::vector<std::int16_t> modules;  // indices into Program::modules
  ModuleParameters parameters;
};

struct Stage {
  std::vector<Chunk> chunks;  // as many as core/schedule.h says
  std::vector<Slot> slots;    // in the order they run
};

struct LoweringOptions {
  double imbalance = 1;  // rows of the rank meant / rows under balance; above 0
  // Fused operators reach their peers over NVLink: a group that spans nodes is not fused. lower() takes the cluster's.
  std::int64_t gpus_per_node = 8;
};

// What a module depends on, so that planners lower once per distinct value: everything in a Plan but pp, vpp, schedule,
// layout, gpus, global_batch and, below ZeRO-2, zero. A head's parameters also depend on whether pp is 1.
Module lower_layer(const Model& model, const Plan& plan, int layer_kind, const LoweringOptions& options);
Module lower_embedding(const Model& model, const Plan& plan, const LoweringOptions& options);
Module lower_head(const Model& model, const Plan& plan, const LoweringOptions& options);
Module lower_predict_layer(const Model& model, const Plan& plan, const LoweringOptions& options);

// Gradient and parameter synchronisation and the optimizer step of one chunk, in issue order.
struct ChunkSync {
  std::vector<Operator> gather;  // parameters, before the chunk's first forward
  std::vector<Operator> reduce;  // gradients, after its last backward
};
ChunkSync lower_sync(const Plan& plan, const ModuleParameters& parameters);
// Gradient norm and AdamW over all parameters of a stage.
std::vector<Operator> lower_optimizer(const Plan& plan, const ModuleParameters& stage_parameters);
// Activations from one virtual stage to the next; the backward message is as large.
Operator lower_pipeline_send(const Model& model, const Plan& plan);

struct Program {
  Plan plan;
  std::array<Group, kNumGroupKinds> groups;
  std::vector<Module> modules;
  std::vector<Stage> stages;
};

// The whole plan. REQUIRES check_plan(...) to be empty and model.can_be_planned().
Program lower(const Model& model, const Cluster& cluster, const Plan& plan, const LoweringOptions& options = {});

}  // namespace msmoe
