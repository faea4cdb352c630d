// Connection: frames over one TCP socket.
#pragma once

#include <optional>

#include "executor/launch/frame.h"
#include "executor/launch/socket.h"

namespace msmoe::executor {

// One thread may send while another receives.
class Connection {
 public:
  // longest: payload that is accepted, bytes.
  Connection(Descriptor socket, std::uint32_t longest);

  int descriptor() const { return socket_.value(); }

  // Reads what has arrived. False once the peer has closed; frames that came before may still be there.
  bool receive();
  std::optional<Frame> next_frame() { return frames_.next(); }  // or a MalformedFrame

  // False where the peer is gone, or has not taken all of it at the deadline.
  bool send(const Frame& frame, Deadline deadline);

 private:
  Descriptor socket_;
  FrameReader frames_;
};

}  // namespace msmoe::executor
