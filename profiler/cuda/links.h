// Links between the GPUs of this process: collectives of NCCL, and copies to a peer by the copy engines.
//
// A collective takes from the moment its last rank joins to the moment its last rank leaves, by the devices' own clocks
// (KernelTrace): what the host needs to launch it is not in it. NCCL's library is opened at run time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "profiler/cuda/kernel_trace.h"
#include "profiler/point.h"

namespace msmoe::profiler {

class Links {
 public:
  // Uses devices 0 ... ranks - 1, two buffers of `largest` on each. Throws kernels::DeviceError where there are fewer,
  // where one cannot reach another, or without NCCL. trace must outlive this.
  Links(int ranks, Bytes largest, KernelTrace& trace);
  ~Links();

  // Cases are
  //   all_gather | reduce_scatter | all_reduce | all_to_all   {bytes, ranks}: bytes as Transfer::payload counts, in
  //   bf16 copy_engine                                             {bytes, ranks}: every rank to the next, all at once
  // The first run of a case is not counted. REQUIRES repeats >= 1, bytes a multiple of 2 * ranks up to `largest`.
  Point measure(const Case& of, int repeats);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// From `smallest` to `largest` in steps of 4, for every collective and the copy engines.
std::vector<Case> link_cases(int ranks, Bytes smallest, Bytes largest);

}  // namespace msmoe::profiler
