#include "executor/telling/jsonl_metrics.h"

#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "core/error.h"
#include "tests/executor/scratch_folder.h"
#include "tests/executor/step_example.h"
#include "tests/file_limit.h"

namespace msmoe::executor {
namespace {

std::string line_of(std::int64_t step) { return jsonl_line(example_step(step), kExampleBasis); }

void tell_steps(const std::string& path, std::int64_t first, std::int64_t last) {
  JsonlMetrics metrics(path, first, kExampleBasis);
  for (std::int64_t step = first; step <= last; ++step) metrics.tell(example_step(step));
}

std::string complaint_of(const std::string& path, std::int64_t first_step) {
  try {
    cut_metrics(path, first_step);
  } catch (const UserError& error) {
    return error.what();
  }
  return "none";
}

// The names that are in the folder, to see that no temporary file stays.
std::size_t files_in(const ScratchFolder& scratch) {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(scratch.path())) ++count;
  return count;
}

TEST(JsonlMetrics, WritesALineAStep) {
  EXPECT_EQ(line_of(7),
            "{\"step\": 7, \"loss\": 10.75, \"auxiliary_loss\": 0.0119, \"z_loss\": 0.001, \"gradient_norm\": 4.875, "
            "\"learning_rate\": 6e-06, \"tokens\": 50000, \"step_seconds\": 0.5, \"tokens_per_second\": 100000.0, "
            "\"tokens_per_second_per_gpu\": 50000.0, \"model_tflops_per_gpu\": 150.0, \"mfu\": 0.25, "
            "\"peak_memory_bytes_per_gpu\": 1024, \"largest_expert_load_over_mean\": 2.95, \"dropped_tokens\": 0, "
            "\"has_nan\": false, \"has_inf\": false}\n");
  const ScratchFolder scratch;
  const std::string path = scratch / "out.jsonl";
  JsonlMetrics metrics(path, 1, kExampleBasis);
  metrics.tell(example_step(1));
  EXPECT_EQ(read_bytes(path), line_of(1));  // while the run goes on
  metrics.tell(example_step(2));
  EXPECT_EQ(read_bytes(path), line_of(1) + line_of(2));
}

TEST(JsonlMetrics, NonsenseAndWhatIsNotThereAreNull) {
  StepMetrics step = example_step(7);
  step.loss = std::numeric_limits<double>::quiet_NaN();
  step.gradient_norm = std::numeric_limits<double>::infinity();
  step.z_loss = step.largest_expert_load = std::nullopt;
  const nlohmann::json json = nlohmann::json::parse(jsonl_line(step, {.flops_per_token = {3e9}}));
  for (const char* key : {"loss", "gradient_norm", "z_loss", "largest_expert_load_over_mean", "mfu"})
    EXPECT_TRUE(json.at(key).is_null()) << key;
  EXPECT_TRUE(json.at("has_nan").get<bool>());
  EXPECT_TRUE(json.at("has_inf").get<bool>());
  EXPECT_EQ(json.at("model_tflops_per_gpu"), 300.0);
}

TEST(JsonlMetrics, AResumedRunGoesOnFromItsStep) {
  const ScratchFolder scratch;
  const std::string path = scratch / "out.jsonl";
  tell_steps(path, 1, 5);
  tell_steps(path, 4, 6);  // the checkpoint was of step 3
  EXPECT_EQ(read_bytes(path), line_of(1) + line_of(2) + line_of(3) + line_of(4) + line_of(5) + line_of(6));
  tell_steps(path, 7, 7);
  EXPECT_TRUE(read_bytes(path).ends_with(line_of(6) + line_of(7)));
  tell_steps(path, 1, 1);  // from the start
  EXPECT_EQ(read_bytes(path), line_of(1));
  EXPECT_EQ(files_in(scratch), 1u);
}

// Wherever the kill came, what stands before the line stays and a new run goes on.
TEST(JsonlMetrics, AHalfWrittenLineIsCutAtEveryByte) {
  const ScratchFolder scratch;
  const std::string path = scratch / "out.jsonl";
  const std::string line = line_of(3);
  for (std::size_t length = 0; length < line.size(); ++length) {
    write_bytes(path, line_of(1) + line_of(2) + line.substr(0, length));
    cut_metrics(path, 4);
    ASSERT_EQ(read_bytes(path), line_of(1) + line_of(2)) << length;
  }
  write_bytes(path, line_of(1) + line.substr(0, 20) + std::string(50, '\0'));  // after a loss of power
  cut_metrics(path, 4);
  EXPECT_EQ(read_bytes(path), line_of(1));
}

// What is kept, is kept as it was: spaces of other programs, keys of other versions.
TEST(JsonlMetrics, KeptLinesAreNotWrittenAnew) {
  const ScratchFolder scratch;
  const std::string path = scratch / "out.jsonl";
  const std::string other = "{\"loss\":1e0,\"step\":2,  \"new_key\":[1]}\n";
  write_bytes(path, other + line_of(3));
  cut_metrics(path, 3);
  EXPECT_EQ(read_bytes(path), other);
  std::filesystem::create_symlink(path, scratch / "link.jsonl");
  tell_steps(scratch / "link.jsonl", 2, 2);
  EXPECT_EQ(read_bytes(path), line_of(2));
}

TEST(JsonlMetrics, FilesOfOthersAreLeftAlone) {
  const ScratchFolder scratch;
  const std::string path = scratch / "notes";
  for (const auto& [text, line] : std::vector<std::pair<std::string, int>>{{"a thought", 1},
                                                                           {"a thought\n", 1},
                                                                           {line_of(1) + "\n" + line_of(2), 2},
                                                                           {"{\"name\": 1}\n", 1},
                                                                           {"{\"step\": 1.5}\n", 1},
                                                                           {line_of(1) + "[1]", 2}}) {
    write_bytes(path, text);
    EXPECT_EQ(complaint_of(path, 1), path + ": line " + std::to_string(line) +
                                         ": is no line of a training's metrics; name another file, or remove this one");
    EXPECT_EQ(read_bytes(path), text);
  }
  EXPECT_THROW(JsonlMetrics(scratch / "no/such/folder", 1, kExampleBasis), UserError);
  EXPECT_THROW(JsonlMetrics(scratch.path(), 1, kExampleBasis), UserError);
  EXPECT_EQ(files_in(scratch), 1u);
}

TEST(JsonlMetrics, AFullDiskIsToldOnce) {
  const ScratchFolder scratch;
  const std::string path = scratch / "out.jsonl";
  JsonlMetrics metrics(path, 1, kExampleBasis);
  metrics.tell(example_step(1));
  {
    const FileLimit limit(line_of(1).size() + 10);
    std::string complaint;
    try {
      metrics.tell(example_step(2));
    } catch (const UserError&) {
      complaint = "a fault is no mistake of the user's";
    } catch (const std::runtime_error& error) {
      complaint = error.what();
    }
    EXPECT_EQ(complaint, path + ": cannot be written: File too large");
    EXPECT_TRUE(metrics.failed());
    EXPECT_NO_THROW(metrics.tell(example_step(3)));
  }
  EXPECT_NO_THROW(metrics.tell(example_step(4)));  // no gap in the middle: silent from then on
  EXPECT_EQ(read_bytes(path), line_of(1));         // and no half line
}

TEST(JsonlMetrics, AFullDiskLeavesAnOldFileWhole) {
  const ScratchFolder scratch;
  const std::string path = scratch / "out.jsonl";
  tell_steps(path, 1, 5);
  const std::string before = read_bytes(path);
  {
    const FileLimit limit(100);
    EXPECT_THROW(cut_metrics(path, 4), std::runtime_error);
  }
  EXPECT_EQ(read_bytes(path), before);
  EXPECT_EQ(files_in(scratch), 1u);
}

}  // namespace
}  // namespace msmoe::executor
