// Row maps. Sorting by expert is a counting sort that keeps the order of equals, in three kernels:
//   1. each block counts the experts of its chunk of assignments:              counts [blocks, experts]
//   2. for each expert, counts become the number in the chunks before:         starts [blocks, experts], totals
//   [experts]
//   3. each block places its chunk, warp by warp, lanes of equal expert in order.
#include "kernels/cuda/check.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/operators.h"
#include "kernels/cuda/requirements.h"
#include "kernels/cuda/workspace.h"

namespace msmoe::kernels {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;
constexpr int kChunk = 2048, kWarpChunk = kChunk / kWarps;
constexpr int kMaxExperts = 512;
constexpr int kArrivalThreads = 1024;

std::int64_t num_chunks(std::int64_t assignments) { return (assignments + kChunk - 1) / kChunk; }

// In place, over the threads of a block: value becomes the sum of those of lower threads. total: of all.
__device__ inline int exclusive_scan(int value, int* total) {
  __shared__ int of_warps[kWarp];
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  int inclusive = value;
#pragma unroll
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const int below = __shfl_up_sync(0xffffffffU, inclusive, offset);
    if (lane >= offset) inclusive += below;
  }
  __syncthreads();
  if (lane == kWarp - 1) of_warps[warp] = inclusive;
  __syncthreads();
  int before = 0, all = 0;
  for (int other = 0; other < static_cast<int>(blockDim.x) / kWarp; ++other) {
    if (other < warp) before += of_warps[other];
    all += of_warps[other];
  }
  *total = all;
  return before + inclusive - value;
}

__global__ void __launch_bounds__(kThreads)
    count_experts(const int* experts, int* counts, std::int64_t assignments, int first_expert, int num_experts) {
  __shared__ int of_chunk[kMaxExperts];
  for (int expert = static_cast<int>(threadIdx.x); expert < num_experts; expert += kThreads) of_chunk[expert] = 0;
  __syncthreads();
  const std::int64_t start = std::int64_t{blockIdx.x} * kChunk, end = min(start + kChunk, assignments);
  for (std::int64_t index = start + threadIdx.x; index < end; index += kThreads) {
    const int expert = experts[index] - first_expert;
    if (expert >= 0 && expert < num_experts) atomicAdd(&of_chunk[expert], 1);
  }
  __syncthreads();
  for (int expert = static_cast<int>(threadIdx.x); expert < num_experts; expert += kThreads)
    counts[std::int64_t{blockIdx.x} * num_experts + expert] = of_chunk[expert];
}

// One block for each expert.
__global__ void __launch_bounds__(kThreads) scan_chunks(int* counts, int* totals, int chunks, int num_experts) {
  int before = 0;
  for (int first = 0; first < chunks; first += kThreads) {
    const int chunk = first + static_cast<int>(threadIdx.x);
    const std::int64_t at = std::int64_t{chunk} * num_experts + blockIdx.x;
    int total = 0;
    const int start = before + exclusive_scan(chunk < chunks ? counts[at] : 0, &total);
    if (chunk < chunks) counts[at] = start;
    before += total;
  }
  if (threadIdx.x == 0) totals[blockIdx.x] = before;
}

__global__ void __launch_bounds__(kThreads)
    place(const int* experts, const int* starts, const int* totals, int* offsets, int* row_of, int* assignment_of,
          std::int64_t assignments, int first_expert, int num_experts) {
  __shared__ int next[kWarps][kMaxExperts];  // the row of a warp's next assignment to an expert
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const std::int64_t start = std::int64_t{blockIdx.x} * kChunk + warp * kWarpChunk;
  const std::int64_t end = min(start + kWarpChunk, assignments);
  const auto expert_at = [&](std::int64_t index) {
    const int expert = index < end ? experts[index] - first_expert : -1;
    return expert >= 0 && expert < num_experts ? expert : -1;
  };
  for (int expert = lane; expert < num_experts; expert += kWarp) next[warp][expert] = 0;
  __syncwarp();
  for (std::int64_t index = start + lane; index - lane < end; index += kWarp) {
    const int expert = expert_at(index);
    if (expert >= 0) atomicAdd(&next[warp][expert], 1);
  }
  // Experts' offsets and then, for each expert, where its chunk and its warps start.
  int before = 0;
  for (int first = 0; first < num_experts; first += kThreads) {
    const int expert = first + static_cast<int>(threadIdx.x);
    int total = 0;
    const int offset = before + exclusive_scan(expert < num_experts ? totals[expert] : 0, &total);
    before += total;
    if (expert >= num_experts) continue;
    if (blockIdx.x == 0) offsets[expert] = offset;
    int row = offset + starts[std::int64_t{blockIdx.x} * num_experts + expert];
    for (int other = 0; other < kWarps; ++other) {
      const int count = next[other][expert];
      next[other][expert] = row;
      row += count;
    }
  }
  if (blockIdx.x == 0 && threadIdx.x == 0) offsets[num_experts] = before;
  __syncthreads();
  for (std::int64_t index = start + lane; index - lane < end; index += kWarp) {
    const int expert = expert_at(index);
    const unsigned equals = __match_any_sync(0xffffffffU, expert);
    const int rank = __popc(equals & ((1U << lane) - 1));
    const int row = expert >= 0 ? next[warp][expert] + rank : -1;
    __syncwarp();
    if (expert >= 0 && rank == 0) next[warp][expert] += __popc(equals);
    __syncwarp();
    if (index < end) row_of[index] = row;
    if (expert >= 0) assignment_of[row] = static_cast<int>(index);
  }
}

