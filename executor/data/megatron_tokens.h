// Megatron-LM's indexed data sets (megatron/core/datasets/indexed_dataset.py): the tokens in PREFIX.bin, and what they
// mean in PREFIX.idx, all little-endian:
//
//   char  magic[9]                    "MMIDIDX\0\0"
//   u64   version                     1
//   u8    number of the type          1 uint8, 2 int8, 3 int16, 4 int32, 5 int64, 8 uint16 (6 and 7 are no integers)
//   u64   sequences, u64 entries
//   int32 sizes[sequences]            in tokens
//   int64 pointers[sequences]         in bytes of PREFIX.bin: each begins where the one before it ends
//   int64 documents[entries]          the sequence each document begins with, then the number of sequences
//
// The whole index is checked when it is opened. It stays in its file: nothing here grows with the data.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "executor/data/token_source.h"

namespace msmoe::executor {

// REQUIRES: prefix is without .bin and .idx. A UserError where either file is missing, or anything in the index is not
// as above or does not fit the length of PREFIX.bin.
std::unique_ptr<TokenSource> open_megatron(const std::string& prefix, std::int64_t vocabulary_size);

}  // namespace msmoe::executor
