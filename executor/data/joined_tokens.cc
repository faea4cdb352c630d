#include "executor/data/joined_tokens.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <utility>

namespace msmoe::executor {
namespace {

// The last part that begins at or before this, which skips empty ones.
std::size_t part_of(const std::vector<std::int64_t>& begins, std::int64_t at) {
  return static_cast<std::size_t>(std::upper_bound(begins.begin(), begins.end() - 1, at) - begins.begin()) - 1;
}

}  // namespace

JoinedTokens::JoinedTokens(std::vector<std::unique_ptr<TokenSource>> parts)
    : parts_(std::move(parts)), token_begins_{0}, document_begins_{0} {
  assert(!parts_.empty());
  name_ = parts_.front()->name();
  if (parts_.size() > 1) name_ += fmt::format(" and {} more", parts_.size() - 1);
  for (const auto& part : parts_) {
    token_begins_.push_back(token_begins_.back() + part->num_tokens());
    document_begins_.push_back(document_begins_.back() + part->num_documents());
  }
}

std::int64_t JoinedTokens::document_begin(std::int64_t document_idx) const {
  assert(document_idx >= 0 && document_idx <= num_documents());
  const std::size_t part_idx = part_of(document_begins_, document_idx);
  return token_begins_[part_idx] + parts_[part_idx]->document_begin(document_idx - document_begins_[part_idx]);
}

void JoinedTokens::copy(std::int64_t first, std::span<std::int32_t> out) const {
  assert(first >= 0 && first <= num_tokens() && static_cast<std::int64_t>(out.size()) <= num_tokens() - first);
  for (std::size_t part_idx = part_of(token_begins_, first); !out.empty(); ++part_idx) {
    const auto num_copied = std::min(out.size(), static_cast<std::size_t>(token_begins_[part_idx + 1] - first));
    parts_[part_idx]->copy(first - token_begins_[part_idx], out.first(num_copied));
    first += static_cast<std::int64_t>(num_copied);
    out = out.subspan(num_copied);
  }
}

}  // namespace msmoe::executor
