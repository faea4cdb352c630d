// The search space: every plan that a question leaves open, as three lists that multiply.
//
//   Mesh      how attention and experts split the ranks of a stage
//   Variant   what a layer does: dispatch, micro-batch, recomputation, overlap
//   Pipeline  stages, chunks, optimizer sharding
//
// They multiply because they part the work: a layer's operators depend on mesh and variant alone (below ZeRO-2), what
// is synchronised on mesh and pipeline alone.
//
// Left out, since something in the space is never worse: ZeRO-0 beside ZeRO-1, full logits beside chunked ones, and
// ZeRO-2 or 3 with more than one stage, whose gradients or parameters would cross the network once a micro-batch.
// Whatever --fix names is taken as it is, these included. Schedules other than 1F1B and interleaved, and merged passes,
// are not in the space either: the search tries them on its best plans (search.h), and --fix searches one of them.
#pragma once

#include <cstdint>
#include <vector>

#include "planner/question.h"

namespace msmoe::planner {

struct Mesh {
  AttentionParallelism attention = AttentionParallelism::kTensor;
  std::int64_t attention_degree = 1, context_degree = 1, ep = 1, etp = 1;
};
struct Variant {
  Dispatch dispatch = Dispatch::kAllToAll;
  std::int64_t micro_batch = 1;
  Recompute recompute = Recompute::kNothing;
  InLayerOverlap overlap = InLayerOverlap::kNone;
};
struct Pipeline {
  std::int64_t pp = 1, vpp = 1;
  PipelineSchedule schedule = PipelineSchedule::k1F1B;
  int zero = 1;
};

std::vector<Mesh> meshes(const Question& question);
std::vector<Variant> variants(const Question& question, const Mesh& mesh);
// Only those whose stages the mesh divides; sorted by pp, then zero, then vpp.
std::vector<Pipeline> pipelines(const Question& question, const Mesh& mesh);

// Sets the fields of a plan that started as question.base. No allocation.
void apply(const Mesh& mesh, Plan& plan);
void apply(const Variant& variant, Plan& plan);
void apply(const Pipeline& pipeline, Plan& plan);

}  // namespace msmoe::planner
