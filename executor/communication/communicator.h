// Communicator: the collectives of one group of ranks, on memory that the backend can reach.
//
// All calls but send() and receive() are collective: every rank of the group makes the same ones in the same order,
// from one thread. They return when the caller may use its buffers again. Sums are made in an order that depends on the
// group's size alone, so that a run can be repeated to the bit.
//
// Errors: CommunicationFault (exit code 3) where a peer is gone or did not answer in time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>

namespace msmoe::executor {

struct CommunicationFault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class Reduction : std::uint8_t { kSum, kMaximum };

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;  // in the group
  virtual int size() const = 0;

  // Every rank's bytes, in order. bytes_of: by rank; `all` holds their sum.
  virtual void all_gather(const void* mine, void* all, std::span<const std::size_t> bytes_of) = 0;
  // Part r of every rank's `in` is reduced on rank r. in: fp32, parts one after another, count_of by rank; out:
  // count_of[rank()] elements. Sums are fp32, in order of rank.
  virtual void reduce_scatter(const float* in, float* out, std::span<const std::size_t> count_of) = 0;
  virtual void all_reduce(float* data, std::size_t count, Reduction reduction) = 0;
  // Part r of `in` goes to rank r; part r of `out` comes from it. Sizes in bytes; what is sent to a rank is what that
  // rank expects.
  virtual void all_to_all(const void* in, std::span<const std::size_t> sent, void* out,
                          std::span<const std::size_t> received) = 0;

  // Messages between two ranks arrive in order. send() keeps a copy of its own and does not wait for the receiver.
  virtual void send(int to, const void* data, std::size_t bytes) = 0;
  virtual void receive(int from, void* data, std::size_t bytes) = 0;
  // Waits until all that was sent has left.
  virtual void finish_sends() = 0;
};

}  // namespace msmoe::executor
