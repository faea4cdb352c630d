// Links between the GPUs of this process: collectives of NCCL, copies to a peer by the copy engines, and stores.
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
  //   all_gather | reduce_scatter | all_reduce | all_to_all   {bytes, ranks}: bytes as Transfer::payload counts, bf16
  //   copy_engine | push                                      {bytes, ranks}: every rank to the next, all at once;
  //                                                           push stores from {ctas} multiprocessors
  // Collectives may have {ctas}, too: NCCL is held to so many blocks.
  // The first run of a case is not counted. REQUIRES repeats >= 1, bytes a multiple of 16 * ranks up to `largest`.
  Point measure(const Case& of, int repeats);

  // One run on every rank, each on its own stream; tagged where tag is not 0.
  void launch(const Case& of, std::uint64_t tag);
  void synchronize();
  int ranks() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// NCCL's version, "2.28.9"; "none" where there is no NCCL, which only links need.
std::string nccl_version();

// From the last start to the last end over devices, one activity on each.
std::int64_t joined_ns(const std::vector<const Activity*>& activities);

}  // namespace msmoe::profiler
