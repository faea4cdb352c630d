// Plan: how one model is trained on one number of GPUs. One JSON file holds it (docs/plan.md), the planner writes
// it, the simulator predicts it, the runner runs it.
//
// The mesh. gpus = pp * dp * (attention_degree * context_degree). Ranks are numbered attention degree first, then
// context, then data, then pipeline stage, so that neighbours in the attention group sit in one node and a stage is
// a contiguous range. Inside a stage the feed-forward uses the same ranks in another way:
//   gpus / pp = expert_dp * (ep * etp),   etp first, then ep, then expert data parallelism
// (the "folding" of MoE Parallel Folding, arXiv 2504.14960).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/cluster.h"
#include "core/model.h"
#include "core/units.h"

namespace msmoe {

enum class AttentionParallelism {
  kTensor,    // heads and weights split; sequence parallel outside (all-gather in, reduce-scatter out)
  kSequence,  // Ulysses: weights replicated, tokens split, heads split by all-to-all inside attention
  kContext,   // weights replicated, tokens split, keys and values passed round
};
enum class Dispatch {
  kAllToAll,      // every copy of a token to its expert's rank
  kNodeAllToAll,  // one copy to each node that has an expert of it, passed on inside the node (DeepEP, HybridEP)
  kAllGather,     // all-gather + scatter ... gather + reduce-scatter
};
enum class PipelineSchedule { k1F1B, kInterleaved, kZbH1, kZbV, kDualPipe };  // core/schedule.h
enum class LossKind {
  kFull,     // all logits of a micro-batch at once, in fp32 beside bf16
  kChunked,  // head and loss over kLossChunkTokens tokens at a time; logits are never kept
};
enum class InLayerOverlap {
  kNone,           // one operator after another
  kInterOperator,  // communication on its own stream; weight gradients and recomputation fill its time
  kDecomposed,  // and tensor parallelism's GEMMs in pieces, each beside the exchange of another (Transformer Engine's
                // userbuffers, torch's asynchronous TP)
  kIntraOperator,  // and tile-level fused operators: QKV GEMM + all-to-all, all-gather + scatter + grouped GEMM, ...
};
enum class WireFormat { kFp32, kBf16, kFp8 };
enum class Precision { kFp32, kBf16, kFp8 };

// Bytes of an activation, and of a weight as GEMMs read it. FP8 quantizes the activations of a GEMM only.
constexpr double element_bytes(Precision precision) { return precision == Precision::kFp32 ? 4 : 2; }
constexpr double weight_bytes(Precision precision) {
  return precision == Precision::kFp8 ? 1 : element_bytes(precision);
}
// Of what is never multiplied in fp8: attention, router, output head.
constexpr Precision wide_precision(Precision precision) {
  return precision == Precision::kFp8 ? Precision::kBf16 : precision;
}
constexpr FlopsPerSecond peak_of(const Gpu& gpu, Precision precision) {
  switch (precision) {
    case Precision::kFp32: return gpu.fp32_peak;
    case Precision::kFp8: return gpu.fp8_peak;
    case Precision::kBf16: break;
  }
  return gpu.bf16_peak;
}

inline constexpr std::int64_t kLossChunkTokens = 2048;

// Tensors of a layer that backward rebuilds instead of keeping, named as in the paper's Fig. 9. Norm outputs, the
// gathered and permuted expert inputs, and the SwiGLU output cost little to rebuild; a GEMM or attention output
// costs its operator again.
enum class Recompute : std::uint32_t {
  kNothing = 0,
  kNorm = 1u << 0,          // ln1_out, ln2_out; qkv_rope of normed queries and keys
  kActivation = 1u << 1,    // fc2_in: SwiGLU (and the gate weight) again
  kDispatch = 1u << 2,      // ffn_in: permutation and the token exchange again
  kAttentionOut = 1u << 3,  // attn_a2a / gathered inputs: the attention exchanges again
  kUpProjection = 1u << 4,  // kLatent: queries, keys and values from their compressed forms
  kAttention = 1u << 5,     // q, k, v and the attention output: projections and attention again
  kExpert = 1u << 6,        // fc1_out: the first expert GEMM again
};
constexpr Recompute operator|(Recompute a, Recompute b) {
  return static_cast<Recompute>(static_cast<std::uint32_t>(a) | static_cast<std::uint32_t>(b));
}
constexpr bool contains(Recompute set, Recompute element) {
  return (static_cast<std::uint32_t>(set) & static_cast<std::uint32_t>(element)) != 0;
}
inline constexpr Recompute kRecomputeNone = Recompute::kNothing;
// The paper's selective activation rematerialization (section 4.1): no GEMM and no attention runs twice.
inline constexpr Recompute kRecomputeSelective =
    Recompute::kNorm | Recompute::kActivation | Recompute::kDispatch | Recompute::kAttentionOut;
// Only the layer's input is kept.
inline constexpr Recompute kRecomputeFull =
    kRecomputeSelective | Recompute::kUpProjection | Recompute::kAttention | Recompute::kExpert;

// How fast a training system's kernels and host are beside the microbenchmarks that the cost model rests on.
// Calibrated once per system on a published run, never per model or row; 1.0 means the microbenchmarks themselves.
struct Software {
  std::string name;
  double kernel_time_scale = 1;     // multiplies the time of every compute operator
  double attention_time_scale = 1;  // multiplies the time of attention beside that: FlashAttention-2, say
  double memory_time_scale = 1;     // likewise of operators that are bound by memory: PyTorch's own kernels, say
  double routing_seconds = 0;       // small kernels and gaps between launches around routing, per MoE layer and pass
  std::string source;
  bool operator==(const Software&) const = default;
};
// The systems known by name; throws UserError for another.
const Software& find_software(const std::string& name);
std::vector<std::string> software_names();
const Software& default_software();  // "megascale-moe"

struct Plan {
  std::string model;    // a shipped name or a path, as find_model takes it
  std::string cluster;  // likewise
  std::int64_t gpus = 1;
  std::int64_t global_batch = 1;  // sequences per step
  std::int64_t seq_len = 1;
  std::int64_t micro_batch = 1;  // sequences

