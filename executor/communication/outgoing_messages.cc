#include "executor/communication/outgoing_messages.h"

#include <utility>

#include "executor/blocked_signals.h"

namespace msmoe::executor {

OutgoingMessages::~OutgoingMessages() {
  if (!reaper_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    for (const Message& message : messages_) message.transfer->abandon();
  }
  changed_.notify_all();
  reaper_.join();
}

void OutgoingMessages::add(std::unique_ptr<std::byte[]> copy, std::unique_ptr<GlooTransport::Transfer> transfer) {
  {
    const std::lock_guard lock(mutex_);
    messages_.push_back({std::move(copy), std::move(transfer)});
  }
  changed_.notify_all();
  if (reaper_.joinable()) return;
  const BlockedSignals blocked;
  reaper_ = std::thread([this] { reap(); });
}

std::optional<int> OutgoingMessages::finish(Deadline deadline) {
  std::unique_lock lock(mutex_);
  const bool done = changed_.wait_until(lock, deadline, [&] { return messages_.empty() || failed_peer_; });
  if (failed_peer_ || done) return failed_peer_;
  return messages_.front().transfer->peer();
}

// Waits without a deadline: that is for who needs them gone, in finish().
void OutgoingMessages::reap() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stop_ || (!messages_.empty() && !failed_peer_); });
    if (stop_) return;
    GlooTransport::Transfer& oldest = *messages_.front().transfer;
    lock.unlock();
    const bool has_left = oldest.wait(Deadline::max());
    lock.lock();
    if (stop_) return;
    if (has_left) {
      const Message done = std::move(messages_.front());
      messages_.pop_front();
    } else {
      failed_peer_ = oldest.peer();
    }
    changed_.notify_all();
  }
}

}  // namespace msmoe::executor
