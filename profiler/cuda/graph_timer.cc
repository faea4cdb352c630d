#include "profiler/cuda/graph_timer.h"

#include <cmath>

#include "kernels/cuda/check.h"

namespace msmoe::profiler {
namespace {

struct Stream {
  cudaStream_t handle = nullptr;
  Stream() { MSMOE_CHECK(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking)); }
  ~Stream() { cudaStreamDestroy(handle); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
};

struct Event {
  cudaEvent_t handle = nullptr;
  Event() { MSMOE_CHECK(cudaEventCreate(&handle)); }
  ~Event() { cudaEventDestroy(handle); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
};

class Graph {
 public:
  Graph(cudaStream_t stream, const std::function<void(cudaStream_t)>& launch) {
    MSMOE_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    launch(stream);
    cudaGraph_t graph = nullptr;
    MSMOE_CHECK(cudaStreamEndCapture(stream, &graph));
    const cudaError_t status = cudaGraphInstantiate(&executable_, graph, 0);
    cudaGraphDestroy(graph);
    MSMOE_CHECK(status);
  }
  ~Graph() { cudaGraphExecDestroy(executable_); }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  void launch(cudaStream_t stream) { MSMOE_CHECK(cudaGraphLaunch(executable_, stream)); }

 private:
  cudaGraphExec_t executable_ = nullptr;
};

std::vector<std::int64_t> timed(int warm_times, int times, cudaStream_t stream, const std::function<void()>& launch) {
  constexpr double kPsPerMillisecond = 1e9;
  const Event begin, end;
  std::vector<std::int64_t> picoseconds;
  for (int i = 0; i < warm_times + times; ++i) {
    MSMOE_CHECK(cudaEventRecord(begin.handle, stream));
    launch();
    MSMOE_CHECK(cudaEventRecord(end.handle, stream));
    MSMOE_CHECK(cudaEventSynchronize(end.handle));
    float milliseconds = 0;
    MSMOE_CHECK(cudaEventElapsedTime(&milliseconds, begin.handle, end.handle));
    if (i >= warm_times) picoseconds.push_back(std::llround(milliseconds * kPsPerMillisecond));
  }
  return picoseconds;
}

}  // namespace

std::vector<std::int64_t> replay(int replays, const std::function<void(cudaStream_t)>& launch) {
  constexpr int kWarmReplays = 3;
  const Stream stream;
  Graph graph(stream.handle, launch);
  return timed(kWarmReplays, replays, stream.handle, [&] { graph.launch(stream.handle); });
}

std::vector<std::int64_t> time_launches(int warm_launches, int launches,
                                        const std::function<void(cudaStream_t)>& launch) {
  const Stream stream;
  return timed(warm_launches, launches, stream.handle, [&] { launch(stream.handle); });
}

}  // namespace msmoe::profiler
