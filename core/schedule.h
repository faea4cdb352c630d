// Pipeline schedules: which virtual stage stands where, and the order in which each stage runs its slots.
//
//   1F1B          Narayanan et al. 2021 (arXiv 2104.04473) section 2.2.1: stage i runs pp - 1 - i forwards, then one
//                 forward and one backward in turn, then the backwards left.
//   interleaved   section 2.2.2: vpp chunks a stage, virtual stage v = chunk * pp + stage; micro-batches go in rounds
//                 of g through each chunk, backward from the last chunk to the first. Stage i runs
//                 2 (pp - 1 - i) + (vpp - 1) g forwards before it alternates.
//   ZB-H1         Qi et al. 2023 (arXiv 2401.10241) section 2: 1F1B with the weight gradients of stage i put off by i
//                 micro-batches, so that every stage holds up to pp, and first stages wait less for gradients.
//   ZB-V          section 6, and Qi et al. 2024 (arXiv 2405.15362): two chunks a stage in the shape of a V, chunk 0 on
//                 the way down (v = stage), chunk 1 on the way up (v = 2 pp - 1 - stage). Up to 2 pp chunks in flight,
//                 each half as large as 1F1B's.
//   DualPipe      DeepSeek-V3 (arXiv 2412.19437) section 3.2.1, order of https://github.com/deepseek-ai/DualPipe: every
//                 stage holds virtual stages i and pp - 1 - i (chunks 0 and 1), the first half of the micro-batches
//                 enters at stage 0 and the second one at stage pp - 1. In the steady state forwards of one direction
//                 and backwards of the other are merged.
//
// 1F1B (with one stage) and interleaved may merge passes as Megatron-LM's --overlap-moe-expert-parallel-comm does
// (https://github.com/NVIDIA/Megatron-LM, core/pipeline_parallel/schedules.py): the warm-up is one forward longer, and
// each forward after it is merged with the backward that followed the forward before.
//
// A round of fewer than pp micro-batches can deadlock: with pp = 4, vpp = 3, m = 5 in rounds of 4 and 1, stage 0 waits
// for a forward of stage 3 that comes after a backward which needs stage 0. So g is the smallest number from pp on
// that leaves no last round, or one of pp micro-batches or more. Megatron-LM has the same order and the same limit on
// its last round, and takes g as microbatch_group_size_per_vp_stage.
#pragma once

#include <cstdint>
#include <vector>

#include "core/plan.h"
#include "core/program.h"

namespace msmoe {

struct PipelineShape {
  PipelineSchedule schedule = PipelineSchedule::k1F1B;
  std::int64_t pp = 1, vpp = 1, micro_batches = 1;
  bool merge_passes = false;

  bool operator==(const PipelineShape&) const = default;
  std::int64_t virtual_stages() const { return pp * vpp; }
  // Chunks that a stage holds. DualPipe's second one is a copy of another stage's first.
  std::int64_t chunks() const { return schedule == PipelineSchedule::kDualPipe ? 2 : vpp; }
  // Those of 1F1B and interleaved without merged slots, which go in closed form.
  bool is_plain() const { return schedule <= PipelineSchedule::kInterleaved && !merge_passes; }
  bool parts_backward() const { return schedule >= PipelineSchedule::kZbH1; }
  bool has_merged_slots() const { return merge_passes || schedule == PipelineSchedule::kDualPipe; }

  std::int64_t virtual_stage(std::int64_t stage, std::int64_t chunk) const {
    const bool turned = schedule >= PipelineSchedule::kZbV && chunk == 1;
    return turned ? virtual_stages() - 1 - stage : chunk * pp + stage;
  }
  // The stage that runs a virtual stage for a micro-batch.
  std::int64_t stage_of(std::int64_t virtual_stage, std::int64_t micro_batch) const {
    const bool turned = (schedule == PipelineSchedule::kZbV && virtual_stage >= pp) ||
                        (schedule == PipelineSchedule::kDualPipe && micro_batch >= micro_batches / 2);
    return turned ? virtual_stages() - 1 - virtual_stage : virtual_stage % pp;
  }
  // Whether the output of a virtual stage goes to another stage. Not from the last one.
  bool sends(std::int64_t virtual_stage) const {
    return pp > 1 && !(schedule == PipelineSchedule::kZbV && virtual_stage == pp - 1);
  }
};
PipelineShape pipeline_shape(const Plan& plan);

// Micro-batches that go through one chunk before the next chunk's turn: g above, pp where pp divides micro_batches.
// REQUIRES micro_batches >= pp.
std::int64_t round_size(std::int64_t pp, std::int64_t micro_batches);

// Forwards that a stage of 1F1B or interleaved runs before its first pair of one forward and one backward, were there
// enough of them.
std::int64_t warm_up_slots(const PipelineShape& shape, std::int64_t stage);

// Every (chunk, micro-batch) of the stage once forward and once backward.
// REQUIRES micro_batches >= 1; vpp == 1, but for interleaved (micro_batches >= pp) and ZB-V (vpp == 2); DualPipe: pp
// even, micro_batches even and >= 2 pp.
std::vector<Slot> stage_slots(const PipelineShape& shape, std::int64_t stage);

// The most (chunk, micro-batch) pairs of a stage that have run forward and not yet all of backward; equals what
// stage_slots shows, and is in closed form for plain shapes. A stage holds activations of this many of its chunks at
// once.
std::int64_t peak_in_flight(const PipelineShape& shape, std::int64_t stage);

// Every stage with its chunks and slots. chunks: by virtual stage.
std::vector<Stage> lay_out_stages(const PipelineShape& shape, const std::vector<Chunk>& chunks);

}  // namespace msmoe
