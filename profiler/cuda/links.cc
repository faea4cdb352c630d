#include "profiler/cuda/links.h"

#include <fmt/format.h>
#include <nccl.h>

#include <algorithm>
#include <cassert>
#include <map>
#include <stdexcept>

#include "kernels/cuda/check.h"
#include "kernels/kernels.h"
#include "profiler/cuda/library.h"
#include "profiler/cuda/push.h"

namespace msmoe::profiler {
namespace {

using kernels::DeviceError;

struct Nccl {
  decltype(&ncclGetErrorString) error_string = nullptr;
  decltype(&ncclGetUniqueId) unique_id = nullptr;
  decltype(&ncclCommInitRankConfig) init_rank = nullptr;
  decltype(&ncclCommDestroy) destroy = nullptr;
  decltype(&ncclGroupStart) group_start = nullptr;
  decltype(&ncclGroupEnd) group_end = nullptr;
  decltype(&ncclAllGather) all_gather = nullptr;
  decltype(&ncclReduceScatter) reduce_scatter = nullptr;
  decltype(&ncclAllReduce) all_reduce = nullptr;
  decltype(&ncclSend) send = nullptr;
  decltype(&ncclRecv) recv = nullptr;

  static const Nccl& get() {
    static const Nccl nccl = open();
    return nccl;
  }
  void check(ncclResult_t result, const char* call) const {
    if (result != ncclSuccess) throw DeviceError(fmt::format("{}: {}", call, error_string(result)));
  }

 private:
  static Nccl open() {
    const Library library({"libnccl.so.2"});
    if (!library) throw DeviceError("no NCCL: libnccl.so.2 is not found; add its folder to LD_LIBRARY_PATH");
    Nccl nccl;
    const auto look_up = [&](auto& function, const char* name) {
      if (!library.look_up(function, name)) throw DeviceError(fmt::format("this NCCL has no {}", name));
    };
    look_up(nccl.error_string, "ncclGetErrorString");
    look_up(nccl.unique_id, "ncclGetUniqueId");
    look_up(nccl.init_rank, "ncclCommInitRankConfig");
    look_up(nccl.destroy, "ncclCommDestroy");
    look_up(nccl.group_start, "ncclGroupStart");
    look_up(nccl.group_end, "ncclGroupEnd");
    look_up(nccl.all_gather, "ncclAllGather");
    look_up(nccl.reduce_scatter, "ncclReduceScatter");
    look_up(nccl.all_reduce, "ncclAllReduce");
    look_up(nccl.send, "ncclSend");
    look_up(nccl.recv, "ncclRecv");
    return nccl;
  }
};

constexpr std::int64_t kElementBytes = 2;
constexpr const char* kCopyEngine = "copy_engine";
constexpr const char* kPush = "push";

std::int64_t ctas_of(const Case& of) {
  const auto at = of.shape.find("ctas");
  return at == of.shape.end() ? 0 : at->second;
}

}  // namespace

std::int64_t joined_ns(const std::vector<const Activity*>& activities) {
  std::int64_t start = 0, end = 0;
  for (const Activity* activity : activities) {
    start = std::max(start, activity->start_ns);
    end = std::max(end, activity->end_ns);
  }
  return end - start;
}

struct Links::State {
  struct Rank {
    cudaStream_t stream = nullptr;
    char* send = nullptr;
    char* receive = nullptr;
  };
  std::vector<Rank> ranks;
  std::map<std::int64_t, std::vector<ncclComm_t>>
      communicators;  // by the blocks that they are held to; 0: NCCL's choice
  std::int64_t largest = 0;
  KernelTrace* trace = nullptr;

  int size() const { return static_cast<int>(ranks.size()); }

