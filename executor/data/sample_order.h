// SampleOrder: which tokens are the n-th sample of a run.
//
// The tokens of all documents, one after the other as the source has them, are cut into sequences that overlap by one:
//
//     sequence j = tokens [j * seq_len, j * seq_len + seq_len + 1),     sequences = (tokens - 1) / seq_len
//
// so that every token but the first is predicted once. The last (tokens - 1) % seq_len tokens are never read. An epoch
// goes through all sequences in an order of its own, and a run through the epochs, one sample after the other:
//
//     sample n = sequence shuffle(n % sequences) of epoch n / sequences,     shuffle = Shuffle(draw_key({seed, epoch}))
//
// Nothing else counts: not the plan, the number of ranks or where the run was interrupted. This order is part of what
// a checkpoint means; a test holds values of it.
#pragma once

#include <cstdint>

namespace msmoe::executor {

class SampleOrder {
 public:
  // REQUIRES: num_tokens > seq_len >= 1.
  SampleOrder(std::int64_t num_tokens, std::int64_t seq_len, std::uint64_t seed);

  std::int64_t num_sequences() const { return num_sequences_; }  // samples of an epoch
  // The position of the first token of a sample. REQUIRES: 0 <= sample_idx.
  std::int64_t begin_of(std::int64_t sample_idx) const;

 private:
  std::int64_t seq_len_, num_sequences_;
  std::uint64_t seed_;
};

}  // namespace msmoe::executor
