// The order in which each pipeline stage runs its slots.
//
//   1F1B          Narayanan et al. 2021 (arXiv 2104.04473) section 2.2.1: stage i runs pp - 1 - i forwards, then one
//                 forward and one backward in turn, then the backwards left.
//   interleaved   section 2.2.2: vpp chunks a stage, virtual stage v = chunk * pp + stage; micro-batches go in rounds
//                 of g through each chunk, backward from the last chunk to the first. Stage i runs
//                 2 (pp - 1 - i) + (vpp - 1) g forwards before it alternates.
//
// A round of fewer than pp micro-batches can deadlock: with pp = 4, vpp = 3, m = 5 in rounds of 4 and 1, stage 0 waits
// for a forward of stage 3 that comes after a backward which needs stage 0. So g is the smallest number from pp on
// that leaves no last round, or one of pp micro-batches or more. Megatron-LM has the same order and the same limit on
// its last round, and takes g as microbatch_group_size_per_vp_stage (https://github.com/NVIDIA/Megatron-LM,
// core/pipeline_parallel/schedules.py).
#pragma once

#include <cstdint>
#include <vector>

#include "core/plan.h"
#include "core/program.h"

namespace msmoe {

// Micro-batches that go through one chunk before the next chunk's turn: g above, pp where pp divides micro_batches.
// REQUIRES micro_batches >= pp.
std::int64_t round_size(std::int64_t pp, std::int64_t micro_batches);

// Forwards that the stage runs before its first pair of one forward and one backward, were there enough of them.
std::int64_t warm_up_slots(PipelineSchedule schedule, std::int64_t pp, std::int64_t vpp, std::int64_t stage,
                           std::int64_t micro_batches);

// Every (chunk, micro-batch) once forward and once backward.
// REQUIRES micro_batches >= 1; 1F1B: vpp == 1; interleaved: micro_batches >= pp.
std::vector<Slot> stage_slots(PipelineSchedule schedule, std::int64_t pp, std::int64_t vpp, std::int64_t stage,
                              std::int64_t micro_batches);

// The most (chunk, micro-batch) pairs of a stage that have run forward and not yet backward, in closed form; equals
// what stage_slots would show. A stage holds the activations of this many of its chunks at once.
std::int64_t peak_in_flight(PipelineSchedule schedule, std::int64_t pp, std::int64_t vpp, std::int64_t stage,
                            std::int64_t micro_batches);

}  // namespace msmoe
