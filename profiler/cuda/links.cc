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

namespace msmoe::profiler {
namespace {

using kernels::DeviceError;

struct Nccl {
  decltype(&ncclGetErrorString) error_string = nullptr;
  decltype(&ncclCommInitAll) init_all = nullptr;
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
    look_up(nccl.init_all, "ncclCommInitAll");
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
constexpr const char* kCollectives[] = {"all_gather", "reduce_scatter", "all_reduce", "all_to_all"};

// From the last start to the last end over devices, one activity on each.
std::int64_t joined_ns(const std::vector<const Activity*>& activities) {
  std::int64_t start = 0, end = 0;
  for (const Activity* activity : activities) {
    start = std::max(start, activity->start_ns);
    end = std::max(end, activity->end_ns);
  }
  return end - start;
}

}  // namespace

struct Links::State {
  struct Rank {
    cudaStream_t stream = nullptr;
    char* send = nullptr;
    char* receive = nullptr;
    ncclComm_t communicator = nullptr;
  };
  std::vector<Rank> ranks;
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
    MSMOE_CHECK(cudaStreamCreateWithFlags(&rank.stream, cudaStreamNonBlocking));
    for (char** buffer : {&rank.send, &rank.receive}) {
      MSMOE_CHECK(cudaMalloc(buffer, static_cast<std::size_t>(largest)));
      MSMOE_CHECK(cudaMemset(*buffer, 0, static_cast<std::size_t>(largest)));
    }
  }

  ~State() {
    for (int device = 0; device < size(); ++device) {
      Rank& rank = ranks[static_cast<std::size_t>(device)];
      cudaSetDevice(device);
      if (rank.communicator != nullptr) Nccl::get().destroy(rank.communicator);
      if (rank.stream != nullptr) cudaStreamDestroy(rank.stream);
      cudaFree(rank.send);
      cudaFree(rank.receive);
    }
  }

  void launch(const std::string& what, std::int64_t bytes) {
    if (what == kCopyEngine) return copy_to_next(bytes);
    const Nccl& nccl = Nccl::get();
    nccl.check(nccl.group_start(), "ncclGroupStart");
    for (Rank& rank : ranks) launch(what, bytes, rank);
    nccl.check(nccl.group_end(), "ncclGroupEnd");
  }
  void launch(const std::string& what, std::int64_t bytes, Rank& rank) {
    const Nccl& nccl = Nccl::get();
    const auto elements = static_cast<std::size_t>(bytes / kElementBytes);
    const std::size_t part = elements / ranks.size();
    if (what == "all_gather") {
      nccl.check(nccl.all_gather(rank.send, rank.receive, part, ncclBfloat16, rank.communicator, rank.stream),
                 "ncclAllGather");
    } else if (what == "reduce_scatter") {
      nccl.check(
          nccl.reduce_scatter(rank.send, rank.receive, part, ncclBfloat16, ncclSum, rank.communicator, rank.stream),
          "ncclReduceScatter");
    } else if (what == "all_reduce") {
      nccl.check(
          nccl.all_reduce(rank.send, rank.receive, elements, ncclBfloat16, ncclSum, rank.communicator, rank.stream),
          "ncclAllReduce");
    } else {  // all_to_all, as dispatch with its uneven counts has to do it
      for (int peer = 0; peer < size(); ++peer) {
        const std::size_t offset = static_cast<std::size_t>(peer) * part * kElementBytes;
        nccl.check(nccl.send(rank.send + offset, part, ncclBfloat16, peer, rank.communicator, rank.stream), "ncclSend");
        nccl.check(nccl.recv(rank.receive + offset, part, ncclBfloat16, peer, rank.communicator, rank.stream),
                   "ncclRecv");
      }
    }
  }
  void copy_to_next(std::int64_t bytes) {
    for (int device = 0; device < size(); ++device) {
      const int peer = (device + 1) % size();
      MSMOE_CHECK(cudaSetDevice(device));
      MSMOE_CHECK(cudaMemcpyPeerAsync(ranks[static_cast<std::size_t>(peer)].receive, peer,
                                      ranks[static_cast<std::size_t>(device)].send, device,
                                      static_cast<std::size_t>(bytes), ranks[static_cast<std::size_t>(device)].stream));
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

  const Nccl& nccl = Nccl::get();
  std::vector<ncclComm_t> communicators(static_cast<std::size_t>(ranks));
  nccl.check(nccl.init_all(communicators.data(), ranks, nullptr), "ncclCommInitAll");
  for (std::size_t rank = 0; rank < communicators.size(); ++rank)
    state_->ranks[rank].communicator = communicators[rank];
}

Links::~Links() = default;

Point Links::measure(const Case& of, int repeats) {
  const std::int64_t bytes = of.shape.at("bytes");
  assert(repeats >= 1 && bytes <= state_->largest && bytes % (kElementBytes * state_->size()) == 0);
  state_->launch(of.what, bytes);
  state_->synchronize();
  state_->trace->collect();
  for (int repeat = 1; repeat <= repeats; ++repeat) {
    const KernelTrace::Tag tag(static_cast<std::uint64_t>(repeat), of.what.c_str());
    state_->launch(of.what, bytes);
    state_->synchronize();
  }
  const std::vector<Activity> activities = state_->trace->collect();
  std::map<std::uint64_t, std::vector<const Activity*>> by_repeat;
  for (const Activity& activity : activities)
    if (activity.tag != 0) by_repeat[activity.tag].push_back(&activity);
  std::vector<std::int64_t> lengths_ns;
  for (const auto& [repeat, of_ranks] : by_repeat) {
    if (of_ranks.size() != state_->ranks.size())
      throw DeviceError(
          fmt::format("{}: {} activities were traced for {} ranks", of.key(), of_ranks.size(), state_->ranks.size()));
    lengths_ns.push_back(joined_ns(of_ranks));
  }
  if (lengths_ns.size() != static_cast<std::size_t>(repeats))
    throw DeviceError(fmt::format("{}: {} of {} runs were traced, {} activities in all", of.key(), lengths_ns.size(),
                                  repeats, activities.size()));
  std::sort(lengths_ns.begin(), lengths_ns.end());
  const auto at = [&](std::size_t quarter) {
    return Duration{1000 * lengths_ns[quarter * (lengths_ns.size() - 1) / 4]};
  };
  return {of, at(2), at(3) - at(1), repeats};
}

std::vector<Case> link_cases(int ranks, Bytes smallest, Bytes largest) {
  std::vector<Case> cases;
  std::vector<std::string> names(std::begin(kCollectives), std::end(kCollectives));
  names.emplace_back(kCopyEngine);
  for (const std::string& name : names)
    for (double bytes = smallest.count; bytes <= largest.count; bytes *= 4)
      cases.push_back({name, {{"bytes", static_cast<std::int64_t>(bytes)}, {"ranks", ranks}}});
  return cases;
}

}  // namespace msmoe::profiler
