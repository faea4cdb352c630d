// The event engine: runs blocks of tasks on devices, with streams and shared resources.
//
//   Task      one operator: how long it takes alone and what share of each resource of its device it uses then.
//   Block     tasks with the waits among them; a template that is run many times and never copied.
//   Slot      one run of a block on a device. A device's slots enter its streams in order; a stream runs its tasks one
//             at a time in that order, and a waiting head blocks those behind it (as cudaStreamWaitEvent does).
//   Message   from a task's end to another slot, on any device: that slot's tasks wait for all messages sent to it.
//
// Tasks that run at once on one device share its resources as fluid rates. Let u_ir be the share of resource r that
// task i uses alone, and x_i its rate (1: as if alone). Holders (communication kernels) keep the SMs they were launched
// with for as long as they run, at whatever rate: H = sum of u_i,SM over the holders. The rates obey
//
//     sum_i u_ir x_i <= 1                         memory, links by direction, copy engines: over all tasks
//     sum_i u_i,SM x_i <= max(0, 1 - H)           SMs: over tasks that are no holders
//     sum_i u_i,SM x_i <= 1                       SMs: over holders; it binds where they want more than there are
//
// A tiled kernel runs in whole waves: ceil(T / S) for T tiles on S SMs. Launched for all of them beside holders that
// leave fewer than its tiles, it needs W(f) = ceil(T / (S f)) on the part f = 1 - H that is free, and one more, since
// tiles that it counted on the held SMs to run come last; its rate is then W(1) / (W(f) + 1) at most, and u_i,SM
// becomes what makes the second line say so. cuBLAS on H100 (8192^3, 4096^3, 1024 x 6144 x 4096 and 2048 x 28672 x 4096
// with 4 to 64 SMs held by another kernel) takes 1.11 to 2.0 times as long as alone; this says 1.06 to 2.25
// (reports/validation/h100-microbenchmarks.json).
//
//     x_i <= 1 / s_i                              how much those beside it slow task i (core/contention.h), whatever
//                                                 they share
//
// and are found by progressive filling: all x_i rise together until one reaches its own bound or a shared one is met;
// the tasks under that bound stop, the rest rise on (max-min fairness, Bertsekas & Gallager, Data Networks, section
// 6.5.2). Every rate
// is above 0, but for tasks that need SMs while holders hold them all (H >= 1). Shares are floats: demands that exceed
// a capacity by less than 1e-6 fit.
//
// Streams that share a launch queue of the device (Job::launch_queues) also start their tasks in the order of issue, as
// CUDA_DEVICE_MAX_CONNECTIONS makes them.
//
// Times are integer picoseconds. Nothing depends on addresses or hashing: equal inputs give equal timelines.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "core/units.h"

namespace msmoe::simulator {

enum Resource : std::uint8_t {
  kSm,
  kHbm,
  kNvlinkOut,
  kNvlinkIn,
  kNicOut,
  kNicIn,
  kCopyEngine,
  kNumResources,
};

// How a task slows those beside it and is slowed by them, in the terms of core/contention.h. What several do adds up.
struct Interference {
  float crowds = 0, yields = 0;            // of an operator
  float waits = 0, wire = 0, presses = 0;  // of a transfer
};

struct Task {
  std::int64_t alone_ps = 0;
  std::array<float, kNumResources> share{};  // each in [0, 1]
  bool holder = false;
  std::uint8_t stream = 0;  // < kMaxStreams
  float tiles_per_sm = 0;   // of a tiled kernel; 0: work that spreads over any number of SMs
  Interference interference;
};
inline constexpr int kMaxStreams = 4;

struct Block {
  std::vector<Task> tasks;  // in issue order
  // waits[t]: tasks of this block, before t, that must end before t starts. May be shorter than tasks.
  std::vector<std::vector<std::int32_t>> waits;
};

struct Message {
  std::int32_t from_device = 0, from_slot = 0, from_task = 0;  // the end of this task sends it
  std::int32_t to_device = 0, to_slot = 0;                     // all tasks of this slot wait for it
  std::int64_t latency_ps = 0;
};

struct Job {
  std::vector<Block> blocks;
  std::vector<std::vector<std::int32_t>> devices;  // devices[d][s]: the block that slot s of device d runs
  std::vector<Message> messages;                   // in any order
  int launch_queues = kMaxStreams;                 // stream k launches through queue k mod this
};

struct TaskRun {
  std::int32_t device, slot, task;
  std::int64_t start_ps, end_ps;
};

struct RunResult {
  std::int64_t makespan_ps = 0;
  std::int64_t events = 0;  // tasks that ended
  std::vector<std::int64_t> device_end_ps;
  std::vector<std::vector<std::int64_t>> slot_end_ps;    // [device][slot]
  std::vector<std::vector<std::int64_t>> slot_start_ps;  // first task's start; both 0 where the block is empty
};

// Runs the job to its end. on_task, where given, is called as each task ends, in order of time.
// A job that cannot finish (slots that wait for each other's messages) throws std::logic_error naming every device that
// is stuck, the slot and task at the head of each of its streams, and what that task waits for. So does one that is
// malformed: an index out of range, a wait that points forwards, a negative time, a share outside [0, 1].
RunResult run(const Job& job, const std::function<void(const TaskRun&)>& on_task = {});

}  // namespace msmoe::simulator