  void create(int device) {
    Rank& rank = ranks[static_cast<std::size_t>(device)];
    MSMOE_CHECK(cudaSetDevice(device));
    for (int peer = 0; peer < size(); ++peer) {
      if (peer == device) continue;
      int reaches = 0;
      MSMOE_CHECK(cudaDeviceCanAccessPeer(&reaches, device, peer));
      if (reaches == 0) throw DeviceError(fmt::format("GPU {} cannot reach the memory of GPU {}", device, peer));
      const cudaError_t enabled = cudaDeviceEnablePeerAccess(peer, 0);
      if (enabled != cudaErrorPeerAccessAlreadyEnabled) MSMOE_CHECK(enabled);
      cudaGetLastError();
    }
    // Before others in the queue for SMs, as training systems run their communication.
    int lowest = 0, highest = 0;
    MSMOE_CHECK(cudaDeviceGetStreamPriorityRange(&lowest, &highest));
    MSMOE_CHECK(cudaStreamCreateWithPriority(&rank.stream, cudaStreamNonBlocking, highest));
    for (char** buffer : {&rank.send, &rank.receive}) {
      MSMOE_CHECK(cudaMalloc(buffer, static_cast<std::size_t>(largest)));
      MSMOE_CHECK(cudaMemset(*buffer, 0, static_cast<std::size_t>(largest)));
    }
  }

  // A rank's communicator for each number of blocks, made when it is first asked for.
  const std::vector<ncclComm_t>& communicators_of(std::int64_t ctas) {
    auto& made = communicators[ctas];
    if (!made.empty()) return made;
    const Nccl& nccl = Nccl::get();
    ncclUniqueId id;
    nccl.check(nccl.unique_id(&id), "ncclGetUniqueId");
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    if (ctas > 0) {
      // It shall fit beside a GEMM that leaves so many SMs: clusters of blocks, NCCL's choice on Hopper, would wait for
      // SMs that lie together.
      config.minCTAs = config.maxCTAs = static_cast<int>(ctas);
      config.cgaClusterSize = 1;
    }
    std::vector<ncclComm_t> created(ranks.size());
    nccl.check(nccl.group_start(), "ncclGroupStart");
    for (int device = 0; device < size(); ++device) {
      MSMOE_CHECK(cudaSetDevice(device));
      nccl.check(nccl.init_rank(&created[static_cast<std::size_t>(device)], size(), id, device, &config),
                 "ncclCommInitRankConfig");
    }
    nccl.check(nccl.group_end(), "ncclGroupEnd");
    return made = std::move(created);
  }

  ~State() {
    for (const auto& [ctas, of_ranks] : communicators)
      for (ncclComm_t communicator : of_ranks) Nccl::get().destroy(communicator);
    for (int device = 0; device < size(); ++device) {
      Rank& rank = ranks[static_cast<std::size_t>(device)];
      cudaSetDevice(device);
      if (rank.stream != nullptr) cudaStreamDestroy(rank.stream);
      cudaFree(rank.send);
      cudaFree(rank.receive);
    }
  }

  void launch(const Case& of) {
    const std::int64_t bytes = of.shape.at("bytes");
    if (of.what == kCopyEngine || of.what == kPush) return send_to_next(of, bytes);
    const auto& of_ranks = communicators_of(ctas_of(of));
    const Nccl& nccl = Nccl::get();
    nccl.check(nccl.group_start(), "ncclGroupStart");
    for (std::size_t rank = 0; rank < ranks.size(); ++rank) launch(of.what, bytes, ranks[rank], of_ranks[rank]);
    nccl.check(nccl.group_end(), "ncclGroupEnd");
  }
  void launch(const std::string& what, std::int64_t bytes, Rank& rank, ncclComm_t communicator) {
    const Nccl& nccl = Nccl::get();
    const auto elements = static_cast<std::size_t>(bytes / kElementBytes);
    const std::size_t part = elements / ranks.size();
    if (what == "all_gather") {
      nccl.check(nccl.all_gather(rank.send, rank.receive, part, ncclBfloat16, communicator, rank.stream),
                 "ncclAllGather");
    } else if (what == "reduce_scatter") {
      nccl.check(nccl.reduce_scatter(rank.send, rank.receive, part, ncclBfloat16, ncclSum, communicator, rank.stream),
                 "ncclReduceScatter");
    } else if (what == "all_reduce") {
      nccl.check(nccl.all_reduce(rank.send, rank.receive, elements, ncclBfloat16, ncclSum, communicator, rank.stream),
                 "ncclAllReduce");
    } else {  // all_to_all, as dispatch with its uneven counts has to do it
      for (int peer = 0; peer < size(); ++peer) {
        const std::size_t offset = static_cast<std::size_t>(peer) * part * kElementBytes;
        nccl.check(nccl.send(rank.send + offset, part, ncclBfloat16, peer, communicator, rank.stream), "ncclSend");
        nccl.check(nccl.recv(rank.receive + offset, part, ncclBfloat16, peer, communicator, rank.stream), "ncclRecv");
      }
    }
  }
  void send_to_next(const Case& of, std::int64_t bytes) {
    for (int device = 0; device < size(); ++device) {
      const int peer = (device + 1) % size();
      const Rank& from = ranks[static_cast<std::size_t>(device)];
      char* to = ranks[static_cast<std::size_t>(peer)].receive;
      MSMOE_CHECK(cudaSetDevice(device));
      if (of.what == kPush) {
        launch_push(to, from.send, bytes, static_cast<int>(ctas_of(of)), from.stream);
      } else {
        MSMOE_CHECK(cudaMemcpyPeerAsync(to, peer, from.send, device, static_cast<std::size_t>(bytes), from.stream));
      }
    }
  }

