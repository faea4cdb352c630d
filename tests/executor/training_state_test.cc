#include "executor/training/training_state.h"

#include <gtest/gtest.h>

#include <limits>

#include "core/error.h"
#include "tests/executor/scratch_folder.h"

namespace msmoe::executor {
namespace {

TrainingState some_state() {
  return {.step = 1000,
          .position = 8000,
          .seed = std::numeric_limits<std::uint64_t>::max(),
          .data = {"corpus", "synthetic:7"},
          .num_tokens = std::int64_t{1} << 48,
          .seq_len = 4096,
          .hyper_parameters = {.rate = 3e-4,
                               .min_rate = 3e-5,
                               .warmup = 100,
                               .steps = 5000,
                               .beta1 = 0.9,
                               .beta2 = 0.95,
                               .epsilon = 1e-8,
                               .decay = 0.1,
                               .clip = 1,
                               .auxiliary = 0.02,
                               .z = 0.001,
                               .bias_rate = 0.01}};
}

TEST(TrainingState, ComesBackAsItWas) {
  const ScratchFolder folder;
  write_bytes(folder / kTrainingFile, to_json(some_state()));
  EXPECT_EQ(read_training_state(folder.path()), some_state());
}

TEST(TrainingState, ErrorsHaveTheirPlace) {
  const ScratchFolder folder;
  const auto complaint = [&](const std::string& text, const std::string& other) {
    std::string json = to_json(some_state());
    const auto at = json.find(text);
    EXPECT_NE(at, json.npos) << text;
    write_bytes(folder / kTrainingFile, json.replace(at, text.size(), other));
    try {
      read_training_state(folder.path());
    } catch (const UserError& error) {
      return error.place() + ": " + error.message();
    }
    return std::string("none");
  };
  EXPECT_EQ(complaint("\"version\": 1", "\"version\": 2"), "version: found 2");
  EXPECT_EQ(complaint("msmoe training", "msmoe"), "format: found \"msmoe\"");
  EXPECT_EQ(complaint("18446744073709551615", "18446744073709551616"), "seed: found \"18446744073709551616\"");
  EXPECT_TRUE(complaint("\"step\": 1000", "\"step\": -1").starts_with("step: ")) << complaint("1000", "-1");
  EXPECT_TRUE(complaint("4096", "0").starts_with("data.seq_len: "));
  EXPECT_TRUE(complaint("0.95", "\"much\"").starts_with("hyper_parameters.beta2: "));
  EXPECT_TRUE(complaint("\"beta2\"", "\"beta3\"").starts_with("hyper_parameters.beta2: "));
  EXPECT_TRUE(complaint("\"step\"", "\"of\": 1, \"step\"").starts_with("of: "));
}

TEST(TrainingState, ChangesAreNamed) {
  const TrainingState saved = some_state();
  TrainingState now = saved;
  now.step = 2000;
  now.position = 16000;
  EXPECT_EQ(changes(saved, now), std::vector<std::string>{});
  now.seed = 1;
  now.data.pop_back();
  now.hyper_parameters.rate = 1e-4;
  now.hyper_parameters.steps = 6000;
  EXPECT_EQ(changes(saved, now),
            (std::vector<std::string>{"seed is 1, and was 18446744073709551615",
                                      "data is corpus, and was corpus, synthetic:7", "rate is 0.0001, and was 0.0003",
                                      "steps is 6000, and was 5000"}));
}

}  // namespace
}  // namespace msmoe::executor
