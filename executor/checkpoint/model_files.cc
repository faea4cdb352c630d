#include "executor/checkpoint/model_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/error.h"
#include "core/json_reader.h"

namespace msmoe::executor {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

std::string place_of(const std::string& tensor) { return "tensor " + excerpt(tensor, 120); }

}  // namespace

ModelReader::ModelReader(const std::string& path) : path_(path) {
  std::error_code ignored;
  std::string single = path;
  if (fs::is_directory(path, ignored)) {
    const std::string index = fs::path(path) / kIndexFile;
    single = fs::path(path) / kSingleFile;
    if (!fs::exists(single, ignored)) {
      if (!fs::exists(index, ignored))
        throw UserError(path, "", "holds no weights", fmt::format("{} or {} is expected", kSingleFile, kIndexFile));
      read_index(path, index);
      return;
    }
  }
  shards_.emplace_back(single);
  for (const TensorInfo& tensor : shards_.back().tensors()) places_[tensor.name] = {0, &tensor};
}

void ModelReader::read_index(const std::string& folder, const std::string& index) {
  const JsonDocument document = read_json_file(index);
  const Json* const map = document.root().find("weight_map");
  if (map == nullptr || !map->is_object())
    throw UserError(index, "weight_map", "missing or no object", "{\"TENSOR\": \"SHARD\", ...} is required");

  std::map<std::string, std::vector<std::string>> tensors_of;  // by shard
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string() || !is_plain_name(shard.get_ref<const std::string&>()))
      throw UserError(index, place_of(tensor),
                      "its shard is " + excerpt(shard.dump(-1, ' ', true, Json::error_handler_t::replace)),
                      "the name of a file beside the index is allowed");
    tensors_of[shard.get<std::string>()].push_back(tensor);
  }
  shards_.reserve(tensors_of.size());  // places_ points into the shards
  for (const auto& [shard, tensors] : tensors_of) {
    const SafetensorsReader& reader = shards_.emplace_back(fs::path(folder) / shard);
    for (const std::string& tensor : tensors) {
      const TensorInfo* const found = reader.find(tensor);
      if (found == nullptr)
        throw UserError(index, place_of(tensor), fmt::format("is not in {}, where the index has it", excerpt(shard)),
                        "index and shards must belong together");
      places_[tensor] = {shards_.size() - 1, found};
    }
  }
}

std::vector<std::string> ModelReader::names() const {
  std::vector<std::string> names;
  for (const auto& [name, place] : places_) names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

const TensorInfo* ModelReader::find(const std::string& name) const {
  const auto at = places_.find(name);
  return at == places_.end() ? nullptr : at->second.tensor;
}

const std::string& ModelReader::file_of(const std::string& name) const {
  return shards_[places_.at(name).shard_idx].path();
}

std::span<const std::byte> ModelReader::data(const std::string& name, const std::vector<std::int64_t>& shape) const {
  const TensorInfo* const tensor = find(name);
  if (tensor == nullptr)
    throw UserError(path_, place_of(name), "missing", "the model has it with shape " + shape_text(shape));
  if (tensor->shape != shape)
    throw UserError(file_of(name), place_of(name), "has shape " + shape_text(tensor->shape),
                    "the model has " + shape_text(shape));
  return shards_[places_.at(name).shard_idx].data(*tensor);
}

std::vector<Shard> split_into_shards(const std::vector<TensorInfo>& tensors, std::int64_t largest_bytes) {
  assert(largest_bytes > 0);
  std::vector<Shard> shards(1);
  std::int64_t room = largest_bytes;
  for (const TensorInfo& tensor : tensors) {
    if (tensor.bytes() > room && !shards.back().tensors.empty()) {
      shards.emplace_back();
      room = largest_bytes;
    }
    shards.back().tensors.push_back(tensor);
    room -= std::min(room, tensor.bytes());
  }
  if (shards.size() == 1)
    shards[0].file = kSingleFile;
  else
    for (std::size_t shard_idx = 0; shard_idx < shards.size(); ++shard_idx)
      shards[shard_idx].file = fmt::format("model-{:05}-of-{:05}.safetensors", shard_idx + 1, shards.size());
  return shards;
}

FileRecord write_index(const std::string& folder, const std::vector<Shard>& shards) {
  assert(shards.size() > 1);
  std::int64_t total = 0;
  std::map<std::string, std::string> weight_map;
  for (const Shard& shard : shards)
    for (const TensorInfo& tensor : shard.tensors) {
      total += tensor.bytes();
      weight_map[tensor.name] = shard.file;
    }
  Json index = {{"metadata", {{"total_size", total}}}};
  index["weight_map"] = weight_map;
  return write_file(fs::path(folder) / kIndexFile, index.dump(2) + "\n");
}

std::vector<FileRecord> write_model(const std::string& folder, const std::vector<TensorInfo>& tensors,
                                    std::int64_t largest_bytes, const TensorSource& source) {
  const std::vector<Shard> shards = split_into_shards(tensors, largest_bytes);
  std::vector<FileRecord> records;
  for (const Shard& shard : shards)
    records.push_back(write_safetensors(fs::path(folder) / shard.file, shard.tensors, kHuggingFaceMetadata, source));
  if (shards.size() > 1) records.push_back(write_index(folder, shards));
  return records;
}

}  // namespace msmoe::executor
