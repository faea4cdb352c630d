// Writes a file of tensors in the format that safetensors_reader.h describes, byte for byte as the published Python
// package does: tensors by falling alignment, then by name; the header filled up with spaces, so that data starts at a
// multiple of 8 and every element is aligned.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "executor/checkpoint/disk.h"
#include "executor/checkpoint/tensor_info.h"

namespace msmoe::executor {

// Takes the next bytes of a tensor.
using TensorSink = std::function<void(std::span<const std::byte>)>;
// Gives all bytes of this tensor to the sink, in as many pieces as it likes. Called once a tensor, in the file's order,
// so that what lies on a device needs memory for one piece only.
using TensorSource = std::function<void(const TensorInfo& tensor, const TensorSink& sink)>;

using Metadata = std::map<std::string, std::string>;
// transformers refuses files that do not say this.
inline const Metadata kHuggingFaceMetadata = {{"format", "pt"}};

// The tensors in the order of the file, their `begin` set. A name that appears twice, is empty or is "__metadata__", or
// a size that cannot be counted, is a std::logic_error.
std::vector<TensorInfo> lay_out(std::vector<TensorInfo> tensors);

// On the disk when it returns. A full disk is a std::runtime_error that names the file, and leaves none; a source that
// gives more or fewer bytes than the tensor has is a std::logic_error.
FileRecord write_safetensors(const std::string& path, const std::vector<TensorInfo>& tensors, const Metadata& metadata,
                             const TensorSource& source);

}  // namespace msmoe::executor
