#include "executor/data/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>

#include "core/error.h"

namespace msmoe::executor {
namespace {

SampleOrder order_of(const TokenSource& source, const Sampling& sampling) {
  if (source.num_tokens() <= sampling.seq_len)
    throw UserError(
        source.name(), "",
        fmt::format("holds {} tokens, too few for one sequence of {}", source.num_tokens(), sampling.seq_len),
        fmt::format("{} or more are needed", sampling.seq_len + 1));
  return {source.num_tokens(), sampling.seq_len, sampling.seed};
}

}  // namespace

Sampler::Sampler(const TokenSource& source, const Sampling& sampling)
    : source_(source), sampling_(sampling), order_(order_of(source, sampling)) {
  assert(sampling.rank >= 0 && sampling.rank < sampling.num_ranks);
  assert(sampling.global_batch >= 1 && sampling.global_batch % sampling.num_ranks == 0);
  assert(sampling.position >= 0);
}

void Sampler::read(std::int64_t first, std::span<std::int32_t> tokens, std::span<std::int32_t> targets) const {
  const auto seq_len = static_cast<std::size_t>(sampling_.seq_len);
  const std::size_t num_samples = tokens.size() / seq_len;
  assert(tokens.size() == targets.size() && tokens.size() % seq_len == 0);
  assert(first >= 0 && first + static_cast<std::int64_t>(num_samples) <= samples_per_step());

  const std::int64_t first_of_rank = sampling_.position + sampling_.rank * samples_per_step() + first;
  for (std::size_t sample_idx = 0; sample_idx < num_samples; ++sample_idx) {
    const std::int64_t begin = order_.begin_of(first_of_rank + static_cast<std::int64_t>(sample_idx));
    const auto inputs = tokens.subspan(sample_idx * seq_len, seq_len);
    const auto outputs = targets.subspan(sample_idx * seq_len, seq_len);
    source_.copy(begin, inputs);
    // All but the last of the targets are tokens that have just been read.
    std::copy(inputs.begin() + 1, inputs.end(), outputs.begin());
    source_.copy(begin + sampling_.seq_len, outputs.last(1));
  }
}

}  // namespace msmoe::executor
