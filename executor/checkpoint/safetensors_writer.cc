#include "executor/checkpoint/safetensors_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string_view>
#include <tuple>
#include <utility>

#include "core/json_reader.h"

namespace msmoe::executor {
namespace {

// The length of the header, and the header filled up to a multiple of 8 bytes.
std::string header_of(const std::vector<TensorInfo>& laid_out, const Metadata& metadata) {
  Json::object_t entries;
  entries.reserve(laid_out.size() + 1);
  if (!metadata.empty()) entries.emplace_back("__metadata__", metadata);
  for (const TensorInfo& tensor : laid_out) {
    Json entry = {{"dtype", name_of(tensor.type)}};
    entry["shape"] = tensor.shape;
    entry["data_offsets"] = std::vector{tensor.begin, tensor.begin + tensor.bytes()};
    entries.emplace_back(tensor.name, std::move(entry));  // names are distinct: no need to search, as operator[] would
  }
  std::string text = Json(std::move(entries)).dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = text.size();
  std::string header(sizeof length, '\0');
  std::memcpy(header.data(), &length, sizeof length);
  return header + text;
}

}  // namespace

std::vector<TensorInfo> lay_out(std::vector<TensorInfo> tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::tie(a.type, a.name) < std::tie(b.type, b.name);
  });
  std::int64_t end = 0;
  for (TensorInfo& tensor : tensors) {
    const std::optional<std::int64_t> bytes = count_bytes(tensor.type, tensor.shape);
    if (!bytes || tensor.name.empty() || tensor.name == "__metadata__")
      throw std::logic_error(fmt::format("\"{}\" {} is no tensor", tensor.name, shape_text(tensor.shape)));
    tensor.begin = end;
    if (__builtin_add_overflow(end, *bytes, &end)) throw std::logic_error(tensor.name + " ends beyond any file");
  }
  std::vector<std::string_view> names;
  for (const TensorInfo& tensor : tensors) names.emplace_back(tensor.name);
  std::sort(names.begin(), names.end());
  const auto twin = std::adjacent_find(names.begin(), names.end());
  if (twin != names.end()) throw std::logic_error(fmt::format("two tensors are called {}", *twin));
  return tensors;
}

FileRecord write_safetensors(const std::string& path, const std::vector<TensorInfo>& tensors, const Metadata& metadata,
                             const TensorSource& source) {
  const std::vector<TensorInfo> laid_out = lay_out(tensors);
  const std::string header = header_of(laid_out, metadata);
  FileWriter file(path);
  file.append(std::as_bytes(std::span(header)));
  for (const TensorInfo& tensor : laid_out) {
    std::int64_t missing = tensor.bytes();
    source(tensor, [&](std::span<const std::byte> bytes) {
      missing -= static_cast<std::int64_t>(bytes.size());
      if (missing >= 0) file.append(bytes);
    });
    if (missing != 0)
      throw std::logic_error(
          fmt::format("{} of {} bytes was given {}", tensor.name, tensor.bytes(), tensor.bytes() - missing));
  }
  return file.finish();
}

}  // namespace msmoe::executor
