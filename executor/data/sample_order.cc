#include "executor/data/sample_order.h"

#include <cassert>

#include "core/random_bits.h"
#include "executor/data/shuffle.h"

namespace msmoe::executor {

SampleOrder::SampleOrder(std::int64_t num_tokens, std::int64_t seq_len, std::uint64_t seed)
    : seq_len_(seq_len), num_sequences_((num_tokens - 1) / seq_len), seed_(seed) {
  assert(seq_len >= 1 && num_tokens > seq_len);
}

// A shuffle is cheaper to make than one sample is to read, so none is kept.
std::int64_t SampleOrder::begin_of(std::int64_t sample_idx) const {
  assert(sample_idx >= 0);
  const std::int64_t epoch = sample_idx / num_sequences_;
  const Shuffle shuffle(num_sequences_, draw_key({seed_, static_cast<std::uint64_t>(epoch)}));
  return shuffle(sample_idx % num_sequences_) * seq_len_;
}

}  // namespace msmoe::executor
