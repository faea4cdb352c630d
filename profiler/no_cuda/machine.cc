#include "profiler/machine.h"

#include <stdexcept>

namespace msmoe::profiler {

std::unique_ptr<Machine> open_machine() {
  throw std::runtime_error("this msmoe-profile was built without CUDA: build it with cmake --preset cuda");
}

}  // namespace msmoe::profiler