  AttentionParallelism attention = AttentionParallelism::kTensor;
  std::int64_t attention_degree = 1;
  std::int64_t context_degree = 1;  // context parallelism beside tensor or sequence parallelism; 1 with kContext
  std::int64_t ep = 1;
  std::int64_t etp = 1;
  Dispatch dispatch = Dispatch::kAllToAll;
  double capacity = 0;  // copies of tokens that an expert rank takes, over balance; the others, those with the smallest
                        // gates, are dropped. 0: all are taken

  std::int64_t pp = 1;
  std::int64_t vpp = 1;  // model chunks per stage
  PipelineSchedule schedule = PipelineSchedule::k1F1B;
  // Forwards run beside backwards of other micro-batches, so that the exchanges of one lie under the compute of the
  // other. DualPipe does so by itself.
  bool merge_passes = false;
  bool delay_weight_gradients = false;  // in merged passes: after all input gradients of a layer
  std::vector<std::int64_t> layout;     // decoder layers of each of the pp * vpp virtual stages; empty: see layers_of
  int zero = 1;                         // 0: replicated; 1: optimizer; 2: and gradients; 3: and parameters
  bool optimizer_offload = false;       // master weights and moments in host memory

  Recompute recompute = kRecomputeNone;
  InLayerOverlap in_layer_overlap = InLayerOverlap::kInterOperator;
  bool overlap_grad_reduce = true;
  bool overlap_param_gather = true;
  bool overlap_p2p = true;
  std::int64_t communication_sms = 20;  // that a communication kernel holds while it runs beside compute; 0: copies
                                        // by the copy engines, where a collective adds nothing
  std::int64_t launch_queues = 8;       // CUDA_DEVICE_MAX_CONNECTIONS: streams that share one start in order of issue
  bool cuda_graphs = false;             // passes are captured: the host launches a pass at once

  LossKind loss = LossKind::kChunked;
  WireFormat grad_wire = WireFormat::kBf16;
  WireFormat act_wire = WireFormat::kBf16;
  Precision precision = Precision::kBf16;
  double grad_bytes = 4;    // of the accumulated main gradient per parameter: 4 (fp32) or 2 (bf16)
  double moment_bytes = 4;  // of each Adam moment per parameter: 4, 2 or 1
  double master_bytes = 4;  // of the master weight per parameter: 4, 2, or 0 where there is none
  Software software = default_software();
  std::string notes;  // for people: sources and assumptions; nothing reads it

