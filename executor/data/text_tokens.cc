#include "executor/data/text_tokens.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "executor/data/one_document.h"

namespace msmoe::executor {

bool is_text(const MappedFile& file) {
  constexpr std::int64_t kLookedAt = 4096;
  return std::ranges::count(file.bytes(0, std::min(file.size(), kLookedAt)), std::byte{0}) == 0;
}

std::unique_ptr<TokenSource> open_text(std::shared_ptr<const MappedFile> file, std::int64_t vocabulary_size) {
  if (vocabulary_size < kTextVocabulary)
    throw UserError(
        file->path(), "",
        fmt::format("is text, whose bytes are {} tokens, but the model has {}", kTextVocabulary, vocabulary_size),
        "take a model of a larger vocabulary, or tokenized data");
  const std::int64_t num_tokens = file->size();
  return std::make_unique<OneDocument>(TokenArray(std::move(file), 0, TokenType::kUint8, num_tokens, vocabulary_size));
}

}  // namespace msmoe::executor
