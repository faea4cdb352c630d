// One rank computes what `transformers` computes: logits, loss and the gradient of every parameter of four families.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>

#include "executor/checkpoint/safetensors_reader.h"
#include "tests/executor/tiny_training.h"

namespace msmoe::executor {
namespace {

struct Reference {
  explicit Reference(const std::string& folder) : files(folder + "/reference.safetensors") {}
  template <class T>
  std::vector<T> numbers(const std::string& name) const {
    const TensorInfo* tensor = files.find(name);
    if (tensor == nullptr) throw std::runtime_error("no tensor " + name);
    const std::span<const std::byte> data = files.data(name, tensor->shape);
    std::vector<T> values(data.size() / sizeof(T));
    std::memcpy(values.data(), data.data(), data.size());
    return values;
  }
  ModelReader files;
};

// The largest difference over the largest value of what is expected.
double relative_error(const std::vector<float>& got, const std::vector<float>& expected) {
  EXPECT_EQ(got.size(), expected.size());
  double difference = 0, largest = 1e-30;
  for (std::size_t i = 0; i < std::min(got.size(), expected.size()); ++i) {
    difference = std::max(difference, std::abs(double{got[i]} - expected[i]));
    largest = std::max(largest, std::abs(double{expected[i]}));
  }
  return difference / largest;
}

class ReferenceTest : public testing::TestWithParam<std::string> {};

TEST_P(ReferenceTest, LogitsLossAndGradients) {
  const TinyModel tiny(GetParam());
  const Reference reference(tiny.folder);
  Plan plan = tiny.plan();
  plan.global_batch = plan.micro_batch = 2;
  plan.loss = LossKind::kFull;
  const std::unique_ptr<Communicator> alone = lone_communicator();
  TinyRank rank(tiny, plan, 0, [&](GroupKind) -> Communicator& { return *alone; });

  std::vector<float> logits;
  rank.trainer.runner().observe([&](const OperatorRun& run) {
    if (std::string(run.call.op.name) != "head") return;
    const auto* values = reinterpret_cast<const float*>(run.call.written(0));
    logits.assign(values, values + 2 * plan.seq_len * tiny.model.vocab);
  });
  const StepResult result =
      rank.trainer.accumulate(reference.numbers<std::int32_t>("tokens"), reference.numbers<std::int32_t>("targets"));
  EXPECT_LT(relative_error(logits, reference.numbers<float>("logits")), 1e-4);
  const double loss = reference.numbers<float>("loss").front();
  EXPECT_NEAR(result.loss, loss, 1e-5 * loss);

  // The first moments of a first step are a tenth of the gradients.
  rank.trainer.update({.rate = 0, .beta1 = 0.9, .clip = 0}, 0);
  double squares = 0;
  for (std::size_t i = 0; i < tiny.names.parameters().size(); ++i) {
    const Parameter& parameter = tiny.names.parameters()[i];
    if (!parameter.is_counted()) continue;
    const std::vector<float> expected = reference.numbers<float>(tiny.names.name(i));
    for (const float value : expected) squares += double{value} * value;
    std::vector<float> got(expected.size());
    const Box whole = whole_box(parameter);
    for (const StatePiece& piece : rank.trainer.store().held_pieces()) {
      if (!(piece.parameter->whole == parameter)) continue;
      const float* moments = piece.data[static_cast<std::size_t>(StateKind::kFirstMoment)];
      for (std::int64_t at = piece.begin; at < piece.end; ++at) {
        const std::int64_t row = at / whole.columns();
        const std::int64_t file_row = row_in_file(rotary_order(tiny.numerics), tiny.model, parameter, row);
        got[static_cast<std::size_t>(file_row * whole.columns() + at % whole.columns())] =
            moments[at - piece.begin] * 10;
      }
    }
    EXPECT_LT(relative_error(got, expected), 1e-3) << tiny.names.name(i);
  }
  EXPECT_NEAR(result.gradient_norm, std::sqrt(squares), 1e-4 * std::sqrt(squares));
}

INSTANTIATE_TEST_SUITE_P(Families, ReferenceTest, testing::ValuesIn(tiny_models()),
                         [](const auto& family) { return family.param; });

}  // namespace
}  // namespace msmoe::executor
