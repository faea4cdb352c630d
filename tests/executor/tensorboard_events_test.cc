// Golden bytes are those that the Python package tensorboard 2.21 writes for the same events (its RecordWriter and
// generated protobuf classes).
#include "executor/telling/tensorboard_events.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <stdexcept>

#include "core/error.h"
#include "executor/telling/event_proto.h"
#include "executor/telling/tf_record.h"
#include "tests/executor/scratch_folder.h"
#include "tests/executor/step_example.h"
#include "tests/file_limit.h"

namespace msmoe::executor {
namespace {

constexpr double kNoon = 1.5e9;

std::string hex(const std::string& bytes) {
  std::string text;
  for (const char byte : bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return text;
}

EventOrigin origin() {
  return {.clock = [] { return kNoon; }, .host = "node7", .process_id = 42};
}

// The records of a file, lengths and checksums verified.
std::vector<std::string> records_of(const std::string& path) {
  std::vector<std::string> records;
  const std::string bytes = read_bytes(path);
  for (std::size_t at = 0; at < bytes.size();) {
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data() + at, 8);
    records.push_back(bytes.substr(at + 12, length));
    EXPECT_EQ(bytes.substr(at, length + 16), tf_record(records.back()));
    at += length + 16;
  }
  return records;
}

TEST(TfRecord, ChecksumsAreMasked) {
  // crc32c("123456789") is 0xe3069283.
  EXPECT_EQ(masked_crc32c("123456789"), 0xc78ab0e5u);
  EXPECT_EQ(masked_crc32c(""), 0xa282ead8u);
}

TEST(TfRecord, MatchesGoldenBytes) {
  EXPECT_EQ(hex(tf_record(file_version_event(kNoon))),
            "1800000000000000a37f4b22"                        // 24 bytes, checksum
            "09000000c00b5ad641"                              // wall_time
            "1a0d627261696e2e4576656e743a32"                  // file_version
            "4ca9a464");                                      // checksum
  EXPECT_EQ(hex(tf_record(session_start_event(kNoon, 300))),  // step 300 is a varint of two bytes
            "100000000000000095fbfe18"
            "09000000c00b5ad641"
            "10ac02"
            "3a020801"
            "86d26f32");
  const std::vector<Scalar> scalars = {{"a/b", 0.5F}, {"c", std::numeric_limits<float>::quiet_NaN()}};
  EXPECT_EQ(hex(tf_record(scalars_event(kNoon, 300, scalars))),
            "2400000000000000422b804d"
            "09000000c00b5ad641"
            "10ac02"
            "2a16"
            "0a0a0a03612f62150000003f"
            "0a080a0163150000c07f"
            "30c9eb0e");
}

TEST(TensorBoardEvents, WritesAFileARun) {
  const ScratchFolder scratch;
  const std::string folder = scratch / "runs/first";
  TensorBoardEvents events(folder, 1, kExampleBasis, origin());
  EXPECT_EQ(events.path(), folder + "/events.out.tfevents.1500000000.node7.42");
  events.tell(example_step(1));
  StepMetrics dense = example_step(2);
  dense.auxiliary_loss = dense.z_loss = dense.largest_expert_load = std::nullopt;
  events.tell(dense);

  const std::vector<std::string> records = records_of(events.path());
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(records[0], file_version_event(kNoon));
  EXPECT_EQ(records[1], scalars_event(kNoon, 1,
                                      std::vector<Scalar>{{"train/loss", 10.75F},
                                                          {"train/auxiliary_loss", 0.0119F},
                                                          {"train/z_loss", 0.001F},
                                                          {"train/gradient_norm", 4.875F},
                                                          {"train/learning_rate", 6e-6F},
                                                          {"train/tokens", 50'000},
                                                          {"train/step_seconds", 0.5F},
                                                          {"train/tokens_per_second", 100'000},
                                                          {"train/tokens_per_second_per_gpu", 50'000},
                                                          {"train/model_tflops_per_gpu", 150},
                                                          {"train/mfu", 0.25F},
                                                          {"train/peak_memory_bytes_per_gpu", 1024},
                                                          {"train/largest_expert_load_over_mean", 2.95F},
                                                          {"train/dropped_tokens", 0},
                                                          {"train/has_nan", 0},
                                                          {"train/has_inf", 0}}));
  EXPECT_EQ(records[2].find("z_loss"), std::string::npos);
  EXPECT_NE(records[2].find("train/mfu"), std::string::npos);
}

TEST(TensorBoardEvents, AResumedRunSaysWhereItStarts) {
  const ScratchFolder scratch;
  const TensorBoardEvents first(scratch.path(), 1, kExampleBasis, origin());
  const TensorBoardEvents second(scratch.path(), 301, kExampleBasis, origin());
  EXPECT_EQ(second.path(), first.path() + ".1");  // the same second, host and process
  EXPECT_EQ(records_of(second.path()),
            (std::vector<std::string>{file_version_event(kNoon), session_start_event(kNoon, 301)}));
}

TEST(TensorBoardEvents, AFullDiskIsToldOnce) {
  const ScratchFolder scratch;
  TensorBoardEvents events(scratch.path(), 1, kExampleBasis, origin());
  {
    const FileLimit limit(100);
    EXPECT_THROW(events.tell(example_step(1)), std::runtime_error);
    EXPECT_TRUE(events.failed());
  }
  EXPECT_NO_THROW(events.tell(example_step(2)));
  EXPECT_EQ(records_of(events.path()), std::vector<std::string>{file_version_event(kNoon)});
}

TEST(TensorBoardEvents, AFolderThatCannotBeMadeIsTheUsersMistake) {
  const ScratchFolder scratch;
  write_bytes(scratch / "file", "");
  EXPECT_THROW(TensorBoardEvents(scratch / "file/runs", 1, kExampleBasis, origin()), UserError);
}

TEST(TensorBoardEvents, ThisProcessHasATimeAndAName) {
  const EventOrigin here = this_process();
  EXPECT_GT(here.clock(), 1.7e9);
  EXPECT_FALSE(here.host.empty());
  EXPECT_GT(here.process_id, 0);
}

}  // namespace
}  // namespace msmoe::executor
