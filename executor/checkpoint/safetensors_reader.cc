#include "executor/checkpoint/safetensors_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <tuple>
#include <utility>

#include "core/error.h"
#include "core/json_reader.h"

namespace msmoe::executor {
namespace {

constexpr const char* kMetadata = "__metadata__";

// One tensor's entry in the header, while it is read: knows how to complain.
class Entry {
 public:
  Entry(const std::string& file, const std::string& name, const Json& value) : file_(file), name_(name), value_(value) {
    if (!value_.is_object()) fail("is no object", "{\"dtype\": ..., \"shape\": [...], \"data_offsets\": [b, e]} is");
    for (const auto& [key, member] : value_.items())
      if (key != "dtype" && key != "shape" && key != "data_offsets")
        fail(fmt::format("has a key \"{}\"", excerpt(key)), "dtype, shape and data_offsets are allowed");
  }

  [[noreturn]] void fail(const std::string& message, const std::string& hint = {}) const {
    throw UserError(file_, "tensor " + excerpt(name_, 120), message, hint);
  }

  TensorType type() const {
    const Json& dtype = member("dtype");
    const auto type = dtype.is_string() ? find_tensor_type(dtype.get_ref<const std::string&>()) : std::nullopt;
    if (!type) fail("dtype is " + shown(dtype), tensor_type_names() + " are allowed");
    return *type;
  }

  // Whole numbers that fit in 63 bits, none below zero.
  std::vector<std::int64_t> integers(const char* key) const {
    const Json& list = member(key);
    std::vector<std::int64_t> values;
    bool good = list.is_array();
    for (std::size_t idx = 0; good && idx < list.size(); ++idx) {
      good = list[idx].is_number_unsigned() && list[idx].get<std::uint64_t>() <= INT64_MAX;
      if (good) values.push_back(list[idx].get<std::int64_t>());
    }
    if (!good) fail(fmt::format("{} is {}", key, shown(list)), "a list of whole numbers from 0 up is allowed");
    return values;
  }

 private:
  const Json& member(const char* key) const {
    const auto at = value_.find(key);
    if (at == value_.end()) fail(fmt::format("has no {}", key), "dtype, shape and data_offsets are required");
    return *at;
  }
  static std::string shown(const Json& value) {
    return excerpt(value.dump(-1, ' ', true, Json::error_handler_t::replace));
  }

  const std::string& file_;
  const std::string& name_;
  const Json& value_;
};

TensorInfo read_tensor(const Entry& entry, const std::string& name, std::int64_t data_bytes) {
  TensorInfo tensor{.name = name, .type = entry.type(), .shape = entry.integers("shape")};
  const std::vector<std::int64_t> offsets = entry.integers("data_offsets");
  if (offsets.size() != 2) entry.fail(fmt::format("has {} data_offsets", offsets.size()), "two are: begin and end");
  const std::int64_t begin = offsets[0], end = offsets[1];
  if (begin > end || end > data_bytes)
    entry.fail(fmt::format("lies at bytes {} to {} of the data", begin, end),
               fmt::format("the file has data from 0 to {}", data_bytes));
  const std::optional<std::int64_t> bytes = count_bytes(tensor.type, tensor.shape);
  if (!bytes) entry.fail("shape " + shape_text(tensor.shape) + " is beyond any file", "at most 2^63 bytes are allowed");
  if (*bytes != end - begin)
    entry.fail(fmt::format("has {} bytes of data", end - begin),
               fmt::format("shape {} of {} takes {}", shape_text(tensor.shape), name_of(tensor.type), *bytes));
  tensor.begin = begin;
  return tensor;
}

std::map<std::string, std::string> read_metadata(const std::string& file, const Json& value) {
  std::map<std::string, std::string> metadata;
  if (!value.is_object()) throw UserError(file, kMetadata, "is no object", "an object of texts is allowed");
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) throw UserError(file, kMetadata, excerpt(key) + " is no text", "only texts are allowed");
    metadata[key] = text.get<std::string>();
  }
  return metadata;
}

}  // namespace

SafetensorsReader::SafetensorsReader(const std::string& path) : file_(std::make_unique<const MappedFile>(path)) {
  const std::span<const std::byte> bytes = file_->bytes(0, file_->size());
  std::uint64_t header = 0;
  if (bytes.size() < sizeof header)
    throw UserError(path, "", fmt::format("is {} bytes long", bytes.size()), "a safetensors file has 8 or more");
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header > static_cast<std::uint64_t>(kLongestHeader))
    throw UserError(path, "", fmt::format("says that its header has {} bytes", header),
                    fmt::format("a safetensors file has at most {}", kLongestHeader));
  const std::span<const std::byte> rest = bytes.subspan(sizeof header);
  if (header > rest.size())
    throw UserError(path, "", fmt::format("says that its header has {} bytes, but {} follow", header, rest.size()),
                    "is the file cut short?");
  const std::string_view text(reinterpret_cast<const char*>(rest.data()), header);
  if (!text.starts_with('{')) throw UserError(path, "", "has no header", "the ninth byte of a safetensors file is {");
  data_begin_ = static_cast<std::int64_t>(sizeof header + header);
  read_header(text, file_->size() - data_begin_);
}

void SafetensorsReader::read_header(std::string_view text, std::int64_t data_bytes) {
  const JsonDocument header(path(), text);
  for (const auto& [name, value] : header.value().items()) {
    if (name == kMetadata)
      metadata_ = read_metadata(path(), value);
    else
      tensors_.push_back(read_tensor(Entry(path(), name, value), name, data_bytes));
  }

  const auto place = [](const TensorInfo& tensor) { return std::tuple(tensor.begin, tensor.begin + tensor.bytes()); };
  std::stable_sort(tensors_.begin(), tensors_.end(),
                   [&](const TensorInfo& a, const TensorInfo& b) { return place(a) < place(b); });
  std::int64_t end = 0;
  for (std::size_t tensor_idx = 0; tensor_idx < tensors_.size(); ++tensor_idx) {
    const TensorInfo& tensor = tensors_[tensor_idx];
    if (tensor.begin != end)
      throw UserError(path(), "tensor " + excerpt(tensor.name, 120),
                      fmt::format("starts at byte {} of the data", tensor.begin),
                      fmt::format("{} ends at {}: no gap and no overlap is allowed",
                                  tensor_idx == 0 ? "the header" : excerpt(tensors_[tensor_idx - 1].name, 120), end));
    end += tensor.bytes();
    by_name_[tensor.name] = tensor_idx;
  }
  if (end != data_bytes)
    throw UserError(path(), "", fmt::format("has {} bytes of data", data_bytes),
                    fmt::format("its tensors take {}: is the file cut short, or longer than it was?", end));
}

const TensorInfo* SafetensorsReader::find(const std::string& name) const {
  const auto at = by_name_.find(name);
  return at == by_name_.end() ? nullptr : &tensors_[at->second];
}

std::span<const std::byte> SafetensorsReader::data(const TensorInfo& tensor) const {
  assert(find(tensor.name) != nullptr && *find(tensor.name) == tensor);
  return file_->bytes(data_begin_ + tensor.begin, tensor.bytes());
}

}  // namespace msmoe::executor
