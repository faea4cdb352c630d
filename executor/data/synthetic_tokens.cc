#include "executor/data/synthetic_tokens.h"

#include <fmt/format.h>

#include <cassert>

#include "core/random_bits.h"

namespace msmoe::executor {

SyntheticTokens::SyntheticTokens(std::uint64_t seed, std::int64_t vocabulary_size)
    : name_(fmt::format("synthetic:{}", seed)),
      seed_(seed),
      vocabulary_size_(static_cast<std::uint64_t>(vocabulary_size)) {
  assert(vocabulary_size >= 1 && vocabulary_size <= std::int64_t{1} << 31);
}

std::int64_t SyntheticTokens::document_begin(std::int64_t document_idx) const {
  assert(document_idx == 0 || document_idx == 1);
  return document_idx * kTokens;
}

void SyntheticTokens::copy(std::int64_t first, std::span<std::int32_t> out) const {
  assert(first >= 0 && first <= kTokens && static_cast<std::int64_t>(out.size()) <= kTokens - first);
  auto position = static_cast<std::uint64_t>(first);
  for (std::int32_t& token : out) {
    const std::uint64_t bits = draw_key({seed_, position++});
    const std::uint64_t bound = 1 + (bits >> 32) % vocabulary_size_;
    token = static_cast<std::int32_t>((bits & 0xffffffffU) % bound);
  }
}

}  // namespace msmoe::executor
