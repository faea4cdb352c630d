#include "executor/interpreter/mailbox.h"

#include <cassert>
#include <cstring>
#include <utility>

namespace msmoe::executor {

void Mailbox::send(int stage, const Letter& letter, const std::byte* data) {
  std::vector<std::byte> message(sizeof(Letter) + bytes_);
  std::memcpy(message.data(), &letter, sizeof(Letter));
  backend_.finish(Stream::kCompute);
  backend_.to_host(message.data() + sizeof(Letter), data, bytes_);
  if (stage == pipeline_.rank())
    arrived_[letter] = std::move(message);
  else
    pipeline_.send(stage, message.data(), message.size());
}

void Mailbox::receive(int stage, const Letter& letter, std::byte* data) {
  auto found = arrived_.find(letter);
  while (found == arrived_.end()) {
    assert(stage != pipeline_.rank() && "a message to oneself is sent before it is asked for");
    std::vector<std::byte> message(sizeof(Letter) + bytes_);
    pipeline_.receive(stage, message.data(), message.size());
    Letter which;
    std::memcpy(&which, message.data(), sizeof(Letter));
    const auto place = arrived_.emplace(which, std::move(message)).first;
    if (which == letter) found = place;
  }
  backend_.from_host(data, found->second.data() + sizeof(Letter), bytes_);
  arrived_.erase(found);
}

void Mailbox::finish() {
  assert(arrived_.empty());
  pipeline_.finish_sends();
}

}  // namespace msmoe::executor