  bool operator==(const Plan&) const = default;

  // ---- derived
  std::int64_t attention_ranks() const { return attention_degree * context_degree; }  // that share one sequence
  std::int64_t model_ranks() const { return attention_ranks() * pp; }
  std::int64_t dp() const { return gpus / model_ranks(); }
  std::int64_t expert_ranks() const { return ep * etp; }
  std::int64_t expert_dp() const { return gpus / (expert_ranks() * pp); }
  std::int64_t micro_batches() const { return global_batch / (micro_batch * dp()); }  // per pipeline and step
  std::int64_t virtual_stages() const { return pp * vpp; }
  // Decoder layers of virtual stage v (chunk v / pp of stage v % pp), for a model of num_layers. Without a layout they
  // are as even as can be: what is left over goes one layer a stage to all stages of the first chunks, and the rest
  // to the middle stages of the next chunk, since the first stage also has the embedding and the last one the head.
  //   46 layers, PP4: 11/12/12/11        61 layers, PP16 VPP2: 16 x 2, then 1, 13 x 2, 1, 1
  std::int64_t layers_of(std::int64_t virtual_stage, std::int64_t num_layers) const;
};

// Sets the precision and the defaults of what goes with it: bf16 on both wires and fp32 masters; with fp32 both wires
// are fp32, and no master lies beside a weight, which is one.
void set_precision(Plan& plan, Precision precision);

// ---- JSON (schema_version 1; docs/plan.md). Reading refuses unknown keys and versions.
std::string plan_to_json(const Plan& plan);
Plan read_plan(const std::string& path);
Plan parse_plan(const std::string& name, std::string_view json_text);
// A file, or the name of a plan that ships (plans/NAME.json).
Plan find_plan(const std::string& name_or_path);

// ---- --fix and --what-if: one field by the name that users type (attention_degree, ep, recompute, ...).
// Throws UserError(place = key) naming what is allowed, or the nearest known key. "dp" sets gpus = dp * model_ranks(),
// so it comes after the degrees; "ffn" moves the whole degree (ep * etp) to ep or to etp.
void set_plan_field(Plan& plan, const std::string& key, const std::string& value);
std::vector<std::string> plan_field_names();
std::string plan_field(const Plan& plan, const std::string& key);  // as set_plan_field takes it
std::string plan_fields_help();  // one line a field, for --help: its name, what it does, what is allowed

// "SP8 EP8 PP15 VPP2 DP12, micro-batch 1, ..." for people
std::string describe_plan(const Plan& plan);
// "SP8 EP8 PP15 VPP2 DP12 mb1 ag_rs recompute=selective overlap=intra": what tells plans for one question apart.
std::string short_plan(const Plan& plan);

// ---- Validity (facts: Megatron-LM's own checks; each rule names its origin).
// Which trainer has to accept the plan; the rules differ in a few places.
enum class Target { kMsmoe, kMegatron, kTorchtitan };

struct Violation {
  std::string rule;     // short and stable: "experts % ep", "gpus % model ranks"
  std::string message;  // one sentence: the rule, the numbers, and the nearest valid values
};
// Every rule that the plan breaks; empty where it is valid. Never throws for numbers, however wild: a number out of
// its range is reported alone, since the other rules divide by it.
std::vector<Violation> check_plan(const Model& model, const Cluster& cluster, const Plan& plan,
                                  Target target = Target::kMsmoe);
// The same verdict for the planner's inner loop: no text, no allocation.
bool is_valid(const Model& model, const Cluster& cluster, const Plan& plan);
// The name of the first rule broken, nullptr where the plan is valid; no allocation either.
const char* broken_rule(const Model& model, const Cluster& cluster, const Plan& plan);
// Throws UserError with the first violation.
void require_valid(const Model& model, const Cluster& cluster, const Plan& plan, const std::string& file);
// What is allowed but will likely disappoint: EP across nodes, ETP inherited from TP, dense masks at 128k, ...
// Empty for a plan that is not valid.
std::vector<std::string> plan_warnings(const Model& model, const Cluster& cluster, const Plan& plan,
                                       Target target = Target::kMsmoe);

}  // namespace msmoe
