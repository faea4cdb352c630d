// ParameterBucket: the memory of one LocalBucket under a plan's ZeRO stage (arXiv 1910.02054), and what keeps it alike
// on the g ranks of its data group. The bucket is cut into g equal shards; rank r owns shard r.
//
//   zero   weights        gradients, fp32                        masters and moments, fp32
//   0      whole          whole; summed after the last backward  whole: every rank makes the same update
//   1      whole          whole; likewise                        shard; updated weights are gathered
//   2      whole          shard; whole while a backward runs     shard; likewise
//   3      shard; whole   likewise                               shard
//          while used
//
// Where weights are fp32 they are their own masters.
//
// Gradients cross wires as fp32, or as bf16 that the receiver sums in fp32 (MegaScale-MoE, arXiv 2505.11432, section
// 5); finished sums travel as fp32.
#pragma once

#include <cstdint>
#include <vector>

#include "executor/backend/backend.h"
#include "executor/communication/communicator.h"
#include "executor/parameters/buffer_pool.h"
#include "executor/parameters/local_parameters.h"

namespace msmoe::executor {

struct Range {
  std::int64_t begin = 0, end = 0;
  std::int64_t size() const { return end - begin; }
};

class ParameterBucket {
 public:
  ParameterBucket(LocalBucket layout, const Plan& plan, Backend& backend, BufferPool& pool, Communicator& group);

  const LocalBucket& layout() const { return layout_; }
  bool has_replicas() const { return group_.size() > 1; }
  Range own() const;                                           // this rank's shard
  Range held() const { return zero_ == 0 ? whole() : own(); }  // of masters and moments

  // ---- The whole bucket, [1, elements]
  kernels::View weights() const;    // REQUIRES ZeRO below 3, or begin_use()
  kernels::View gradients() const;  // REQUIRES ZeRO below 2, or begin_gradients()

  // Calls of begin and end pair up, and may nest. The first begin and the last end are collective at ZeRO-3, the last
  // end of gradients at ZeRO-2 as well; at lower stages nothing happens.
  void begin_use();
  void end_use();
  void begin_gradients();
  void end_gradients();

  // ---- After the last micro-batch
  void reduce_gradients();  // collective at ZeRO-0 and 1
  // Sums what tensor ranks hold together; collective over them.
  void sum_over_tensor_ranks(Communicator& tensor_ranks);
  void zero_gradients();
  void add_norm_terms(kernels::SquaredNorm& norm) const;
  void add_updates(kernels::AdamW& adam, double decay) const;
  void gather_weights();   // after an update; collective at ZeRO-1 and 2
  void publish_masters();  // weights become what masters are; collective likewise

  // ---- held(), [1, size] fp32
  kernels::View masters() const { return masters_; }
  kernels::View first_moments() const { return first_moments_; }
  kernels::View second_moments() const { return second_moments_; }

 private:
  struct Run {
    Range range;
    bool decays, is_first;
  };
  Range whole() const { return {0, layout_.elements}; }
  std::vector<Run> runs(const Range& range) const;
  kernels::View held_weights() const;
  kernels::View held_gradients() const;
  void scatter_sums(const kernels::View& addends, const kernels::View& sums, bool accumulate);
  void gather(const kernels::View& shard, const kernels::View& all);
  void sum_over_sharers(const kernels::View& gradients, Communicator& tensor_ranks);

  LocalBucket layout_;
  int zero_;
  WireFormat wire_;
  Backend& backend_;
  BufferPool& pool_;
  Communicator& group_;
  kernels::View weights_;        // whole, or the shard at ZeRO-3
  kernels::View gradient_sums_;  // whole, or the shard at ZeRO-2 and up
  kernels::View masters_, first_moments_, second_moments_;
  BufferPool::Buffer gathered_weights_, open_gradients_;
  int uses_ = 0, gradient_uses_ = 0;
};

}  // namespace msmoe::executor