  void synchronize() {
    for (int device = 0; device < size(); ++device) {
      MSMOE_CHECK(cudaSetDevice(device));
      MSMOE_CHECK(cudaStreamSynchronize(ranks[static_cast<std::size_t>(device)].stream));
    }
  }
};

Links::Links(int ranks, Bytes largest, KernelTrace& trace) : state_(std::make_unique<State>()) {
  int devices = 0;
  MSMOE_CHECK(cudaGetDeviceCount(&devices));
  if (ranks < 2 || ranks > devices)
    throw DeviceError(fmt::format("links between {} GPUs cannot be measured: this machine has {}", ranks, devices));
  state_->ranks.resize(static_cast<std::size_t>(ranks));
  state_->largest = static_cast<std::int64_t>(largest.count);
  state_->trace = &trace;
  for (int device = 0; device < ranks; ++device) state_->create(device);
  state_->communicators_of(0);
}

Links::~Links() = default;

std::string nccl_version() {
  const Library library({"libnccl.so.2"});
  decltype(&ncclGetVersion) get = nullptr;
  int version = 0;
  if (!library || !library.look_up(get, "ncclGetVersion") || get(&version) != ncclSuccess) return "none";
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

int Links::ranks() const { return state_->size(); }

void Links::launch(const Case& of, std::uint64_t tag) {
  if (tag == 0) return state_->launch(of);
  const KernelTrace::Tag tagged(tag, of.what.c_str());
  state_->launch(of);
}

void Links::synchronize() { state_->synchronize(); }

Point Links::measure(const Case& of, int repeats) {
  assert(repeats >= 1 && of.shape.at("bytes") <= state_->largest);
  launch(of, 0);
  synchronize();
  state_->trace->collect();
  for (int repeat = 1; repeat <= repeats; ++repeat) {
    launch(of, static_cast<std::uint64_t>(repeat));
    synchronize();
  }
  const std::vector<Activity> activities = state_->trace->collect();
  std::map<std::uint64_t, std::vector<const Activity*>> by_repeat;
  for (const Activity& activity : activities)
    if (activity.tag != 0) by_repeat[activity.tag].push_back(&activity);
  std::vector<std::int64_t> lengths_ps;
  for (const auto& [repeat, of_ranks] : by_repeat) {
    if (of_ranks.size() != state_->ranks.size())
      throw DeviceError(
          fmt::format("{}: {} activities were traced for {} ranks", of.key(), of_ranks.size(), state_->ranks.size()));
    lengths_ps.push_back(1000 * joined_ns(of_ranks));
  }
  if (lengths_ps.size() != static_cast<std::size_t>(repeats))
    throw DeviceError(fmt::format("{}: {} of {} runs were traced, {} activities in all", of.key(), lengths_ps.size(),
                                  repeats, activities.size()));
  return summarize(of, std::move(lengths_ps));
}

}  // namespace msmoe::profiler
