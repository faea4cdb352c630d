// The .bin files of llm.c (github.com/karpathy/llm.c, dev/data/data_common.py): a header of 256 int32, of which the
// first three count, then the tokens.
//
//   int32 magic      20240520 (GPT-2)    20240801 (Llama 3)
//   int32 version    1                   7
//   int32 tokens     so many uint16      so many uint32
//
// The file does not say where documents end, so it counts as one.
#pragma once

#include <cstdint>
#include <memory>

#include "executor/data/token_source.h"

namespace msmoe::executor {

class MappedFile;

bool is_llm_c(const MappedFile& file);  // begins with one of the two magic numbers

// A UserError where the header is cut off, of another version, or announces another length than the file has.
// REQUIRES: is_llm_c(*file).
std::unique_ptr<TokenSource> open_llm_c(std::shared_ptr<const MappedFile> file, std::int64_t vocabulary_size);

}  // namespace msmoe::executor
