// Times what is launched on a stream: CUDA events around replays of a CUDA graph, so that the host is not measured.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <vector>

#include "kernels/kernels.h"

namespace msmoe::bench {

// Device memory for one measurement, filled with random numbers.
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

// Seconds of one call of run(copy, stream), the median of many replays. run is given the copies in turn, as many as it
// takes for none of them to be still in L2.
double median_seconds(int copies, const std::function<void(int copy, cudaStream_t stream)>& run);

// The same for an operation; make() builds one on fresh memory each time.
double median_seconds(kernels::Kernels& kernels, const std::function<kernels::Operation(Arena&)>& make);

}  // namespace msmoe::bench
