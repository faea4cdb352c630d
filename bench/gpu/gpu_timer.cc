#include "bench/gpu/gpu_timer.h"

#include <algorithm>
#include <vector>

#include "kernels/cuda/check.h"

namespace msmoe::bench {

namespace {

constexpr std::size_t kPastL2 = std::size_t{192} << 20;  // L2 of an H100 is 50 MiB
constexpr int kMostCopies = 24, kFewestCallsPerReplay = 8, kReplays = 30, kWarmReplays = 3;

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
