// manifest.json: what a checkpoint is made of, so that a damaged one is told from a good one.
//
//   {"format": "msmoe checkpoint", "version": 1, "step": 1000,
//    "files": [{"name": "model.safetensors", "bytes": 1234, "crc32c": "e3069283"}, ...]}
//
// The checksum is CRC-32C (crc32c.h) in hexadecimal. It is written last, so a folder without it is no checkpoint.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "executor/checkpoint/disk.h"

namespace msmoe::executor {

inline constexpr const char* kManifestFile = "manifest.json";

struct Manifest {
  std::int64_t step = 0;
  std::vector<FileRecord> files;
  bool operator==(const Manifest&) const = default;
};

std::string to_json(const Manifest& manifest);
// The manifest in this folder. A UserError where it is missing, or is none.
Manifest read_manifest(const std::string& folder, const std::string& name = kManifestFile);
// Compares every file with the manifest, sizes first, for they cost nothing. A UserError names the first that differs.
void verify_files(const std::string& folder, const Manifest& manifest);

}  // namespace msmoe::executor
