// How ranks tell rank 0 that their part of a checkpoint is on the disk: through the folder that all of them write to.
//
//   part-RANK.json      a manifest (executor/checkpoint/manifest.h) of the files that this rank has written
//   part-RANK.failed    empty: it could not
//
// Both are gone before the checkpoint is committed.
#pragma once

#include <chrono>
#include <stop_token>
#include <string>
#include <vector>

#include "executor/checkpoint/manifest.h"

namespace msmoe::executor {

// A std::runtime_error where the disk refuses.
void tell_written(const std::string& folder, int rank, const Manifest& part);
// As far as the disk still lets us.
void tell_failed(const std::string& folder, int rank) noexcept;

// The files of all ranks' parts, once all have told; takes away what tells of them. A std::runtime_error names the
// ranks that could not write theirs, or did not tell in time; where it is the former, all have told, and none writes
// any more.
std::vector<FileRecord> take_parts(const std::string& folder, int num_ranks, std::int64_t step,
                                   std::chrono::milliseconds patience, const std::stop_token& stop);

}  // namespace msmoe::executor
