// tests/data/safetensors/from_python.safetensors was written by version 0.8.0 of the Python package `safetensors`, from
// the tensors below.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <stdexcept>

#include "core/error.h"
#include "executor/checkpoint/safetensors_reader.h"
#include "executor/checkpoint/safetensors_writer.h"
#include "tests/core/mutations.h"
#include "tests/executor/scratch_folder.h"

namespace msmoe::executor {
namespace {

const std::string kFromPython = std::string(MSMOE_SOURCE_DIR) + "/tests/data/safetensors/from_python.safetensors";

struct Sample {
  TensorInfo info;
  std::string bytes;
};

template <class Element>
std::string bytes_of_values(const std::vector<Element>& values) {
  std::string bytes(values.size() * sizeof(Element), '\0');
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

std::vector<Sample> samples() {
  using Half = std::vector<std::uint16_t>;
  return {
      {{"weights", TensorType::kF32, {2, 3}}, bytes_of_values<float>({0, -1.5F, 2, 3, 4.25F, 1e30F})},
      {{"half", TensorType::kBf16, {2, 2}}, bytes_of_values(Half{0x3f80, 0xbf80, 0x4049, 0x7f80})},
      {{"sixteen", TensorType::kF16, {3}}, bytes_of_values(Half{0x3c00, 0xc000, 0x0001})},
      {{"eight", TensorType::kF8E4m3, {5}}, std::string("\x38\xb8\x7e\x01\x00", 5)},
      {{"step", TensorType::kI64, {}}, bytes_of_values<std::int64_t>({-7})},
      {{"ids", TensorType::kI32, {2, 1}}, bytes_of_values<std::int32_t>({5, -6})},
      {{"bytes", TensorType::kU8, {3}}, "\x01\x02\xff"},
      {{"none", TensorType::kF32, {0, 4}}, ""},
  };
}

FileRecord write_samples(const std::string& path, const std::vector<Sample>& from, const Metadata& metadata) {
  std::vector<TensorInfo> infos;
  for (const Sample& sample : from) infos.push_back(sample.info);
  return write_safetensors(path, infos, metadata, [&](const TensorInfo& tensor, const TensorSink& sink) {
    for (const Sample& sample : from) {
      if (sample.info.name != tensor.name) continue;
      const auto bytes = std::as_bytes(std::span(sample.bytes));  // in two pieces, of which one may be empty
      sink(bytes.first(bytes.size() / 3));
      sink(bytes.subspan(bytes.size() / 3));
    }
  });
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// A file of this header, with its length before it, and of so many bytes of data.
std::string file_with(const std::string& header, std::size_t data_bytes = 0) {
  std::string file(8, '\0');
  const std::uint64_t length = header.size();
  std::memcpy(file.data(), &length, sizeof length);
  return file + header + std::string(data_bytes, 'x');
}

std::string complaint_about(const std::string& bytes) {
  const ScratchFolder folder;
  write_bytes(folder / "bad", bytes);
  try {
    const SafetensorsReader reader(folder / "bad");
  } catch (const UserError& error) {
    EXPECT_EQ(error.file(), folder / "bad");
    return std::string(error.what()).substr(error.file().size() + 2);
  }
  return "";
}

TEST(Safetensors, ReadsWhatPythonWrote) {
  const SafetensorsReader reader(kFromPython);
  EXPECT_EQ(reader.tensors().size(), samples().size());
  EXPECT_EQ(reader.metadata(), (std::map<std::string, std::string>{{"format", "pt"}}));
  for (const Sample& sample : samples()) {
    const TensorInfo* const found = reader.find(sample.info.name);
    ASSERT_NE(found, nullptr) << sample.info.name;
    EXPECT_EQ(found->type, sample.info.type) << sample.info.name;
    EXPECT_EQ(found->shape, sample.info.shape) << sample.info.name;
    EXPECT_EQ(text_of(reader.data(*found)), sample.bytes) << sample.info.name;
  }
  EXPECT_EQ(reader.find("other"), nullptr);
}

TEST(Safetensors, WritesWhatPythonWrites) {
  const ScratchFolder folder;
  const FileRecord record = write_samples(folder / "ours.safetensors", samples(), kHuggingFaceMetadata);
  EXPECT_EQ(read_bytes(folder / "ours.safetensors"), read_bytes(kFromPython));
  EXPECT_EQ(record, measure_file(folder / "ours.safetensors"));
  EXPECT_EQ(record.name, "ours.safetensors");
}

TEST(Safetensors, WritesAndReadsNoTensors) {
  const ScratchFolder folder;
  write_samples(folder / "empty", {}, {});
  EXPECT_EQ(read_bytes(folder / "empty"), file_with("{}      "));
  EXPECT_TRUE(SafetensorsReader(folder / "empty").tensors().empty());
}

TEST(Safetensors, WidensToFloatsExactly) {
  const SafetensorsReader reader(kFromPython);
  const auto floats = [&](const char* name, std::size_t count) {
    std::vector<float> values(count);
    const TensorInfo& tensor = *reader.find(name);
    to_floats(tensor.type, reader.data(tensor), values);
    return values;
  };
  EXPECT_EQ(floats("weights", 6), (std::vector<float>{0, -1.5F, 2, 3, 4.25F, 1e30F}));
  EXPECT_EQ(floats("half", 4), (std::vector<float>{1, -1, 3.140625F, INFINITY}));
  EXPECT_EQ(floats("sixteen", 3), (std::vector<float>{1, -2, std::ldexp(1.0F, -24)}));
  EXPECT_EQ(floats("eight", 5), (std::vector<float>{1, -1, 448, std::ldexp(1.0F, -9), 0}));
}

TEST(Safetensors, OneLineSaysWhatIsWrong) {
  EXPECT_EQ(complaint_about("abc"), "is 3 bytes long; a safetensors file has 8 or more");
  EXPECT_EQ(complaint_about(std::string("\x00\x00\x00\x00\x00\x00\x00\x01", 8)),
            "says that its header has 72057594037927936 bytes; a safetensors file has at most 100000000");
  EXPECT_EQ(complaint_about(file_with("{}").substr(0, 9)),
            "says that its header has 2 bytes, but 1 follow; is the file cut short?");
  EXPECT_EQ(complaint_about(file_with(" {}")), "has no header; the ninth byte of a safetensors file is {");
  EXPECT_EQ(complaint_about(file_with("{}", 3)),
            "has 3 bytes of data; its tensors take 0: is the file cut short, or longer than it was?");
  EXPECT_EQ(complaint_about(file_with(R"({"a":1})")),
            R"(tensor a: is no object; {"dtype": ..., "shape": [...], "data_offsets": [b, e]} is)");
  EXPECT_EQ(complaint_about(file_with(R"({"__metadata__":{"k":1}})")),
            "__metadata__: k is no text; only texts are allowed");
}

TEST(Safetensors, OneLineSaysWhatIsWrongWithATensor) {
  const auto about = [](const std::string& entries, std::size_t data_bytes) {
    return complaint_about(file_with("{" + entries + "}", data_bytes));
  };
  const std::string good = R"("a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]})";
  EXPECT_EQ(about(good, 2), "");
  EXPECT_EQ(about(good + "," + good, 2), "a: the key appears twice");
  EXPECT_EQ(about(R"("a":{"dtype":"F64","shape":[2],"data_offsets":[0,16]})", 16),
            R"(tensor a: dtype is "F64"; I64, F32, I32, BF16, F16, F8_E4M3, U8 are allowed)");
  EXPECT_EQ(about(R"("a":{"dtype":"U8","shape":[-2],"data_offsets":[0,2]})", 2),
            "tensor a: shape is [-2]; a list of whole numbers from 0 up is allowed");
  EXPECT_EQ(about(R"("a":{"dtype":"U8","shape":[3],"data_offsets":[0,2]})", 2),
            "tensor a: has 2 bytes of data; shape [3] of U8 takes 3");
  EXPECT_EQ(about(R"("a":{"dtype":"F32","shape":[4611686018427387904,2],"data_offsets":[0,0]})", 0),
            "tensor a: shape [4611686018427387904, 2] is beyond any file; at most 2^63 bytes are allowed");
  EXPECT_EQ(about(R"("a":{"dtype":"U8","shape":[2],"data_offsets":[0,9]})", 2),
            "tensor a: lies at bytes 0 to 9 of the data; the file has data from 0 to 2");
  EXPECT_EQ(about(R"("a":{"dtype":"U8","shape":[2],"data_offsets":[0,2,3]})", 2),
            "tensor a: has 3 data_offsets; two are: begin and end");
  EXPECT_EQ(about(R"("a":{"dtype":"U8","shape":[2]})", 2),
            "tensor a: has no data_offsets; dtype, shape and data_offsets are required");
  EXPECT_EQ(about(good + R"(,"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]})", 3),
            "tensor b: starts at byte 1 of the data; a ends at 2: no gap and no overlap is allowed");
  EXPECT_EQ(about(R"("a":{"dtype":"U8","shape":[2],"data_offsets":[1,3]})", 3),
            "tensor a: starts at byte 1 of the data; the header ends at 0: no gap and no overlap is allowed");
}

