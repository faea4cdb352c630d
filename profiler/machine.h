// Machine: what a profile measures, behind an interface, so that everything around it runs without a GPU.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "profiler/point.h"

namespace msmoe::profiler {

class Machine {
 public:
  virtual ~Machine() = default;
  // What every point depends on, the same from start to end: devices, driver, libraries.
  virtual std::map<std::string, std::string> conditions() const = 0;
  // What changes meanwhile: clocks in MHz, temperatures in degrees Celsius, by device.
  virtual std::map<std::string, std::int64_t> health() const = 0;
  virtual int num_gpus() const = 0;
  // The point of the case comes last; of a pair, its partner's (profiler/grids.h) before.
  virtual std::vector<Point> measure(const Case& of) = 0;
};

// The GPUs of this machine. Throws a std::runtime_error of one line where there is none, where CUPTI or NCCL is missing
// or refused, and in programs that were built without CUDA.
std::unique_ptr<Machine> open_machine();

}  // namespace msmoe::profiler
