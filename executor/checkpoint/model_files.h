// The weights of a model in a folder, as Hugging Face lays them out: model.safetensors, or, where that would be too
// large, shards "model-00001-of-00003.safetensors" and an index "model.safetensors.index.json":
//
//   {"metadata": {"total_size": bytes of all tensors}, "weight_map": {"NAME": "SHARD", ...}}
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "executor/checkpoint/safetensors_reader.h"
#include "executor/checkpoint/safetensors_writer.h"

namespace msmoe::executor {

// ---- Reading

class ModelReader {
 public:
  // A folder, or one .safetensors file. All headers are read and verified here; tensors only when they are touched.
  // Beside what SafetensorsReader refuses, a UserError tells of an index without its shards, of a shard outside the
  // folder, and of a tensor that is not where the index says. What an index does not list is not part of the model.
  explicit ModelReader(const std::string& path);

  std::vector<std::string> names() const;                 // sorted
  const TensorInfo* find(const std::string& name) const;  // nullptr: not there
  // Its bytes; a UserError where it is missing or has another shape than this.
  std::span<const std::byte> data(const std::string& name, const std::vector<std::int64_t>& shape) const;
  // The file that a tensor is in, for messages. REQUIRES find(name).
  const std::string& file_of(const std::string& name) const;

 private:
  struct Place {
    std::size_t shard_idx;
    const TensorInfo* tensor;
  };
  void read_index(const std::string& folder, const std::string& index);

  std::string path_;
  std::vector<SafetensorsReader> shards_;
  std::unordered_map<std::string, Place> places_;
};

// ---- Writing

struct Shard {
  std::string file;  // its name inside the folder
  std::vector<TensorInfo> tensors;
};

// Fills shards in the order given, none with more data than this, unless one tensor alone is larger. Every rank that
// asks gets the same answer, so that each can write its own shards. REQUIRES largest_bytes > 0.
std::vector<Shard> split_into_shards(const std::vector<TensorInfo>& tensors, std::int64_t largest_bytes);

// The index of these shards; REQUIRES more than one, for a single file has none.
FileRecord write_index(const std::string& folder, const std::vector<Shard>& shards);

// All of it from one process: every shard, and the index where there are several. What was written, in that order.
// REQUIRES a folder without weights of earlier times.
std::vector<FileRecord> write_model(const std::string& folder, const std::vector<TensorInfo>& tensors,
                                    std::int64_t largest_bytes, const TensorSource& source);

}  // namespace msmoe::executor
