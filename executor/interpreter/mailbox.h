// Mailbox: hidden states and their gradients between the virtual stages of a pipeline.
//
// Stages run their slots in orders of their own, so what two stages send each other may come in another order than it
// is wanted in: each message says what it is, and waits until somebody asks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "executor/backend/backend.h"
#include "executor/communication/communicator.h"

namespace msmoe::executor {

// What a virtual stage gets: its input, or the gradient of its output.
struct Letter {
  std::int32_t virtual_stage = 0, micro_batch = 0;
  std::int32_t is_gradient = 0;
  auto operator<=>(const Letter&) const = default;
};

class Mailbox {
 public:
  // All messages of a job are this long. pipeline: one rank a stage, in order.
  Mailbox(std::size_t bytes, Backend& backend, Communicator& pipeline)
      : bytes_(bytes), backend_(backend), pipeline_(pipeline) {}

  void send(int stage, const Letter& letter, const std::byte* data);
  void receive(int stage, const Letter& letter, std::byte* data);
  // At the end of a step, when nothing is left to be received.
  void finish();

 private:
  std::size_t bytes_;
  Backend& backend_;
  Communicator& pipeline_;
  std::map<Letter, std::vector<std::byte>> arrived_;
};

}  // namespace msmoe::executor
