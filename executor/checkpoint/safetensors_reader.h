// Reads a file of tensors as Hugging Face publishes them (github.com/huggingface/safetensors, "Format"):
//
//   8 bytes   N, little-endian
//   N bytes   JSON: {"__metadata__": {"key": "text"}, "NAME": {"dtype": "F32", "shape": [2, 3],
//             "data_offsets": [begin, end]}, ...}, perhaps with spaces behind it
//   the rest  the tensors' bytes; offsets count from here, and leave no gap and no overlap
//
// All of that is verified before a byte of data is handed out. Refused with one line (UserError) that names file,
// tensor and what is allowed: a header longer than the file, or than 100 MB; what is not such JSON, names that appear
// twice included; other dtypes than those of TensorType; offsets that leave the file or disagree with shape or
// neighbours.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "executor/checkpoint/tensor_info.h"
#include "executor/mapped_file.h"

namespace msmoe::executor {

constexpr std::int64_t kLongestHeader = 100'000'000;  // bytes; the limit of the published reader

class SafetensorsReader {
 public:
  explicit SafetensorsReader(const std::string& path);

  const std::string& path() const { return file_->path(); }
  const std::vector<TensorInfo>& tensors() const { return tensors_; }  // in the order of their bytes
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  const TensorInfo* find(const std::string& name) const;  // nullptr: not there
  // The bytes of one of tensors(). They start wherever the file has them, not where their type would be aligned; they
  // are good as long as this reader lives, and to be used at once where the file may be cut short meanwhile.
  std::span<const std::byte> data(const TensorInfo& tensor) const;

 private:
  void read_header(std::string_view text, std::int64_t data_bytes);

  std::unique_ptr<const MappedFile> file_;
  std::int64_t data_begin_ = 0;  // in the file
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string, std::size_t> by_name_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace msmoe::executor
