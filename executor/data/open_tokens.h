// Opens a data set, whatever its format.
//
//   synthetic, synthetic:SEED     made up (synthetic_tokens.h); SEED is 0 where it is not given
//   PREFIX, PREFIX.bin            where there is a PREFIX.idx: Megatron (megatron_tokens.h); PREFIX.idx means the same
//   a file of llm.c               known by its first bytes (llm_c_tokens.h)
//   any other file                text (text_tokens.h), unless there is a zero byte near its beginning
//   a folder                      each file in it, in the order of their names (bytes compared); hidden ones and
//                                 folders inside it are passed over
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "executor/data/token_source.h"

namespace msmoe::executor {

// Several are joined in the order given; of a pair PREFIX.bin, PREFIX.idx (as a shell writes PREFIX.*) the latter is
// passed over. A UserError where something is not there, of none of these formats, malformed, or where there is no
// token in all of it. REQUIRES: 1 <= vocabulary_size <= 2^31, the model's.
std::unique_ptr<TokenSource> open_tokens(const std::vector<std::string>& data, std::int64_t vocabulary_size);

}  // namespace msmoe::executor
