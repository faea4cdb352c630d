// Optimizer states on disk, in pieces that any other plan can put together again. Every rank writes one file,
// "optimizer-RANK.safetensors", of one-dimensional F32 tensors whose names say what they are:
//
//   "exp_avg model.layers.3.mlp.experts.7.up_proj.weight 1408x2048 704:1408 0:2048 0:360448"
//
//   kind: master, exp_avg, exp_avg_sq (AdamW's first and second moments)      Hugging Face's name      rows x columns
//   of the whole      rows and columns of a box of it      elements of the box, in row-major order, that the tensor
//   holds
//
// Vectors of n are matrices 1 x n. All files together hold every element of the model once. Rotary rows are in our
// order (rotary_order.h).
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/model.h"
#include "executor/checkpoint/safetensors_reader.h"
#include "executor/checkpoint/safetensors_writer.h"
#include "executor/parameters/box.h"
#include "executor/parameters/parameter_store.h"

namespace msmoe::executor {

// What a rank has to save, copied to host memory: training goes on while it is written.
class StateSnapshot {
 public:
  StateSnapshot(const ParameterStore& store, const Model& model);

  // The file of this rank; errors as write_safetensors.
  FileRecord write(const std::string& folder, int rank) const;

 private:
  std::vector<TensorInfo> tensors_;
  std::map<std::string, std::vector<float>> values_;  // by tensor
};

class StateFiles {
 public:
  // All such files of a folder. A UserError where there is none, or one holds something else.
  explicit StateFiles(const std::string& folder);

  // Elements [begin, end) of a box of a parameter, whichever pieces they are in; a UserError where one is in none, or
  // where the files are of a parameter of another shape.
  void read(StateKind kind, const std::string& name, const Parameter& whole, const Box& box, std::int64_t begin,
            std::int64_t end, std::span<float> values) const;

 private:
  struct Piece {
    const SafetensorsReader* file;
    const TensorInfo* tensor;
    Box whole, box;
    std::int64_t begin, end;
  };
  void add(const SafetensorsReader& file, const TensorInfo& tensor);

  std::string folder_;
  std::deque<SafetensorsReader> files_;
  std::map<std::string, std::vector<Piece>> pieces_;  // by "KIND NAME"
};

// Masters, moments, router biases, and weights after them. Collective as ParameterStore::publish_masters() is; errors
// as StateFiles::read.
void restore_state(ParameterStore& store, const Model& model, const StateFiles& files);

}  // namespace msmoe::executor
