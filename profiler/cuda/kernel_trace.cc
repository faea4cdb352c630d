#include "profiler/cuda/kernel_trace.h"

#include <cupti.h>
#include <fmt/format.h>
#include <nvtx3/nvToolsExt.h>

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "profiler/cuda/library.h"

namespace msmoe::profiler {
namespace {

// The functions of CUPTI that we call, looked up in its library.
struct Cupti {
  decltype(&cuptiGetResultString) result_string = nullptr;
  decltype(&cuptiGetVersion) version = nullptr;
  decltype(&cuptiActivityRegisterCallbacks) register_callbacks = nullptr;
  decltype(&cuptiActivityEnable) enable = nullptr;
  decltype(&cuptiActivityDisable) disable = nullptr;
  decltype(&cuptiActivityFlushAll) flush_all = nullptr;
  decltype(&cuptiActivityGetNextRecord) next_record = nullptr;
  decltype(&cuptiActivityGetNumDroppedRecords) num_dropped = nullptr;
  decltype(&cuptiActivityPushExternalCorrelationId) push_id = nullptr;
  decltype(&cuptiActivityPopExternalCorrelationId) pop_id = nullptr;

  static const Cupti& get() {
    static const Cupti cupti = open();
    return cupti;
  }
  void check(CUptiResult result, const char* call) const {
    if (result == CUPTI_SUCCESS) return;
    const char* text = nullptr;
    result_string(result, &text);
    const bool refused = result == CUPTI_ERROR_INSUFFICIENT_PRIVILEGES;
    throw TraceUnavailable(
        fmt::format("CUPTI refuses {}: {}; {}", call, text ? text : "unknown error",
                    refused ? "run as root, or load the driver with NVreg_RestrictProfilingToAdminUsers=0"
                            : "detach other profilers from this process"));
  }

 private:
  static Cupti open() {
    const Library library({"libcupti.so.13", "libcupti.so", "/usr/local/cuda/lib64/libcupti.so",
                           "/usr/local/cuda/extras/CUPTI/lib64/libcupti.so"});
    if (!library) throw TraceUnavailable("no CUPTI: libcupti.so is not found; add its folder to LD_LIBRARY_PATH");
    Cupti cupti;
    const auto look_up = [&](auto& function, const char* name) {
      if (!library.look_up(function, name))
        throw TraceUnavailable(fmt::format("this CUPTI has no {}: CUDA 12 or newer is needed", name));
    };
    look_up(cupti.result_string, "cuptiGetResultString");
    look_up(cupti.version, "cuptiGetVersion");
    look_up(cupti.register_callbacks, "cuptiActivityRegisterCallbacks");
    look_up(cupti.enable, "cuptiActivityEnable");
    look_up(cupti.disable, "cuptiActivityDisable");
    look_up(cupti.flush_all, "cuptiActivityFlushAll");
    look_up(cupti.next_record, "cuptiActivityGetNextRecord");
    look_up(cupti.num_dropped, "cuptiActivityGetNumDroppedRecords");
    look_up(cupti.push_id, "cuptiActivityPushExternalCorrelationId");
    look_up(cupti.pop_id, "cuptiActivityPopExternalCorrelationId");
    return cupti;
  }
};

// Tags hang on the records of API calls, so these have to be on, though nobody reads them.
constexpr CUpti_ActivityKind kKinds[] = {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,
                                         CUPTI_ACTIVITY_KIND_MEMCPY,
                                         CUPTI_ACTIVITY_KIND_MEMCPY2,
                                         CUPTI_ACTIVITY_KIND_MEMSET,
                                         CUPTI_ACTIVITY_KIND_RUNTIME,
                                         CUPTI_ACTIVITY_KIND_DRIVER,
                                         CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION};
constexpr std::size_t kBufferBytes = 8 << 20, kBufferAlignment = 8;

// CUPTI hands full buffers over on a thread of its own.
class Records {
 public:
  void add(std::uint8_t* buffer, std::size_t size) {
    const std::lock_guard lock(mutex_);
    CUpti_Activity* record = nullptr;
    while (Cupti::get().next_record(buffer, size, &record) == CUPTI_SUCCESS) add(*record);
  }
  void add_dropped(std::size_t count) {
    const std::lock_guard lock(mutex_);
    dropped_ += count;
  }
  // Records of ids and of what they name may come in either order, so they meet here.
  std::pair<std::vector<Activity>, std::size_t> take() {
    const std::lock_guard lock(mutex_);
    std::vector<Activity> activities;
    for (auto& [correlation, activity] : found_) {
      const auto tag = tag_of_.find(correlation);
      activity.tag = tag == tag_of_.end() ? 0 : tag->second;
      activities.push_back(std::move(activity));
    }
    found_.clear();
    tag_of_.clear();
    return {std::move(activities), std::exchange(dropped_, 0)};
  }

