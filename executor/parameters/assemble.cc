#include "executor/parameters/assemble.h"

#include <algorithm>

#include "executor/checkpoint/hf_names.h"

namespace msmoe::executor {
namespace {

constexpr std::int64_t kBlockElements = std::int64_t{1} << 22;  // held in memory at once, or one row

class Assembler {
 public:
  Assembler(const StateFiles& states, const Model& model, const ModelFormat& format)
      : states_(states), model_(model), format_(format) {}

  void write(const std::string& name, const Parameter& whole, TensorType type, const TensorSink& sink) const {
    const Box box = whole_box(whole);
    const std::int64_t block_rows = std::max<std::int64_t>(1, kBlockElements / box.columns());
    for (std::int64_t row = 0; row < box.rows(); row += block_rows) {
      const std::int64_t count = std::min(block_rows, box.rows() - row);
      std::vector<float> values(static_cast<std::size_t>(count * box.columns()));
      if (whole.shape.size() > 1)
        read_rows(name, whole, row, count, values);
      else
        read_vector(name, whole, values);
      sink(from_floats(type, values));
    }
  }

 private:
  void read_rows(const std::string& name, const Parameter& whole, std::int64_t first, std::int64_t count,
                 std::span<float> values) const {
    const std::int64_t columns = whole_box(whole).columns();
    for (std::int64_t row = 0; row < count; ++row) {
      const std::int64_t ours = row_from_file(format_.order, model_, whole, first + row);
      states_.read(StateKind::kMaster, name, whole, {ours, ours + 1, 0, columns}, 0, columns,
                   values.subspan(static_cast<std::size_t>(row * columns), static_cast<std::size_t>(columns)));
    }
  }
  void read_vector(const std::string& name, const Parameter& whole, std::span<float> values) const {
    std::vector<float> ours(values.size());
    const Box box = whole_box(whole);
    states_.read(StateKind::kMaster, name, whole, box, 0, box.size(), ours);
    for (std::size_t idx = 0; idx < values.size(); ++idx)
      values[idx] =
          ours[static_cast<std::size_t>(row_from_file(format_.order, model_, whole, static_cast<std::int64_t>(idx)))];
  }

  const StateFiles& states_;
  const Model& model_;
  const ModelFormat& format_;
};

}  // namespace

std::vector<FileRecord> assemble_model(const StateFiles& states, const Model& model, const std::string& folder,
                                       const ModelFormat& format) {
  const HfNames names(model);
  std::vector<TensorInfo> tensors;
  for (std::size_t idx = 0; idx < names.parameters().size(); ++idx) {
    const Parameter& parameter = names.parameters()[idx];
    const TensorType type = parameter.part == Part::kRouterBias ? TensorType::kF32 : format.type;
    tensors.push_back({names.name(idx), type, parameter.shape});
  }
  const Assembler assembler(states, model, format);
  return write_model(folder, tensors, format.largest_bytes, [&](const TensorInfo& tensor, const TensorSink& sink) {
    assembler.write(tensor.name, *names.find(tensor.name), tensor.type, sink);
  });
}

}  // namespace msmoe::executor
