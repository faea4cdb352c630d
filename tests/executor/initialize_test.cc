#include "executor/parameters/initialize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#include "executor/checkpoint/hf_names.h"
#include "tests/executor/parameter_job.h"
#include "tests/executor/scratch_folder.h"

namespace msmoe::executor {
namespace {

const InitialValues kValues{.seed = 3, .deviation = 0.02};

// Masters of every rank against value(parameter, index of the element in the whole); how many were seen.
template <class Value>
std::int64_t expect_masters(const ParameterStore& store, Value value) {
  std::int64_t seen = 0;
  for (const StatePiece& piece : store.held_pieces())
    for_each_element(*piece.parameter, piece.begin, piece.end, [&](std::int64_t idx, std::int64_t at) {
      EXPECT_EQ(piece.state(StateKind::kMaster)[at], value(piece.parameter->whole, idx));
      ++seen;
    });
  return seen;
}

TEST(Initialize, MatricesAreNormalNormsOneAndBiasesZero) {
  const Parameter matrix{Part::kUp, 2, 5, {400, 500}};
  double sum = 0, squares = 0, products = 0;
  std::int64_t beyond_two = 0;
  float before = 0;
  const std::int64_t size = matrix.elements();
  for (std::int64_t idx = 0; idx < size; ++idx) {
    const float value = initial_value(kValues, matrix, idx);
    sum += value;
    squares += value * value;
    products += value * before;
    if (std::abs(value) > 0.04) ++beyond_two;
    before = value;
  }
  const auto count = static_cast<double>(size);
  EXPECT_NEAR(sum / count, 0, 4 * 0.02 / std::sqrt(count));
  EXPECT_NEAR(std::sqrt(squares / count), 0.02, 0.0002);
  EXPECT_NEAR(products / squares, 0, 4 / std::sqrt(count));             // neighbours know nothing of each other
  EXPECT_NEAR(static_cast<double>(beyond_two) / count, 0.0455, 0.002);  // two deviations of a normal distribution
  EXPECT_EQ(initial_value(kValues, {Part::kKvDownNorm, 0, -1, {8}}, 3), 1);
  EXPECT_EQ(initial_value(kValues, {Part::kRouterBias, 0, -1, {8}}, 3), 0);
  EXPECT_EQ(initial_value(kValues, {Part::kKeyBias, 0, -1, {8}}, 3), 0);
}

TEST(Initialize, SeedPartLayerExpertAndElementTellValuesApart) {
  std::set<float> values;
  for (const std::uint64_t seed : {1, 2})
    for (const Part part : {Part::kGate, Part::kUp})
      for (const int layer : {0, 1})
        for (const int expert : {-1, 0, 1})
          for (const std::int64_t element : {0, 1, 2, 3})
            values.insert(initial_value({.seed = seed}, {part, layer, expert, {4, 4}}, element));
  EXPECT_EQ(values.size(), 2u * 2 * 2 * 3 * 4);
}

TEST(Initialize, ValuesDoNotDependOnThePlan) {
  for (auto [name, model, plan] : plans_of_every_kind()) {
    plan.zero = plan.schedule == PipelineSchedule::kDualPipe ? 1 : 3;
    std::atomic<std::int64_t> seen = 0;
    run_job(model, plan, [&](int, ParameterStore& store, auto) {
      initialize(store, kValues);
      seen += expect_masters(
          store, [](const Parameter& parameter, std::int64_t idx) { return initial_value(kValues, parameter, idx); });
    });
    EXPECT_GE(seen, count_parameters(model).total) << name;
  }
}

// ---- Files

// Every element of a tensor in a file is its own index in it, so that fp32, bf16 and fp16 all have it exactly.
constexpr std::int64_t kExact = 256;

void write_files(const Model& model, const std::string& folder, TensorType type) {
  const HfNames names(model);
  std::vector<TensorInfo> tensors;
  for (std::size_t idx = 0; idx < names.parameters().size(); ++idx)
    tensors.push_back({names.name(idx), type, names.parameters()[idx].shape});
  write_model(folder, tensors, 10000, [&](const TensorInfo& tensor, const TensorSink& sink) {
    std::vector<float> values(static_cast<std::size_t>(tensor.bytes() / bytes_of(type)));
    for (std::size_t idx = 0; idx < values.size(); ++idx)
      values[idx] = static_cast<float>(static_cast<std::int64_t>(idx) % kExact);
    sink(from_floats(type, values));
  });
}

TEST(LoadWeights, EachRankReadsItsSlices) {
  for (const TensorType type : {TensorType::kF32, TensorType::kBf16})
    for (auto [name, model, plan] : plans_of_every_kind()) {
      const ScratchFolder folder;
      write_files(model, folder.path(), type);
      const ModelReader files(folder.path());
      std::atomic<std::int64_t> seen = 0;
      run_job(model, plan, [&, &model_here = model](int, ParameterStore& store, auto) {
        load_weights(store, model_here, files, RotaryOrder::kHalves);
        seen +=
            expect_masters(store, [](const Parameter&, std::int64_t idx) { return static_cast<float>(idx % kExact); });
      });
      EXPECT_GE(seen, count_parameters(model).total) << name;
    }
}

// Of a query head's 8 rows the last 4 are turned: the file has x0 y0 x1 y1 where we have x0 x1 y0 y1.
TEST(LoadWeights, InterleavedRotaryRowsArePutInHalves) {
  const Model model = latent_model();
  const ScratchFolder folder;
  write_files(model, folder.path(), TensorType::kF32);
  const ModelReader files(folder.path());
  run_job(model, Plan{}, [&](int, ParameterStore& store, auto) {
    load_weights(store, model, files, RotaryOrder::kInterleaved);
    const kernels::View query = store.weight(1, Part::kQueryUp);  // [4 * 8, 8]
    const std::vector<std::int64_t> rows = {0, 1, 2, 3, 4, 6, 5, 7, 8, 9, 10, 11, 12, 14, 13, 15};
    for (std::size_t row = 0; row < rows.size(); ++row)
      EXPECT_EQ(query.as<float>()[row * 8 + 1], static_cast<float>(rows[row] * 8 + 1)) << row;
    const kernels::View key = store.weight(1, Part::kKvDown);  // [6 + 4, 16]
    EXPECT_EQ(key.as<float>()[7 * 16], 8 * 16);
    EXPECT_EQ(key.as<float>()[8 * 16], 7 * 16);
    EXPECT_EQ(key.as<float>()[5 * 16], 5 * 16);
    EXPECT_EQ(store.weight(1, Part::kKvUp).as<float>()[7 * 6], 7 * 6);
  });
}

TEST(LoadWeights, RowsGoThereAndBack) {
  const Model model = latent_model();
  for (const Parameter& parameter : list_parameters(model))
    for (const RotaryOrder order : {RotaryOrder::kHalves, RotaryOrder::kInterleaved})
      for (std::int64_t row = 0; row < parameter.shape[0]; ++row)
        EXPECT_EQ(row_from_file(order, model, parameter, row_in_file(order, model, parameter, row)), row);
}

TEST(LoadWeights, OtherTypesAreRefused) {
  const Model model = tied_model();
  const ScratchFolder folder;
  const HfNames names(model);
  std::vector<TensorInfo> tensors;
  for (std::size_t idx = 0; idx < names.parameters().size(); ++idx)
    tensors.push_back({names.name(idx), TensorType::kF8E4m3, names.parameters()[idx].shape});
  write_model(folder.path(), tensors, 100000, [](const TensorInfo& tensor, const TensorSink& sink) {
    sink(std::vector<std::byte>(static_cast<std::size_t>(tensor.bytes())));
  });
  const ModelReader files(folder.path());
  run_job(model, Plan{}, [&](int, ParameterStore& store, auto) {
    try {
      load_weights(store, model, files, RotaryOrder::kHalves);
      ADD_FAILURE();
    } catch (const UserError& error) {
      EXPECT_STREQ(error.what(), (folder / "model.safetensors" +
                                  ": tensor model.embed_tokens.weight: has elements of F8_E4M3; F32, BF16 and F16 are "
                                  "allowed")
                                     .c_str());
    }
  });
}

}  // namespace
}  // namespace msmoe::executor
