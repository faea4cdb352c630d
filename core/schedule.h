// The order in which each pipeline stage runs its slots.
//
//   1F1B          Narayanan et al. 2021 (arXiv 2104.04473) section 2.2.1: stage i runs pp - 1 - i forwards, then one
//                 forward and one backward in turn, then the backwards left.
//   interleaved   section 2.2.2: vpp chunks a stage, virtual stage v = chunk * pp + stage; micro-batches go in rounds
//                 of pp through each chunk. Warm-up of stage i: 2 (pp - 1 - i) + (vpp - 1) pp slots.
#pragma once

#include <cstdint>
#include <vector>

#include "core/plan.h"
#include "core/program.h"

namespace msmoe {

// REQUIRES micro_batches >= 1 and, interleaved, micro_batches % pp == 0 or micro_batches >= pp (the last round may be
// short). Every (chunk, micro-batch) appears once forward and once backward.
std::vector<Slot> stage_slots(PipelineSchedule schedule, std::int64_t pp, std::int64_t vpp, std::int64_t stage, std::int64_t micro_batches);

// The most micro-batch chunks of a stage that have run forward and not yet backward, in closed form; equals what
// stage_slots would show. micro-batches counted per chunk: a stage of vpp chunks in flight holds this many chunk
// activations.
std::int64_t peak_in_flight(PipelineSchedule schedule, std::int64_t pp, std::int64_t vpp, std::int64_t stage, std::int64_t micro_batches);

}  // namespace msmoe
