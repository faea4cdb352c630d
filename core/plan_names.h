// How the choices and numbers of a plan are called and bounded, once for plan files, for --fix and --what-if, and for
// the rules.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/plan.h"

namespace msmoe {

template <class Enum>
struct Choice {
  Enum value;
  const char* name;
};

inline constexpr std::array kAttentionChoices = {Choice<AttentionParallelism>{AttentionParallelism::kTensor, "tp"},
                                                 Choice<AttentionParallelism>{AttentionParallelism::kSequence, "sp"},
                                                 Choice<AttentionParallelism>{AttentionParallelism::kContext, "cp"}};
inline constexpr std::array kDispatchChoices = {Choice<Dispatch>{Dispatch::kAllToAll, "a2a"},
                                                Choice<Dispatch>{Dispatch::kNodeAllToAll, "deepep"},
                                                Choice<Dispatch>{Dispatch::kAllGather, "ag_rs"}};
inline constexpr std::array kScheduleChoices = {Choice<PipelineSchedule>{PipelineSchedule::k1F1B, "1f1b"},
                                                Choice<PipelineSchedule>{PipelineSchedule::kInterleaved, "interleaved"},
                                                Choice<PipelineSchedule>{PipelineSchedule::kZbH1, "zb_h1"},
                                                Choice<PipelineSchedule>{PipelineSchedule::kZbV, "zb_v"},
                                                Choice<PipelineSchedule>{PipelineSchedule::kDualPipe, "dualpipe"}};
inline constexpr std::array kOverlapChoices = {Choice<InLayerOverlap>{InLayerOverlap::kNone, "none"},
                                               Choice<InLayerOverlap>{InLayerOverlap::kInterOperator, "inter"},
                                               Choice<InLayerOverlap>{InLayerOverlap::kDecomposed, "decomposed"},
                                               Choice<InLayerOverlap>{InLayerOverlap::kIntraOperator, "intra"}};
inline constexpr std::array kLossChoices = {Choice<LossKind>{LossKind::kFull, "full"},
                                            Choice<LossKind>{LossKind::kChunked, "chunked"}};
inline constexpr std::array kGradWireChoices = {Choice<WireFormat>{WireFormat::kFp32, "fp32"},
                                                Choice<WireFormat>{WireFormat::kBf16, "bf16"}};
inline constexpr std::array kActWireChoices = {Choice<WireFormat>{WireFormat::kFp32, "fp32"},
                                               Choice<WireFormat>{WireFormat::kBf16, "bf16"},
                                               Choice<WireFormat>{WireFormat::kFp8, "fp8"}};
inline constexpr std::array kPrecisionChoices = {Choice<Precision>{Precision::kFp32, "fp32"},
                                                 Choice<Precision>{Precision::kBf16, "bf16"},
                                                 Choice<Precision>{Precision::kFp8, "fp8"}};
// What the feed-forward's two degrees amount to; a plan stores the degrees alone.
enum class FeedForwardParallelism { kExpert, kTensor, kExpertAndTensor };
inline constexpr std::array kFeedForwardChoices = {
    Choice<FeedForwardParallelism>{FeedForwardParallelism::kExpert, "ep"},
    Choice<FeedForwardParallelism>{FeedForwardParallelism::kTensor, "tp"},
    Choice<FeedForwardParallelism>{FeedForwardParallelism::kExpertAndTensor, "etp"}};
FeedForwardParallelism feed_forward_parallelism(const Plan& plan);

inline constexpr std::array kRecomputeChoices = {Choice<Recompute>{Recompute::kNorm, "norm"},
                                                 Choice<Recompute>{Recompute::kActivation, "activation"},
                                                 Choice<Recompute>{Recompute::kDispatch, "dispatch"},
                                                 Choice<Recompute>{Recompute::kAttentionOut, "attention_out"},
                                                 Choice<Recompute>{Recompute::kUpProjection, "up_projection"},
                                                 Choice<Recompute>{Recompute::kAttention, "attention"},
                                                 Choice<Recompute>{Recompute::kExpert, "expert"}};
inline constexpr std::array kRecomputeSets = {Choice<Recompute>{kRecomputeNone, "none"},
                                              Choice<Recompute>{kRecomputeSelective, "selective"},
                                              Choice<Recompute>{kRecomputeFull, "full"}};

template <class Choices>
std::vector<std::string> choice_names(const Choices& choices) {
  std::vector<std::string> names;
  for (const auto& choice : choices) names.emplace_back(choice.name);
  return names;
}
template <class Choices>
const char* choice_name(const Choices& choices, decltype(Choices::value_type::value) value) {
  for (const auto& choice : choices)
    if (choice.value == value) return choice.name;
  return "?";
}
template <class Choices>
auto find_choice(const Choices& choices, std::string_view name) {
  std::optional<decltype(Choices::value_type::value)> found;
  for (const auto& choice : choices)
    if (name == choice.name) found = choice.value;
  return found;
}

// "none", "selective", "full", or what the set holds: "norm+activation".
std::string recompute_name(Recompute set);
std::vector<std::string> recompute_elements(Recompute set);

// Bounds that keep every product of two degrees and a batch within 64 bits. No machine is near them.
inline constexpr std::int64_t kLargestDegree = 1'000'000;
inline constexpr std::int64_t kLargestBatch = 1'000'000'000;
inline constexpr std::int64_t kLargestSeqLen = std::int64_t{1} << 30;

// Bounds on what is simulated slot by slot; published runs stay below 2,000 and 24.
inline constexpr std::int64_t kMostMicroBatches = 65536;
inline constexpr std::int64_t kMostChunks = 64;

struct IntegerBounds {
  const char* name;
  std::int64_t Plan::*member;
  std::int64_t min, max;
};
inline constexpr std::array kIntegerBounds = {
    IntegerBounds{"gpus", &Plan::gpus, 1, kLargestDegree},
    IntegerBounds{"global_batch", &Plan::global_batch, 1, kLargestBatch},
    IntegerBounds{"seq_len", &Plan::seq_len, 1, kLargestSeqLen},
    IntegerBounds{"micro_batch", &Plan::micro_batch, 1, kLargestDegree},
    IntegerBounds{"attention_degree", &Plan::attention_degree, 1, kLargestDegree},
    IntegerBounds{"cp", &Plan::context_degree, 1, kLargestDegree},
    IntegerBounds{"ep", &Plan::ep, 1, kLargestDegree},
    IntegerBounds{"etp", &Plan::etp, 1, kLargestDegree},
    IntegerBounds{"pp", &Plan::pp, 1, kLargestDegree},
    IntegerBounds{"vpp", &Plan::vpp, 1, kLargestDegree},
    IntegerBounds{"communication_sms", &Plan::communication_sms, 0, 1024},
    IntegerBounds{"launch_queues", &Plan::launch_queues, 1, 32},
};
constexpr const IntegerBounds& bounds_of(std::int64_t Plan::*member) {
  const IntegerBounds* found = nullptr;
  for (const IntegerBounds& bounds : kIntegerBounds)
    if (bounds.member == member) found = &bounds;
  return *found;
}

// Bytes per parameter: what a plan may say.
struct ByteChoices {
  const char* name;
  double Plan::*member;
  std::array<double, 3> allowed;
};
inline constexpr std::array kByteChoices = {
    ByteChoices{"grad_bytes", &Plan::grad_bytes, {4, 2, 2}},
    ByteChoices{"moment_bytes", &Plan::moment_bytes, {4, 2, 1}},
    ByteChoices{"master_bytes", &Plan::master_bytes, {4, 2, 0}},
};
constexpr bool is_allowed(const ByteChoices& choices, double bytes) {
  return bytes == choices.allowed[0] || bytes == choices.allowed[1] || bytes == choices.allowed[2];
}
std::string allowed_bytes(const ByteChoices& choices);  // "4, 2"

inline constexpr int kLargestZero = 3;
inline constexpr double kLargestCapacity = 1e6;
inline constexpr double kLargestTimeScale = 1000;
inline constexpr double kLargestRoutingSeconds = 1;

}  // namespace msmoe
