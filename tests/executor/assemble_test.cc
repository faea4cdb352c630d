#include "executor/parameters/assemble.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "executor/checkpoint/hf_names.h"
#include "executor/parameters/initialize.h"
#include "tests/executor/parameter_job.h"
#include "tests/executor/scratch_folder.h"

namespace msmoe::executor {
namespace {

constexpr std::int64_t kLargest = 1000;

// Router biases in fp32, all else in `type`, and no two elements alike.
std::vector<FileRecord> write_files(const Model& model, const std::string& folder, TensorType type) {
  const HfNames names(model);
  std::vector<TensorInfo> tensors;
  for (std::size_t idx = 0; idx < names.parameters().size(); ++idx) {
    const Parameter& parameter = names.parameters()[idx];
    tensors.push_back(
        {names.name(idx), parameter.part == Part::kRouterBias ? TensorType::kF32 : type, parameter.shape});
  }
  return write_model(folder, tensors, kLargest, [&](const TensorInfo& tensor, const TensorSink& sink) {
    std::vector<float> values(static_cast<std::size_t>(tensor.bytes() / bytes_of(tensor.type)));
    for (std::size_t idx = 0; idx < values.size(); ++idx)
      values[idx] = some_value(hash_of(tensor.name), {}, static_cast<std::int64_t>(idx));
    sink(from_floats(tensor.type, values));
  });
}

// What was read under a plan, and saved by its ranks, is written again as it was, to the byte.
TEST(Assemble, FilesComeBackAsTheyWere) {
  for (const TensorType type : {TensorType::kF32, TensorType::kBf16})
    for (const RotaryOrder order : {RotaryOrder::kHalves, RotaryOrder::kInterleaved})
      for (const auto& each : plans_of_every_kind()) {
        const ScratchFolder before, states, after;
        const std::vector<FileRecord> records = write_files(each.model, before.path(), type);
        EXPECT_GT(records.size(), 1u) << each.name;
        const ModelReader files(before.path());
        run_job(each.model, each.plan, [&](int rank, ParameterStore& store, auto) {
          load_weights(store, each.model, files, order);
          StateSnapshot(store, each.model).write(states.path(), rank);
        });
        const ModelFormat format{.type = type, .order = order, .largest_bytes = kLargest};
        EXPECT_EQ(assemble_model(StateFiles(states.path()), each.model, after.path(), format), records) << each.name;
        for (const FileRecord& record : records)
          EXPECT_EQ(read_bytes(after / record.name), read_bytes(before / record.name)) << each.name;
      }
}

}  // namespace
}  // namespace msmoe::executor
