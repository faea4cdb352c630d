// Gpu: what the data sheet says of one.
#pragma once

#include <cstdint>
#include <string>

#include "core/units.h"

namespace msmoe {

struct Gpu {
  std::string name;
  FlopsPerSecond bf16_peak;  // dense
  FlopsPerSecond fp8_peak;   // dense; 0: none
  Bytes memory;              // what a process sees (about 79.1 GiB on an "80 GB" H100)
  BytesPerSecond hbm;
  std::int64_t sms = 0;
  double watts = 0;  // at full load; 0: not stated
};

}  // namespace msmoe
