// The reference models (reference/README.md) are whole, and are what the executor takes them for.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "core/model.h"
#include "executor/checkpoint/hf_names.h"
#include "executor/checkpoint/model_files.h"
#include "executor/model_numerics.h"

namespace msmoe::executor {
namespace {

constexpr std::int64_t kBatch = 2, kSeqLen = 32, kVocab = 256;

using Shape = std::vector<std::int64_t>;

template <class Value>
std::vector<Value> values_of(const ModelReader& reader, const std::string& name, const Shape& shape) {
  const std::span<const std::byte> bytes = reader.data(name, shape);
  std::vector<Value> values(bytes.size() / sizeof(Value));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

double largest_of(const std::vector<float>& values) {
  double largest = 0;
  for (const float value : values) {
    EXPECT_TRUE(std::isfinite(value));
    largest = std::max(largest, std::abs(static_cast<double>(value)));
  }
  return largest;
}

class ReferenceFiles : public testing::TestWithParam<const char*> {
 protected:
  std::string folder_ = std::string(MSMOE_SOURCE_DIR) + "/tests/executor/reference/" + GetParam();
  Model model_ = read_model(folder_ + "/config.json");
  HfNames names_{model_};
};

TEST_P(ReferenceFiles, TheCheckpointHoldsEveryParameterAndNothingElse) {
  const ModelReader weights(folder_);
  std::set<std::string> expected;
  for (std::size_t idx = 0; idx < names_.parameters().size(); ++idx) {
    const std::string& name = names_.name(idx);
    expected.insert(name);
    ASSERT_NE(weights.find(name), nullptr) << name;
    EXPECT_EQ(weights.find(name)->type, TensorType::kF32) << name;
    EXPECT_GT(largest_of(values_of<float>(weights, name, names_.parameters()[idx].shape)), 0.01) << name;
  }
  const std::vector<std::string> found = weights.names();
  EXPECT_EQ(std::set<std::string>(found.begin(), found.end()), expected);
}

TEST_P(ReferenceFiles, EveryTrainedParameterHasAGradient) {
  const ModelReader reference(folder_ + "/reference.safetensors");
  std::set<std::string> expected{"tokens", "targets", "logits", "loss"};
  for (std::size_t idx = 0; idx < names_.parameters().size(); ++idx) {
    const Parameter& parameter = names_.parameters()[idx];
    if (!parameter.is_counted()) continue;
    const std::string& name = names_.name(idx);
    expected.insert(name);
    ASSERT_NE(reference.find(name), nullptr) << name;
    EXPECT_GT(largest_of(values_of<float>(reference, name, parameter.shape)), 1e-5) << name;
  }
  const std::vector<std::string> found = reference.names();
  EXPECT_EQ(std::set<std::string>(found.begin(), found.end()), expected);
}

// The loss from the logits by its definition: what was shifted by a token, or weighted, would differ.
TEST_P(ReferenceFiles, TheLossIsTheMeanOverAllTokens) {
  const ModelReader reference(folder_ + "/reference.safetensors");
  const auto tokens = values_of<std::int32_t>(reference, "tokens", {kBatch, kSeqLen});
  const auto targets = values_of<std::int32_t>(reference, "targets", {kBatch, kSeqLen});
  const auto logits = values_of<float>(reference, "logits", {kBatch, kSeqLen, kVocab});
  const float loss = values_of<float>(reference, "loss", {}).at(0);

  double sum = 0;
  for (std::size_t token = 0; token < targets.size(); ++token) {
    ASSERT_TRUE(targets[token] >= 0 && targets[token] < kVocab);
    if ((token + 1) % kSeqLen != 0) {
      EXPECT_EQ(tokens[token + 1], targets[token]);
    }
    const float* const row = logits.data() + token * kVocab;
    double exp_sum = 0;
    for (std::int64_t word = 0; word < kVocab; ++word) exp_sum += std::exp(static_cast<double>(row[word]));
    sum += std::log(exp_sum) - static_cast<double>(row[targets[token]]);
  }
  EXPECT_NEAR(loss, sum / static_cast<double>(targets.size()), 1e-5);
}

TEST_P(ReferenceFiles, TheModelIsOneThatIsTrained) {
  EXPECT_EQ(model_.num_layers(), 4);
  EXPECT_EQ(model_.vocab, kVocab);
  EXPECT_NO_THROW(read_numerics(model_));
  EXPECT_NO_THROW(check_windows(model_, kSeqLen));
}

INSTANTIATE_TEST_SUITE_P(All, ReferenceFiles, testing::Values("mixtral", "qwen3_moe", "mixed", "deepseek_v3"),
                         [](const auto& test) { return std::string(test.param); });

class DeepSeekReference : public ReferenceFiles {};

TEST_P(DeepSeekReference, MixturesHaveACorrectionBias) {
  const ModelReader weights(folder_);
  EXPECT_EQ(weights.find("model.layers.0.mlp.gate.e_score_correction_bias"), nullptr);
  for (const char* layer : {"1", "2", "3"})
    EXPECT_GT(largest_of(values_of<float>(
                  weights, std::string("model.layers.") + layer + ".mlp.gate.e_score_correction_bias", {16})),
              0.05);
}

TEST_P(DeepSeekReference, Numerics) {
  const ModelNumerics numerics = read_numerics(model_);
  EXPECT_TRUE(numerics.rope_interleaved);
  EXPECT_NE(numerics.norm_epsilon, kLatentNormEpsilon);
  const kernels::RouterShape router = router_shape(model_.layer(3).feed_forward, numerics);
  EXPECT_EQ(router.scoring, kernels::Scoring::kSigmoid);
  EXPECT_EQ(router.groups, 4);
  EXPECT_EQ(router.top_groups, 2);
  EXPECT_EQ(router.scale, 2.5);
}

INSTANTIATE_TEST_SUITE_P(All, DeepSeekReference, testing::Values("deepseek_v3"));

}  // namespace
}  // namespace msmoe::executor
