// Routes and arrivals: what the program's tensors of these names hold (core/lowering/feed_forward.cc counts them).
//
// Routes are of this rank's tokens; where dispatch gathers tokens, arrivals begin with those of all gathered ones.
#pragma once

#include "executor/interpreter/call.h"

namespace msmoe::executor {

struct Routes {
  kernels::View experts, row_of;  // int32 [tokens, k]
  kernels::View gates;            // fp32 [tokens, k]
  kernels::View copy_of;          // int32 [1, tokens * k]: token * k + choice of a row
  kernels::View counts;           // int32 [sequences, experts]
  kernels::View offsets;          // int32 [1, experts + 1]: first row of each expert

  kernels::View copies(const kernels::View& view) const { return reshape(view, 1, view.size()); }
};
Routes routes_in(const Call& call, Row& row, std::int64_t tokens);

// The chosen experts, int32 [tokens, k]; -1 where an expert rank has no room for a copy: a source sends at most
// RankContext::most_copies to each, those with the largest gates, and of equals the first.
class LimitedChoice {
 public:
  LimitedChoice(const Call& call, const Routes& routes);
  kernels::View experts() const { return experts_; }
  std::int64_t dropped() const { return dropped_; }

 private:
  BufferPool::Buffer buffer_;
  kernels::View experts_;
  std::int64_t dropped_ = 0;
};

struct Arrivals {
  kernels::View gates;          // fp32 [1, rows], as the experts have them
  kernels::View arrived_gates;  // likewise, as they came
  kernels::View source_of;      // int32 [1, rows]: the arrived row that lies in a row
  kernels::View arrives_at;     // its inverse
  kernels::View counts;         // int32 [sources, experts here]
  kernels::View offsets;        // int32 [1, experts here + 1]
  Routes gathered;              // of dispatch by all-gather
};
Arrivals arrivals_in(const Call& call, std::byte* data);

// Gradients of the gates on their way back.
struct GateGradients {
  kernels::View of_rows, of_arrived;  // fp32 [1, rows]
  kernels::View gathered;             // fp32 [gathered tokens, k]
  kernels::View sent, of_copies;      // fp32 [1, tokens * k], [tokens, k]
};
GateGradients gate_gradients_in(const Call& call, std::byte* data);

// Sizes of a mixture on this rank.
struct Mixture {
  explicit Mixture(const Call& call);
  const FeedForward& feed_forward;
  bool gathers;                 // dispatch by all-gather
  std::int64_t hidden, tokens;  // of the shard
  std::int64_t experts, experts_here, first_expert, top_k;
  std::int64_t width;     // of an expert here
  std::int64_t capacity;  // most rows that its experts can get: what tensors are made for
  std::int64_t gathered_tokens;
  int expert_ranks, tensor_ranks;
  std::int64_t sources() const { return static_cast<std::int64_t>(expert_ranks) * tensor_ranks; }
  bool exchanges() const { return sources() > 1; }
};

}  // namespace msmoe::executor
