// Device memory for one measurement, on the current device, filled with normal random numbers: multiplying numbers that
// are all alike takes less power, and so less time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/view.h"

namespace msmoe::profiler {

class Arena {
 public:
  Arena() = default;
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  kernels::View take(std::int64_t rows, std::int64_t columns, kernels::Element element = kernels::Element::kBf16);
  kernels::View take(const std::vector<std::int32_t>& values, std::int64_t rows = 1);
  void* bytes(std::size_t count);
  std::size_t taken() const { return taken_; }

 private:
  std::vector<void*> blocks_;
  std::size_t taken_ = 0;
};

}  // namespace msmoe::profiler
