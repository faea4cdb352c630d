// JoinedTokens: several sources as one, in the order given.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "executor/data/token_source.h"

namespace msmoe::executor {

class JoinedTokens : public TokenSource {
 public:
  // REQUIRES: at least one.
  explicit JoinedTokens(std::vector<std::unique_ptr<TokenSource>> parts);

  const std::string& name() const override { return name_; }  // "a.txt and 2 more"
  std::int64_t num_tokens() const override { return token_begins_.back(); }
  std::int64_t num_documents() const override { return document_begins_.back(); }
  std::int64_t document_begin(std::int64_t document_idx) const override;
  void copy(std::int64_t first, std::span<std::int32_t> out) const override;

 private:
  std::string name_;
  std::vector<std::unique_ptr<TokenSource>> parts_;
  std::vector<std::int64_t> token_begins_, document_begins_;  // [parts + 1], of each part and the end
};

}  // namespace msmoe::executor
