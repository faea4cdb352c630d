// Rows and heads put in another order, as the exchanges of attention want them.
#pragma once

#include <cstdint>
#include <vector>

#include "executor/interpreter/call.h"

namespace msmoe::executor {

// Numbers in the backend's memory for as long as this lives.
class Indices {
 public:
  Indices(const Call& call, const std::vector<std::int32_t>& numbers, std::int64_t rows, std::int64_t columns);
  kernels::View view() const { return view_; }

 private:
  BufferPool::Buffer buffer_;
  kernels::View view_;
};

// A matrix in memory of the pool.
class Scratch {
 public:
  Scratch(const Call& call, std::int64_t rows, std::int64_t columns);
  const kernels::View& view() const { return view_; }

 private:
  BufferPool::Buffer buffer_;
  kernels::View view_;
};

// Heads between token split and head split over n ranks. Rank p has heads [p H / n, (p + 1) H / n) of H; where H < n,
// head p H / n, which n / H neighbours have alike.
struct HeadSplit {
  std::int64_t heads = 0, width = 0;  // of all ranks
  int ranks = 1;
  std::int64_t heads_here() const { return heads >= ranks ? heads / ranks : 1; }
};
// in: [tokens, H width] -> out: for each rank [tokens, heads_here width], one after another
void heads_to_ranks(const Call& call, const HeadSplit& split, const kernels::View& in, const kernels::View& out);
// The way back; heads that several ranks have are summed.
void heads_from_ranks(const Call& call, const HeadSplit& split, const kernels::View& in, const kernels::View& out);

}  // namespace msmoe::executor