// One block. starts [2, ranks * experts]: where a rank's rows for an expert begin, as they arrived and as they go.
__global__ void __launch_bounds__(kArrivalThreads)
    scan_arrivals(const int* counts, int* starts, int* offsets, int ranks, int num_experts) {
  const int size = ranks * num_experts;
  for (int order = 0; order < 2; ++order) {
    int before = 0;
    for (int first = 0; first < size; first += kArrivalThreads) {
      const int item = first + static_cast<int>(threadIdx.x);
      // Arrived by rank, then expert; they go by expert, then rank.
      const int at = order == 0 ? item : item % ranks * num_experts + item / ranks;
      int total = 0;
      const int start = before + exclusive_scan(item < size ? counts[at] : 0, &total);
      before += total;
      if (item >= size) continue;
      starts[order * size + at] = start;
      if (order == 1 && item % ranks == 0) offsets[item / ranks] = start;
    }
    if (order == 1 && threadIdx.x == 0) offsets[num_experts] = before;
  }
}
// One block for each rank and expert.
__global__ void __launch_bounds__(kThreads)
    place_arrivals(const int* counts, const int* starts, int* source_of, int* arrives_at) {
  const int from = starts[blockIdx.x], to = starts[gridDim.x + blockIdx.x];
  for (int index = static_cast<int>(threadIdx.x); index < counts[blockIdx.x]; index += kThreads) {
    source_of[to + index] = from + index;
    arrives_at[from + index] = to + index;
  }
}

void fill_with_minus_one(const View& view, cudaStream_t stream) {
  MSMOE_CHECK(cudaMemsetAsync(view.data, 0xFF, view.bytes(), stream));
}
void require_integers(std::initializer_list<View> views, const char* operation) {
  for (const View& view : views)
    require(view.element == Element::kInt32, operation, "experts, counts, offsets and maps are int32");
}

}  // namespace

std::size_t sort_workspace_bytes(const SortByExpert& op) {
  const std::int64_t experts = op.offsets.columns - 1;
  return static_cast<std::size_t>((num_chunks(op.experts.size()) + 1) * experts) * sizeof(int);
}
std::size_t sort_workspace_bytes(const SortArrivals& op) { return 2 * op.counts.bytes(); }

void launch(const SortByExpert& op, const DeviceLaunch& on) {
  require_integers({op.experts, op.offsets, op.row_of, op.assignment_of}, "sort_by_expert");
  const std::int64_t assignments = op.experts.size(), experts = op.offsets.columns - 1;
  require(experts >= 1 && experts <= kMaxExperts, "sort_by_expert", "1 to 512 experts here");
  require(op.row_of.size() == assignments && op.assignment_of.size() == assignments, "sort_by_expert",
          "row_of and assignment_of have an entry for each assignment");
  if (assignments == 0) {
    MSMOE_CHECK(cudaMemsetAsync(op.offsets.data, 0, op.offsets.bytes(), on.stream));
    return;
  }
  fill_with_minus_one(op.assignment_of, on.stream);
  const auto chunks = static_cast<unsigned>(num_chunks(assignments));
  auto* counts = static_cast<int*>(on.workspace);
  int* totals = counts + chunks * experts;
  const int num_experts = static_cast<int>(experts);
  count_experts<<<chunks, kThreads, 0, on.stream>>>(op.experts.as<int>(), counts, assignments, op.first_expert,
                                                    num_experts);
  MSMOE_CHECK(cudaGetLastError());
  scan_chunks<<<static_cast<unsigned>(experts), kThreads, 0, on.stream>>>(counts, totals, static_cast<int>(chunks),
                                                                          num_experts);
  MSMOE_CHECK(cudaGetLastError());
  place<<<chunks, kThreads, 0, on.stream>>>(op.experts.as<int>(), counts, totals, op.offsets.as<int>(),
                                            op.row_of.as<int>(), op.assignment_of.as<int>(), assignments,
                                            op.first_expert, num_experts);
  MSMOE_CHECK(cudaGetLastError());
}

void launch(const SortArrivals& op, const DeviceLaunch& on) {
  require_integers({op.counts, op.offsets, op.source_of, op.arrives_at}, "sort_arrivals");
  require(op.counts.size() > 0 && op.offsets.size() == op.counts.columns + 1, "sort_arrivals",
          "offsets have one entry more than there are experts here");
  require(op.source_of.size() == op.arrives_at.size(), "sort_arrivals", "both maps are equally long");
  if (op.source_of.size() > 0) {
    fill_with_minus_one(op.source_of, on.stream);
    fill_with_minus_one(op.arrives_at, on.stream);
  }
  auto* starts = static_cast<int*>(on.workspace);
  scan_arrivals<<<1, kArrivalThreads, 0, on.stream>>>(op.counts.as<int>(), starts, op.offsets.as<int>(),
                                                      static_cast<int>(op.counts.rows),
                                                      static_cast<int>(op.counts.columns));
  MSMOE_CHECK(cudaGetLastError());
  place_arrivals<<<static_cast<unsigned>(op.counts.size()), kThreads, 0, on.stream>>>(
      op.counts.as<int>(), starts, op.source_of.as<int>(), op.arrives_at.as<int>());
  MSMOE_CHECK(cudaGetLastError());
}

}  // namespace msmoe::kernels
