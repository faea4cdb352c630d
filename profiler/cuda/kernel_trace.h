// KernelTrace: what the GPUs of this process ran, kernel by kernel, as CUPTI's activity API records it.
//
// Timers around launches measure the host; activity records carry the device's own start and end of each kernel and
// copy. Work is told apart by tag: what a thread launches while a Tag of its lives is recorded under it (an external
// correlation id), and the same span shows as an NVTX range in other profilers.
//
// CUPTI has one client a process, so there is one trace. Its library is opened at run time: a program that does not
// trace runs without it.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace msmoe::profiler {

// No CUPTI, or the driver refuses it (another profiler is attached, or tracing is for administrators only). The message
// is one line that says what to do.
class TraceUnavailable : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Activity {
  enum class Kind : std::uint8_t { kKernel, kCopy, kFill };
  Kind kind = Kind::kKernel;
  std::string name;  // of a kernel, mangled; else empty
  int device = 0;
  std::uint32_t stream = 0;               // CUPTI's number of it
  std::int64_t start_ns = 0, end_ns = 0;  // one clock for all devices of the process
  std::int64_t blocks = 0;                // of a kernel's grid
  double bytes = 0;                       // copied or filled
  std::uint64_t tag = 0;                  // 0: launched outside of any Tag

  std::int64_t length_ns() const { return end_ns - start_ns; }
};

class KernelTrace {
 public:
  // Throws TraceUnavailable. At most one lives at a time.
  KernelTrace();
  ~KernelTrace();
  KernelTrace(const KernelTrace&) = delete;
  KernelTrace& operator=(const KernelTrace&) = delete;

  static std::string version();  // CUPTI's, "26" and so on

  class Tag {
   public:
    Tag(std::uint64_t tag, const char* name);
    ~Tag();
    Tag(const Tag&) = delete;
    Tag& operator=(const Tag&) = delete;
  };

  // Nothing is recorded, and nothing is slowed by recording, while one lives. REQUIRES: the devices are idle.
  class Paused {
   public:
    explicit Paused(KernelTrace& trace);
    ~Paused();
    Paused(const Paused&) = delete;
    Paused& operator=(const Paused&) = delete;
  };

  // What has ended since the last call, by start. REQUIRES that the devices are idle: synchronize them first.
  // Throws TraceUnavailable if records were dropped, as an incomplete trace is worse than none.
  std::vector<Activity> collect();
};

}  // namespace msmoe::profiler
