// Messages of one communicator that may not have left yet, each with the copy that it is sent from. Gloo sends bytes
// once the receiver asks for them; a thread, started with the first message, waits for the oldest and frees its copy.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "executor/communication/gloo_transport.h"

namespace msmoe::executor {

class OutgoingMessages {
 public:
  OutgoingMessages() = default;
  ~OutgoingMessages();  // drops those that have not left
  OutgoingMessages(const OutgoingMessages&) = delete;
  OutgoingMessages& operator=(const OutgoingMessages&) = delete;

  void add(std::unique_ptr<std::byte[]> copy, std::unique_ptr<GlooTransport::Transfer> transfer);
  // Returns once all have left, or else the peer that is gone or has not taken its message at the deadline.
  std::optional<int> finish(Deadline deadline);

 private:
  struct Message {
    std::unique_ptr<std::byte[]> copy;
    std::unique_ptr<GlooTransport::Transfer> transfer;  // ends before its copy does
  };
  void reap();

  std::mutex mutex_;  // of all below
  std::condition_variable changed_;
  std::deque<Message> messages_;
  std::optional<int> failed_peer_;
  bool stop_ = false;
  std::thread reaper_;
};

}  // namespace msmoe::executor
