// The event engine: runs blocks of tasks on devices, with streams and shared resources.
//
//   Task      one operator: how long it takes alone and what share of each resource of its device it uses then.
//   Block     tasks with the waits among them; a template that is run many times and never copied.
//   Slot      one run of a block on a device. A device's slots enter its streams in order; a stream runs its tasks one
//             at a time in that order, and a waiting head blocks those behind it (as cudaStreamWaitEvent does).
//   Message   a slot may wait for messages of other slots before its first task, and sends its own when one of its
//             tasks ends.
//
// Tasks that run at once on one device share its resources as fluid rates. Let u_ir be the share of resource r that
// task i uses alone, and x_i its rate (1: as if alone). Holders (communication kernels, which keep the SMs they were
// launched with) are served first, then the others, each class by progressive filling: all x_i of the class rise
// together until one reaches 1 or a resource is full,  sum_i u_ir x_i <= 1  for each r; tasks on a full resource stop,
// the rest rise on (max-min fairness, Bertsekas & Gallager, Data Networks, section 6.5.2).
//
// Times are integer picoseconds. Nothing depends on addresses or hashing: equal inputs give equal timelines.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "core/units.h"

namespace msmoe::simulator {

enum Resource : std::uint8_t { kSm, kHbm, kNvlink, kNic, kNumResources };

struct Task {
  std::int64_t alone_ps = 0;
  std::array<float, kNumResources> share{};  // each in [0, 1]
  bool holder = false;
  std::uint8_t stream = 0;                   // < kMaxStreams
};
inline constexpr int kMaxStreams = 4;

struct Block {
  std::vector<Task> tasks;                 // in issue order; a wait points backwards
  std::vector<std::vector<std::int32_t>> waits;  // waits[t]: tasks of this block that must end before t starts
};

struct Message {
  std::int32_t task = 0;        // of this slot: its end sends the message
  std::int32_t to_device = 0;
  std::int32_t to_slot = 0;     // all of that slot's tasks wait for it
  std::int64_t latency_ps = 0;
};

struct SlotRun {
  std::int32_t block = 0;
  std::vector<Message> messages;
};

struct Job {
  std::vector<Block> blocks;
  std::vector<std::vector<SlotRun>> devices;  // devices[d]: its slots in order
};

struct TaskRun {
  std::int32_t device, slot, task;
  std::int64_t start_ps, end_ps;
};

struct RunResult {
  std::int64_t makespan_ps = 0;
  std::int64_t events = 0;                    // tasks that ended
  std::vector<std::int64_t> device_end_ps;
  std::vector<std::vector<std::int64_t>> slot_end_ps;    // [device][slot]
  std::vector<std::vector<std::int64_t>> slot_start_ps;  // first task's start
};

// Runs the job to its end. on_task, where given, is called as each task ends, in order of time.
// A job that cannot finish (a wait for a message nobody sends) throws std::logic_error naming every device, the slot
// and task at the head of each of its streams, and what that task waits for.
RunResult run(const Job& job, const std::function<void(const TaskRun&)>& on_task = {});

}  // namespace msmoe::simulator
