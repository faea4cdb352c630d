// GlooTransport: messages between this rank and every other, over Gloo's TCP transport; what the communicators of all
// groups share. Only Gloo's point-to-point layer is used: its collectives do not say which peer failed.
//
// A peer whose connection closes is noticed whatever is waited for. Gloo 0.5 tells that to operations that have not
// begun but not to one in the middle of its bytes, which would wait until its time-out. So a receive that never gets
// anything is posted to each peer, and a thread waits for these to fail.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "executor/communication/communicator.h"
#include "executor/launch/rendezvous.h"

namespace gloo::transport {
class Context;
class Device;
class UnboundBuffer;
}  // namespace gloo::transport

namespace msmoe::executor {

class GlooTransport {
 public:
  enum class Direction { kSend, kReceive };

  // One message on its way. Its memory is in use until it has been waited for, or is destroyed.
  class Transfer {
   public:
    ~Transfer();
    int peer() const { return peer_; }
    // False where the peer is gone, or it is not done at the deadline. Once; from any thread.
    bool wait(Deadline deadline);
    // Ends the wait, now or to come: nobody cares any more.
    void abandon();

   private:
    friend class GlooTransport;
    Transfer(GlooTransport& transport, Direction direction, int peer, void* data, std::size_t bytes);
    bool wait_for(std::chrono::milliseconds time);
    void interrupt();

    GlooTransport& transport_;
    Direction direction_;
    int peer_;
    std::atomic<bool> abandoned_ = false;
    std::unique_ptr<gloo::transport::UnboundBuffer> buffer_;
  };

  // Collective over all ranks; two exchanges of the rendezvous. Options as those of Communicators.
  GlooTransport(int rank, int num_ranks, const std::string& address, std::chrono::milliseconds timeout,
                Rendezvous& rendezvous);
  ~GlooTransport();
  GlooTransport(const GlooTransport&) = delete;
  GlooTransport& operator=(const GlooTransport&) = delete;

  int rank() const { return rank_; }
  Deadline deadline() const { return std::chrono::steady_clock::now() + timeout_; }  // of an operation that starts now

  // Begins a message, and returns at once. Those of one channel between two ranks arrive in order, and are received
  // with the size that they are sent with. REQUIRES: another rank; bytes > 0.
  // Errors: as fail(). `operation` is named in them.
  std::unique_ptr<Transfer> send(std::uint32_t channel, int to, const void* data, std::size_t bytes,
                                 const char* operation);
  std::unique_ptr<Transfer> receive(std::uint32_t channel, int from, void* data, std::size_t bytes,
                                    const char* operation);
  // Waits for it, or fails.
  void finish(Transfer& transfer, Deadline deadline, const char* operation);

  // Closes all connections, so that others notice in turn, and throws a CommunicationFault: which rank's connection
  // was the first to close, or that this peer did not answer in time. All later operations throw the same.
  [[noreturn]] void fail(int peer, Deadline deadline, const char* operation);

 private:
  std::unique_ptr<Transfer> start(Direction direction, std::uint32_t channel, int peer, void* data, std::size_t bytes,
                                  const char* operation);
  void connect(const std::string& address, Rendezvous& rendezvous);
  void watch();
  void lose(int peer);

  int rank_, num_ranks_;
  std::chrono::milliseconds timeout_;
  std::shared_ptr<gloo::transport::Device> device_;
  std::shared_ptr<gloo::transport::Context> context_;

  std::mutex mutex_;                  // of all below
  std::vector<Transfer*> transfers_;  // that exist
  std::vector<int> gone_;             // peers whose connections have closed, in the order in which that was noticed
  std::string fault_;                 // empty: none yet
  std::unique_ptr<gloo::transport::UnboundBuffer> watched_;
  bool stop_ = false;
  std::thread watcher_;
};

}  // namespace msmoe::executor
