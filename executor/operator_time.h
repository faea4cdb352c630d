// OperatorTime: when an operator of the program ran on this rank.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "core/program.h"

namespace msmoe::executor {

struct OperatorTime {
  std::string name;  // as the program has it
  std::string pass;  // forward | backward | backward input | backward weight | gather | reduce | optimizer
  Stream stream = Stream::kCompute;
  // -1: of none. module: its position in the chunk; layer: of the model.
  int micro_batch = -1, chunk = -1, module = -1, layer = -1;
  double bytes = 0;  // of its exchange, as Transfer::payload
  double flops = 0;
  double begin_seconds = 0, end_seconds = 0;  // on the clock of seconds_now()
};
using TimeObserver = std::function<void(const OperatorTime&)>;

// Of a clock that never goes back, the same for all processes of a host.
inline double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace msmoe::executor
