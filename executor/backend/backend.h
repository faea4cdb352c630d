// Backend: where a rank's tensors lie and what works on them: one GPU, or this process's memory and cores.
//
// run() and copy() put work on a stream and may return before it is done; work of one stream goes in order. A CPU has
// all streams in one: work is done when the call returns.
#pragma once

#include <cstddef>

#include "core/program.h"
#include "kernels/kernels.h"

namespace msmoe::executor {

class Backend {
 public:
  virtual ~Backend() = default;

  // Of activations and of the weights that operators read; gradients and optimizer states are fp32 everywhere.
  virtual kernels::Element element() const = 0;

  // Zeroed, aligned to 256 bytes, there until the backend ends. A std::runtime_error where there is no room; a CPU with
  // overcommitted memory may be told of it later.
  virtual std::byte* allocate(std::size_t bytes) = 0;

  virtual void run(const kernels::Operation& operation, Stream stream) = 0;
  virtual void copy(void* to, const void* from, std::size_t bytes, Stream stream) = 0;
  // Work put on `waiter` from now on starts after all that `stream` has been given so far.
  virtual void wait(Stream waiter, Stream stream) = 0;
  // The host waits for the stream, and may read what it wrote.
  virtual void finish(Stream stream) = 0;

  virtual void to_host(void* to, const void* from, std::size_t bytes) = 0;
  virtual void from_host(void* to, const void* from, std::size_t bytes) = 0;
};

}  // namespace msmoe::executor
