// Gpu: what the data sheet says of one. A core of a CPU counts as one with a single SM.
#pragma once

#include <cstdint>
#include <string>

#include "core/units.h"

namespace msmoe {

struct Gpu {
  std::string name;
  FlopsPerSecond fp32_peak;  // of multiplications in plain fp32; 0: not stated
  FlopsPerSecond bf16_peak;  // dense; 0: none, where fp32_peak is stated
  FlopsPerSecond fp8_peak;   // dense; 0: none
  Bytes memory;              // what a process sees (about 79.1 GiB on an "80 GB" H100)
  BytesPerSecond hbm;
  std::int64_t sms = 0;
  double watts = 0;  // at full load; 0: not stated

  // One process, which does one thing at a time: no host launches its operators, nothing runs beside anything else.
  bool is_cpu_core() const { return sms == 1; }
};

}  // namespace msmoe