 private:
  template <class Record>
  Activity& add(Activity::Kind kind, const Record& record) {
    found_.emplace_back(record.correlationId, Activity{});
    Activity& activity = found_.back().second;
    activity.kind = kind;
    activity.device = static_cast<int>(record.deviceId);
    activity.stream = record.streamId;
    activity.start_ns = static_cast<std::int64_t>(record.start);
    activity.end_ns = static_cast<std::int64_t>(record.end);
    return activity;
  }
  void add(const CUpti_Activity& record) {
    switch (record.kind) {
      case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL: {
        const auto& kernel = reinterpret_cast<const CUpti_ActivityKernel10&>(record);
        Activity& activity = add(Activity::Kind::kKernel, kernel);
        activity.name = kernel.name;
        activity.blocks = std::int64_t{kernel.gridX} * kernel.gridY * kernel.gridZ;
        break;
      }
      case CUPTI_ACTIVITY_KIND_MEMCPY: {
        const auto& copy = reinterpret_cast<const CUpti_ActivityMemcpy6&>(record);
        add(Activity::Kind::kCopy, copy).bytes = static_cast<double>(copy.bytes);
        break;
      }
      case CUPTI_ACTIVITY_KIND_MEMCPY2: {
        const auto& copy = reinterpret_cast<const CUpti_ActivityMemcpyPtoP4&>(record);
        add(Activity::Kind::kCopy, copy).bytes = static_cast<double>(copy.bytes);
        break;
      }
      case CUPTI_ACTIVITY_KIND_MEMSET: {
        const auto& fill = reinterpret_cast<const CUpti_ActivityMemset4&>(record);
        add(Activity::Kind::kFill, fill).bytes = static_cast<double>(fill.bytes);
        break;
      }
      case CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION: {
        const auto& id = reinterpret_cast<const CUpti_ActivityExternalCorrelation&>(record);
        tag_of_[id.correlationId] = id.externalId;
        break;
      }
      default: break;
    }
  }

  std::mutex mutex_;
  std::vector<std::pair<std::uint32_t, Activity>> found_;  // by correlation id; a graph's kernels share one
  std::unordered_map<std::uint32_t, std::uint64_t> tag_of_;
  std::size_t dropped_ = 0;
};

// CUPTI may call back until the process ends, so this is never destroyed.
Records& records() {
  static auto* const instance = new Records;
  return *instance;
}

void CUPTIAPI request_buffer(std::uint8_t** buffer, std::size_t* size, std::size_t* max_records) {
  *buffer = static_cast<std::uint8_t*>(std::aligned_alloc(kBufferAlignment, kBufferBytes));
  *size = *buffer == nullptr ? 0 : kBufferBytes;
  *max_records = 0;  // as many as fit
}
void CUPTIAPI complete_buffer(CUcontext context, std::uint32_t stream, std::uint8_t* buffer, std::size_t /*size*/,
                              std::size_t valid_size) {
  if (valid_size > 0) records().add(buffer, valid_size);
  std::size_t dropped = 0;
  if (Cupti::get().num_dropped(context, stream, &dropped) == CUPTI_SUCCESS) records().add_dropped(dropped);
  std::free(buffer);
}

bool trace_lives = false;

void enable_all() {
  const Cupti& cupti = Cupti::get();
  for (const CUpti_ActivityKind kind : kKinds) cupti.check(cupti.enable(kind), "cuptiActivityEnable");
}
void disable_all() {
  for (const CUpti_ActivityKind kind : kKinds) Cupti::get().disable(kind);
}

}  // namespace

KernelTrace::KernelTrace() {
  assert(!trace_lives);
  const Cupti& cupti = Cupti::get();
  cupti.check(cupti.register_callbacks(request_buffer, complete_buffer), "cuptiActivityRegisterCallbacks");
  enable_all();
  trace_lives = true;
}

KernelTrace::~KernelTrace() {
  disable_all();
  Cupti::get().flush_all(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
  records().take();
  trace_lives = false;
}

std::string KernelTrace::version() {
  std::uint32_t version = 0;
  Cupti::get().check(Cupti::get().version(&version), "cuptiGetVersion");
  return fmt::format("{}", version);
}

KernelTrace::Tag::Tag(std::uint64_t tag, const char* name) {
  const Cupti& cupti = Cupti::get();
  cupti.check(cupti.push_id(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, tag), "cuptiActivityPushExternalCorrelationId");
  nvtxRangePushA(name);
}
KernelTrace::Tag::~Tag() {
  nvtxRangePop();
  std::uint64_t last = 0;
  Cupti::get().pop_id(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, &last);
}

KernelTrace::Paused::Paused(KernelTrace&) { disable_all(); }
KernelTrace::Paused::~Paused() {
  for (const CUpti_ActivityKind kind : kKinds) Cupti::get().enable(kind);
}

std::vector<Activity> KernelTrace::collect() {
  const Cupti& cupti = Cupti::get();
  cupti.check(cupti.flush_all(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED), "cuptiActivityFlushAll");
  auto [activities, dropped] = records().take();
  if (dropped > 0) throw TraceUnavailable(fmt::format("CUPTI dropped {} records: collect more often", dropped));
  std::stable_sort(activities.begin(), activities.end(),
                   [](const Activity& a, const Activity& b) { return a.start_ns < b.start_ns; });
  return std::move(activities);
}

}  // namespace msmoe::profiler
