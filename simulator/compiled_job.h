// A job, checked and laid out for the engine.
//
// A stream runs its tasks in order, so a wait for several tasks of another stream is a wait for the last of them: "so
// many tasks of stream k have ended". A task thus waits for one number per stream, and nothing is counted down.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "simulator/engine.h"
#include "simulator/fluid_rates.h"

namespace msmoe::simulator {

struct StreamTask {
  std::int64_t alone_ps = 0;
  Demand demand;
  bool waits = false;                             // some needs[k] > 0
  std::array<std::int32_t, kMaxStreams> needs{};  // tasks of this block on stream k that must have ended
  std::int32_t task = 0;                          // index in Block::tasks
};

// The tasks of a block, stream by stream: those of stream k are tasks[first[k]] to tasks[first[k + 1] - 1].
struct CompiledBlock {
  std::vector<StreamTask> tasks;
  std::array<std::int32_t, kMaxStreams + 1> first{};
  // By task, for each stream: how many of its tasks are issued before. Empty where every stream has its own queue.
  std::vector<std::array<std::int32_t, kMaxStreams>> issued_before;
};

struct OutgoingMessage {
  std::int32_t position = 0;  // of the sending task in CompiledBlock::tasks
  std::int32_t to_device = 0, to_slot = 0;
  std::int64_t latency_ps = 0;
};

struct CompiledSlot {
  const CompiledBlock* block = nullptr;
  std::int32_t first_message = 0, last_message = 0;  // what it sends, [first, last) of CompiledJob::messages
  std::int32_t awaited = 0;                          // messages still to be sent to it
  std::int64_t ready_ps = 0;                         // the latest arrival of those sent so far
};

struct CompiledJob {
  // Throws std::logic_error if the job is malformed. The job need not outlive this.
  explicit CompiledJob(const Job& job);
  CompiledJob(const CompiledJob&) = delete;  // slots point into blocks
  CompiledJob& operator=(const CompiledJob&) = delete;

  std::vector<CompiledBlock> blocks;
  std::vector<std::vector<CompiledSlot>> devices;
  std::vector<OutgoingMessage> messages;  // by sending device, slot, and position
  int launch_queues = kMaxStreams;

 private:
  void lay_out_messages(const Job& job);
};

}  // namespace msmoe::simulator
