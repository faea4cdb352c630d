#include "executor/training/same_model.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/executor/scratch_folder.h"
#include "tests/executor/tiny_training.h"

namespace msmoe::executor {
namespace {

// What is said of a config.json in which one text became another.
std::string complaint(const TinyModel& tiny, const std::string& text, const std::string& other) {
  const ScratchFolder folder;
  std::string config = read_bytes(tiny.folder + "/config.json");
  const auto at = config.find(text);
  EXPECT_NE(at, config.npos) << text;
  write_bytes(folder / "config.json", config.replace(at, text.size(), other));
  try {
    require_same_model(folder / "config.json", tiny.model, tiny.numerics);
  } catch (const UserError& error) {
    EXPECT_EQ(error.file(), folder / "config.json");
    return error.place() + ": " + error.message();
  }
  return "";
}

TEST(SameModel, WhatBearsOnTheModelIsCompared) {
  const TinyModel tiny("deepseek_v3");
  EXPECT_EQ(complaint(tiny, "\"vocab_size\": 256", "\"vocab_size\": 256"), "");
  EXPECT_EQ(complaint(tiny, "\"vocab_size\": 256", "\"vocab_size\": 257"),
            "vocab_size: the checkpoint has 257, the model 256");
  EXPECT_EQ(complaint(tiny, "\"routed_scaling_factor\": 2.5", "\"routed_scaling_factor\": 2"),
            "routed_scaling_factor: the checkpoint has 2, the model 2.5");
  EXPECT_EQ(complaint(tiny, "\"num_experts_per_tok\": 4", "\"num_experts_per_tok\": 3"),
            "layer 1: experts a token: the checkpoint has 3, the model 4");
  EXPECT_EQ(complaint(tiny, "\"num_hidden_layers\": 4", "\"num_hidden_layers\": 5"),
            "layers: the checkpoint has 5, the model 4");
  EXPECT_TRUE(complaint(tiny, "\"q_lora_rank\": ", "\"q_lora_rank\": 1")
                  .starts_with("model.layers.0.self_attn.q_a_proj.weight: the checkpoint has ["));
  EXPECT_EQ(complaint(tiny, "\"initializer_range\": ", "\"initializer_range\": 1"), "");
}

}  // namespace
}  // namespace msmoe::executor
