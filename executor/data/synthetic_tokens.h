// Tokens made up from a seed, for runs that measure speed or check that a loss falls. Nothing is stored.
//
// Token p is a mod (1 + b mod V) of two hashes a, b of (seed, p) and a vocabulary of V, which is integer arithmetic and
// so the same everywhere. Small tokens are likelier than large ones: token t > 0 has a probability of about
// ln(V / t) / V. No token tells anything of the next, so no loss is below the entropy, which nears ln V - (1 - 0.5772)
// for large V: a loss falls by 0.42 from that of a model that knows nothing. The likeliest token is still so rare
// (3 in 10,000 of a vocabulary of 32,000) that it does not overload the expert it is sent to.
#pragma once

#include <cstdint>
#include <string>

#include "executor/data/token_source.h"

namespace msmoe::executor {

class SyntheticTokens : public TokenSource {
 public:
  // Endless, for all that a run can read: at 10^9 tokens a second it lasts for 3 days.
  static constexpr std::int64_t kTokens = std::int64_t{1} << 48;

  // REQUIRES: 1 <= vocabulary_size <= 2^31.
  SyntheticTokens(std::uint64_t seed, std::int64_t vocabulary_size);

  const std::string& name() const override { return name_; }
  std::int64_t num_tokens() const override { return kTokens; }
  std::int64_t num_documents() const override { return 1; }
  std::int64_t document_begin(std::int64_t document_idx) const override;
  void copy(std::int64_t first, std::span<std::int32_t> out) const override;

 private:
  std::string name_;
  std::uint64_t seed_, vocabulary_size_;
};

}  // namespace msmoe::executor
