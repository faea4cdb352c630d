#include "kernels/cuda/check.h"

#include <fmt/format.h>

#include "kernels/kernels.h"

namespace msmoe::kernels {

void fail(const char* call, const char* reason, const char* file, int line) {
  throw DeviceError(fmt::format("{}: {} ({}:{})", call, reason, file, line));
}

}  // namespace msmoe::kernels
