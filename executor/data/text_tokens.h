// Text as tokens: every byte is one, so there are 256 kinds, and the file is one document.
#pragma once

#include <cstdint>
#include <memory>

#include "executor/data/token_source.h"

namespace msmoe::executor {

class MappedFile;

inline constexpr std::int64_t kTextVocabulary = 256;

// Text has no zero byte near its beginning.
bool is_text(const MappedFile& file);

// A UserError where the model's vocabulary is smaller than kTextVocabulary.
std::unique_ptr<TokenSource> open_text(std::shared_ptr<const MappedFile> file, std::int64_t vocabulary_size);

}  // namespace msmoe::executor
