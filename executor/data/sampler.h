// Sampler: the batches of one data-parallel rank.
//
// A step reads the next global_batch samples of the run (sample_order.h). Rank r of R takes those from
// r * global_batch / R on, global_batch / R of them, in their order; a step may go over the end of an epoch. The
// position, which is the number of samples that all ranks together have read, is all that a checkpoint has to keep: a
// run that goes on with other ranks, or with another global batch, reads on where the last one stopped.
#pragma once

#include <cstdint>
#include <span>

#include "executor/data/sample_order.h"
#include "executor/data/token_source.h"

namespace msmoe::executor {

struct Sampling {
  std::int64_t seq_len = 0;       // tokens
  std::int64_t global_batch = 0;  // sequences a step, of all ranks together
  int rank = 0, num_ranks = 1;    // of data parallelism
  std::uint64_t seed = 0;
  std::int64_t position = 0;  // samples that were read before
};

class Sampler {
 public:
  // The source has to outlive it. A UserError where the source is too short for one sequence. REQUIRES: seq_len >= 1;
  // 0 <= rank < num_ranks; global_batch >= 1, a multiple of num_ranks; position >= 0.
  Sampler(const TokenSource& source, const Sampling& sampling);

  std::int64_t samples_per_epoch() const { return order_.num_sequences(); }
  std::int64_t samples_per_step() const { return sampling_.global_batch / sampling_.num_ranks; }  // of this rank
  std::int64_t position() const { return sampling_.position; }

  // Writes samples [first, first + n) of this rank's share of the step, such as one micro-batch, where n is
  // tokens.size() / seq_len. Target t of a sequence is its token t + 1.
  // tokens, targets: [n, seq_len]. REQUIRES: equal sizes, a multiple of seq_len; first + n <= samples_per_step().
  // Errors are those of TokenSource::copy.
  void read(std::int64_t first, std::span<std::int32_t> tokens, std::span<std::int32_t> targets) const;

  // On to the next step.
  void advance() { sampling_.position += sampling_.global_batch; }

 private:
  const TokenSource& source_;
  Sampling sampling_;
  SampleOrder order_;
};

}  // namespace msmoe::executor
