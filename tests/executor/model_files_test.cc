#include "executor/checkpoint/model_files.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/core/mutations.h"
#include "tests/executor/scratch_folder.h"

namespace msmoe::executor {
namespace {

// Ten tensors of 40 bytes each, tensor "tK" full of the byte K.
std::vector<TensorInfo> ten_tensors() {
  std::vector<TensorInfo> tensors;
  for (int idx = 0; idx < 10; ++idx) tensors.push_back({"t" + std::to_string(idx), TensorType::kF32, {2, 5}});
  return tensors;
}

void fill(const TensorInfo& tensor, const TensorSink& sink) {
  const std::vector<std::byte> bytes(static_cast<std::size_t>(tensor.bytes()),
                                     static_cast<std::byte>(tensor.name.back() - '0'));
  sink(bytes);
}

void expect_complete(const ModelReader& reader) {
  EXPECT_EQ(reader.names().size(), 10u);
  for (int idx = 0; idx < 10; ++idx) {
    const auto data = reader.data("t" + std::to_string(idx), {2, 5});
    EXPECT_EQ(data.size(), 40u);
    for (const std::byte byte : data) EXPECT_EQ(std::to_integer<int>(byte), idx);
  }
}

std::string complaint_about(const std::string& path) {
  try {
    const ModelReader reader(path);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(ModelFiles, OneFileWhereItFits) {
  const ScratchFolder folder;
  const auto records = write_model(folder.path(), ten_tensors(), 400, fill);
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].name, "model.safetensors");
  expect_complete(ModelReader(folder.path()));
  expect_complete(ModelReader(folder / "model.safetensors"));
}

// Three tensors of 40 bytes fit into 130; ten make four shards.
TEST(ModelFiles, ShardsWhereItDoesNot) {
  const ScratchFolder folder;
  const auto records = write_model(folder.path(), ten_tensors(), 130, fill);
  ASSERT_EQ(records.size(), 5u);
  EXPECT_EQ(records[0].name, "model-00001-of-00004.safetensors");
  EXPECT_EQ(records[3].name, "model-00004-of-00004.safetensors");
  EXPECT_EQ(records[4].name, "model.safetensors.index.json");
  const ModelReader reader(folder.path());
  expect_complete(reader);
  EXPECT_EQ(reader.file_of("t3"), folder / "model-00002-of-00004.safetensors");
  EXPECT_NE(read_bytes(folder / "model.safetensors.index.json").find("\"total_size\": 400"), std::string::npos);
}

TEST(ModelFiles, ATensorLargerThanAShardHasItsOwn) {
  const std::vector<TensorInfo> tensors = {{"a", TensorType::kU8, {1}},
                                           {"b", TensorType::kU8, {9}},
                                           {"c", TensorType::kU8, {1}},
                                           {"d", TensorType::kU8, {1}}};
  const std::vector<Shard> shards = split_into_shards(tensors, 3);
  ASSERT_EQ(shards.size(), 3u);
  EXPECT_EQ(shards[1].tensors.size(), 1u);
  EXPECT_EQ(shards[1].tensors[0].name, "b");
  EXPECT_EQ(shards[2].tensors.size(), 2u);
}

TEST(ModelFiles, MissingTensorsAndOtherShapesAreNamed) {
  const ScratchFolder folder;
  write_model(folder.path(), ten_tensors(), 130, fill);
  const ModelReader reader(folder.path());
  const auto complaint = [&](const std::string& name, const std::vector<std::int64_t>& shape) {
    try {
      reader.data(name, shape);
    } catch (const UserError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(complaint("x", {3}), folder.path() + ": tensor x: missing; the model has it with shape [3]");
  EXPECT_EQ(complaint("t0", {5, 2}),
            folder / "model-00001-of-00004.safetensors" + ": tensor t0: has shape [2, 5]; the model has [5, 2]");
}

TEST(ModelFiles, AnIndexThatDoesNotFitItsShardsIsRefused) {
  const ScratchFolder folder;
  const std::string index = folder / "model.safetensors.index.json";
  EXPECT_EQ(complaint_about(folder.path()), folder.path() +
                                                ": holds no weights; model.safetensors or "
                                                "model.safetensors.index.json is expected");
  write_model(folder.path(), ten_tensors(), 130, fill);
  const auto about = [&](const std::string& text) {
    write_bytes(index, text);
    const std::string complaint = complaint_about(folder.path());
    return complaint.substr(std::min(complaint.size(), folder.path().size() + 1));
  };
  EXPECT_EQ(about("{}"),
            "model.safetensors.index.json: weight_map: missing or no object; "
            "{\"TENSOR\": \"SHARD\", ...} is required");
  EXPECT_EQ(about(R"({"weight_map": {"t0": "../elsewhere"}})"),
            "model.safetensors.index.json: tensor t0: its shard is \"../elsewhere\"; the name of a file beside the "
            "index is allowed");
  EXPECT_EQ(about(R"({"weight_map": {"t0": "gone"}})"), "gone: cannot be read: No such file or directory");
  EXPECT_EQ(about(R"({"weight_map": {"t9": "model-00001-of-00004.safetensors"}})"),
            "model.safetensors.index.json: tensor t9: is not in model-00001-of-00004.safetensors, where the index has "
            "it; index and shards must belong together");
  EXPECT_EQ(about(R"({"weight_map": {"t0": "model-00001-of-00004.safetensors"}})"), "");
}

TEST(ModelFiles, DamagedIndexesAreReadOrRefused) {
  const ScratchFolder folder;
  const std::string index = folder / "model.safetensors.index.json";
  write_model(folder.path(), ten_tensors(), 130, fill);
  const Survival survival = expect_survives(read_bytes(index), [&](const std::string& text) {
    write_bytes(index, text);
    const ModelReader reader(folder.path());
    for (const std::string& name : reader.names()) EXPECT_EQ(reader.data(name, {2, 5}).size(), 40u);
  });
  EXPECT_GT(survival.refused, 1000);
}

}  // namespace
}  // namespace msmoe::executor
