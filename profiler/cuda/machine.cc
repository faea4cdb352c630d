#include "profiler/machine.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>

#include "kernels/cuda/check.h"
#include "kernels/kernels.h"
#include "profiler/cuda/kernel_trace.h"
#include "profiler/cuda/library.h"
#include "profiler/cuda/links.h"
#include "profiler/cuda/operator_timer.h"
#include "profiler/cuda/pairs.h"
#include "profiler/grids.h"

namespace msmoe::profiler {
namespace {

constexpr Bytes kLargestMessage{1 * kGiB};

// Clocks and temperatures come from NVML, whose header is not part of the toolkit: these are the parts of its stable
// interface that we call.
class Nvml {
 public:
  Nvml() {
    const Library library({"libnvidia-ml.so.1"});
    is_ready_ = library && library.look_up(init_, "nvmlInit_v2") &&
                library.look_up(handle_by_bus_, "nvmlDeviceGetHandleByPciBusId_v2") &&
                library.look_up(clock_, "nvmlDeviceGetClockInfo") &&
                library.look_up(temperature_, "nvmlDeviceGetTemperature") && init_() == 0;
  }
  // Adds nothing where NVML does not answer.
  void add_health(int device, std::map<std::string, std::int64_t>& health) const {
    char bus[32] = {};
    void* handle = nullptr;
    if (!is_ready_ || cudaDeviceGetPCIBusId(bus, sizeof bus, device) != cudaSuccess ||
        handle_by_bus_(bus, &handle) != 0)
      return;
    constexpr int kSmClock = 1, kMemoryClock = 2, kGpuTemperature = 0;
    unsigned value = 0;
    if (clock_(handle, kSmClock, &value) == 0) health[fmt::format("gpu{}_sm_mhz", device)] = value;
    if (clock_(handle, kMemoryClock, &value) == 0) health[fmt::format("gpu{}_memory_mhz", device)] = value;
    if (temperature_(handle, kGpuTemperature, &value) == 0) health[fmt::format("gpu{}_celsius", device)] = value;
  }

 private:
  int (*init_)() = nullptr;
  int (*handle_by_bus_)(const char*, void**) = nullptr;
  int (*clock_)(void*, int, unsigned*) = nullptr;
  int (*temperature_)(void*, int, unsigned*) = nullptr;
  bool is_ready_ = false;
};

std::string version_text(int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); }

int count_devices() {
  int devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status != cudaSuccess || devices == 0)
    throw kernels::DeviceError(fmt::format("this machine has no GPU to measure: {}", cudaGetErrorString(status)));
  return devices;
}

class Gpus : public Machine {
 public:
  std::map<std::string, std::string> conditions() const override {
    cudaDeviceProp properties{};
    MSMOE_CHECK(cudaGetDeviceProperties(&properties, 0));
    int driver = 0, runtime = 0;
    MSMOE_CHECK(cudaDriverGetVersion(&driver));
    MSMOE_CHECK(cudaRuntimeGetVersion(&runtime));
    return {{"gpu", properties.name},
            {"gpus", fmt::format("{}", num_devices_)},
            {"sms", fmt::format("{}", properties.multiProcessorCount)},
            {"memory_bytes", fmt::format("{}", properties.totalGlobalMem)},
            {"cuda_driver", version_text(driver)},
            {"cuda_runtime", version_text(runtime)},
            {"cupti", KernelTrace::version()},
            {"nccl", nccl_version()}};
  }
  std::map<std::string, std::int64_t> health() const override {
    std::map<std::string, std::int64_t> health;
    for (int device = 0; device < num_devices_; ++device) nvml_.add_health(device, health);
    return health;
  }
  int num_gpus() const override { return num_devices_; }
  std::vector<Point> measure(const Case& of) override {
    MSMOE_CHECK(cudaSetDevice(0));
    if (of.what == "launch") return {operators_.measure_launch(of)};
    if (of.what == "layer") return {operators_.measure_layer(of)};
    if (!of.shape.contains("ranks")) return {operators_.measure(of)};
    open_links(static_cast<int>(of.shape.at("ranks")));
    constexpr int kRepeats = 20;
    return is_pair(of) ? pairs_->measure(of) : std::vector<Point>{links_->measure(of, kRepeats)};
  }

 private:
  void open_links(int ranks) {
    if (links_ && links_->ranks() == ranks) return;
    pairs_.reset();
    links_.reset();
    links_ = std::make_unique<Links>(ranks, kLargestMessage, trace_);
    pairs_ = std::make_unique<Pairs>(*links_, trace_);
  }

  int num_devices_ = count_devices();  // before the trace: without a GPU, that is what to say
  Nvml nvml_;
  KernelTrace trace_;
  OperatorTimer operators_{trace_};
  std::unique_ptr<Links> links_;
  std::unique_ptr<Pairs> pairs_;
};

}  // namespace

std::unique_ptr<Machine> open_machine() { return std::make_unique<Gpus>(); }

}  // namespace msmoe::profiler
