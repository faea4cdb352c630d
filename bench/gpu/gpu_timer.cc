#include "bench/gpu/gpu_timer.h"

#include <algorithm>
#include <bit>
#include <random>

#include "kernels/cuda/check.h"

namespace msmoe::bench {

using kernels::Element;
using kernels::View;

namespace {

constexpr std::size_t kPastL2 = std::size_t{192} << 20;  // L2 of an H100 is 50 MiB
constexpr int kMostCopies = 24, kFewestCallsPerReplay = 8, kReplays = 30, kWarmReplays = 3;

// Numbers cost less power, and so take less time, when they are all alike: these are normal.
template <class T>
const std::vector<T>& random_values() {
  static const std::vector<T> values = [] {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    std::vector<T> drawn(1 << 20);
    for (T& value : drawn) {
      const auto bits = std::bit_cast<std::uint32_t>(normal(random));
      value = static_cast<T>(sizeof(T) == 2 ? bits >> 16 : bits);
    }
    return drawn;
  }();
  return values;
}

template <class T>
void fill(void* data, std::size_t bytes) {
  const std::vector<T>& values = random_values<T>();
  const std::size_t block = values.size() * sizeof(T);
  MSMOE_CHECK(cudaMemcpy(data, values.data(), std::min(block, bytes), cudaMemcpyHostToDevice));
  auto* to = static_cast<std::byte*>(data);
  for (std::size_t at = block; at < bytes; at += block) {
    MSMOE_CHECK(cudaMemcpy(to + at, data, std::min(block, bytes - at), cudaMemcpyDeviceToDevice));
  }
}

class Graph {
 public:
  Graph(cudaStream_t stream, const std::function<void()>& launch) {
    MSMOE_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    launch();
    cudaGraph_t graph = nullptr;
    MSMOE_CHECK(cudaStreamEndCapture(stream, &graph));
    const cudaError_t status = cudaGraphInstantiate(&executable_, graph, 0);
    cudaGraphDestroy(graph);
    MSMOE_CHECK(status);
  }
  ~Graph() { cudaGraphExecDestroy(executable_); }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  void replay(cudaStream_t stream) { MSMOE_CHECK(cudaGraphLaunch(executable_, stream)); }

 private:
  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace

Arena::~Arena() {
  for (void* block : blocks_) cudaFree(block);
}

void* Arena::bytes(std::size_t count) {
  void* block = nullptr;
  MSMOE_CHECK(cudaMalloc(&block, std::max<std::size_t>(count, 1)));
  blocks_.push_back(block);
  taken_ += count;
  return block;
}

View Arena::take(std::int64_t rows, std::int64_t columns, Element element) {
  View view{nullptr, rows, columns, element};
  view.data = bytes(view.bytes());
  if (element == Element::kBf16) fill<std::uint16_t>(view.data, view.bytes());
  if (element == Element::kFp32) fill<std::uint32_t>(view.data, view.bytes());
  return view;
}

View Arena::take(const std::vector<std::int32_t>& values, std::int64_t rows) {
  View view{nullptr, rows, static_cast<std::int64_t>(values.size()) / rows, Element::kInt32};
  view.data = bytes(view.bytes());
  MSMOE_CHECK(cudaMemcpy(view.data, values.data(), view.bytes(), cudaMemcpyHostToDevice));
  return view;
}

double median_seconds(int copies, const std::function<void(int copy, cudaStream_t stream)>& run) {
  cudaStream_t stream = nullptr;
  MSMOE_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  MSMOE_CHECK(cudaDeviceSynchronize());  // operands are filled on the default stream
  for (int copy = 0; copy < copies; ++copy) run(copy, stream);
  MSMOE_CHECK(cudaStreamSynchronize(stream));
  const int calls = (kFewestCallsPerReplay + copies - 1) / copies * copies;
  std::vector<float> milliseconds;
  {
    Graph graph(stream, [&] {
      for (int call = 0; call < calls; ++call) run(call % copies, stream);
    });
    cudaEvent_t begin = nullptr, end = nullptr;
    MSMOE_CHECK(cudaEventCreate(&begin));
    MSMOE_CHECK(cudaEventCreate(&end));
    for (int replay = 0; replay < kWarmReplays + kReplays; ++replay) {
      MSMOE_CHECK(cudaEventRecord(begin, stream));
      graph.replay(stream);
      MSMOE_CHECK(cudaEventRecord(end, stream));
      MSMOE_CHECK(cudaEventSynchronize(end));
      float elapsed = 0;
      MSMOE_CHECK(cudaEventElapsedTime(&elapsed, begin, end));
      if (replay >= kWarmReplays) milliseconds.push_back(elapsed / static_cast<float>(calls));
    }
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
  }
  cudaStreamDestroy(stream);
  std::ranges::nth_element(milliseconds, milliseconds.begin() + kReplays / 2);
  return milliseconds[kReplays / 2] * 1e-3;
}

double median_seconds(kernels::Kernels& kernels, const std::function<kernels::Operation(Arena&)>& make) {
  Arena arena;
  std::vector<kernels::Operation> operations{make(arena)};
  const auto copies = std::clamp<std::size_t>(kPastL2 / std::max<std::size_t>(arena.taken(), 1) + 1, 2, kMostCopies);
  while (operations.size() < copies) operations.push_back(make(arena));
  const std::size_t workspace_bytes = kernels.workspace_bytes(operations[0]);
  void* workspace = arena.bytes(workspace_bytes);
  return median_seconds(static_cast<int>(copies), [&](int copy, cudaStream_t stream) {
    kernels.run(operations[copy], {.stream = stream, .workspace = workspace, .workspace_bytes = workspace_bytes});
  });
}

}  // namespace msmoe::bench