TEST(Safetensors, MissingFilesAndFoldersAreRefused) {
  const ScratchFolder folder;
  EXPECT_THROW(SafetensorsReader(folder / "nothing"), UserError);
  EXPECT_THROW(SafetensorsReader(folder.path()), UserError);
}

// Every mutant is read to its last byte, or refused.
TEST(Safetensors, DamagedFilesAreReadOrRefused) {
  const ScratchFolder folder;
  const std::string path = folder / "mutant";
  const auto read = [&](const std::string& bytes) {
    write_bytes(path, bytes);
    const SafetensorsReader reader(path);
    std::size_t sum = 0;
    for (const TensorInfo& tensor : reader.tensors())
      for (const std::byte byte : reader.data(tensor)) sum += std::to_integer<std::size_t>(byte);
    EXPECT_LE(sum, 255 * bytes.size());
  };
  const Survival survival = expect_survives(read_bytes(kFromPython), read);
  EXPECT_GT(survival.refused, 1000);
  EXPECT_GT(survival.accepted, 10);

  // A header of the right length around mutants of its text, so that more than the length is tried.
  const std::string header = read_bytes(kFromPython).substr(8, 0x200);
  expect_survives(header, [&](const std::string& text) { read(file_with(text, 62)); });
}

TEST(SafetensorsWriter, RefusesWhatNoFileCanHold) {
  const TensorInfo tensor{"a", TensorType::kU8, {2}};
  EXPECT_THROW(lay_out({tensor, {"a", TensorType::kF32, {1}}}), std::logic_error);
  EXPECT_THROW(lay_out({{"__metadata__", TensorType::kU8, {2}}}), std::logic_error);
  EXPECT_THROW(lay_out({{"", TensorType::kU8, {2}}}), std::logic_error);
  EXPECT_THROW(lay_out({{"a", TensorType::kU8, {-2}}}), std::logic_error);

  const ScratchFolder folder;
  for (const std::size_t count : {0, 1, 3}) {
    const std::string given(count, 'x');
    EXPECT_THROW(
        write_safetensors(folder / "half", {tensor}, {},
                          [&](const TensorInfo&, const TensorSink& sink) { sink(std::as_bytes(std::span(given))); }),
        std::logic_error);
    EXPECT_FALSE(std::filesystem::exists(folder / "half"));
  }
}

TEST(SafetensorsWriter, AFolderThatIsNotThereIsAFault) {
  const ScratchFolder folder;
  EXPECT_THROW(write_samples(folder / "not/there", samples(), {}), std::runtime_error);
}

}  // namespace
}  // namespace msmoe::executor
