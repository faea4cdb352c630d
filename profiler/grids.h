// What a profile measures: shapes that matter for training MoE models, from the layers of published ones.
//
//   gemm_forward | gemm_input_gradient | gemm_weight_gradient          {tokens, out, in}: of a linear layer [out, in]
//   grouped_gemm_forward | ..._input_gradient | ..._weight_gradient    {experts, rows, out, in}: rows in all, balanced
//   attention_forward | attention_backward      {sequences, length, heads, kv_heads, width, value_width}, causal
//   rms_norm, swi_glu, ...                      {rows, width}, with {choices} or {experts, choices} where tokens are
//                                               routed, {heads} for rope, {parts} for sum_chunks
//   launch                                      {}: the gap between two kernels on a busy stream
//   all_gather | reduce_scatter | all_reduce | all_to_all | copy_engine | push     {bytes, ranks}, with {ctas} where
//                                               the kernel is held to so many blocks
//   X beside Y, Y beside X                      the shapes of both: each while the other runs
//   layer                                       forward and backward of an MoE layer: {tokens, length, width, heads,
//                                               kv_heads, head_width, experts, choices, expert_width}
//
// GEMMs may have {sms}: the multiprocessors that they are told to make do with.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "profiler/point.h"

namespace msmoe::profiler {

// "gemm", "grouped_gemm", "attention", "rows", "links", "pairs", "layers", in the order in which they are measured.
const std::vector<std::string>& case_kinds();

// Of one kind, on a machine of so many GPUs: links and pairs need two.
std::vector<Case> cases_of_kind(std::string_view kind, int num_gpus, bool quick);

// The two sides of "X beside Y" as cases of their own.
struct Pair {
  Case compute, link;
};
bool is_pair(const Case& of);
Pair sides_of(const Case& of);    // REQUIRES is_pair
Case partner_of(const Case& of);  // "Y beside X". REQUIRES is_pair

// The operators of a layer in the order in which they run, forward then backward. REQUIRES of.what == "layer"
std::vector<Case> operators_of_layer(const Case& of);

}  // namespace msmoe::profiler
