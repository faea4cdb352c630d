// OneDocument: a file without marks between documents counts as one.
#pragma once

#include <cassert>
#include <utility>

#include "executor/data/token_array.h"
#include "executor/data/token_source.h"

namespace msmoe::executor {

class OneDocument : public TokenSource {
 public:
  explicit OneDocument(TokenArray tokens) : tokens_(std::move(tokens)) {}

  const std::string& name() const override { return tokens_.path(); }
  std::int64_t num_tokens() const override { return tokens_.num_tokens(); }
  std::int64_t num_documents() const override { return 1; }
  std::int64_t document_begin(std::int64_t document_idx) const override {
    assert(document_idx == 0 || document_idx == 1);
    return document_idx == 0 ? 0 : num_tokens();
  }
  void copy(std::int64_t first, std::span<std::int32_t> out) const override { tokens_.copy(first, out); }

 private:
  TokenArray tokens_;
};

}  // namespace msmoe::executor
