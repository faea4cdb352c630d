#include "executor/parameters/state_files.h"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#include "tests/executor/parameter_job.h"
#include "tests/executor/scratch_folder.h"

namespace msmoe::executor {
namespace {

float value_of(StateKind kind, const Parameter& parameter, std::int64_t element_idx) {
  return some_value(static_cast<std::uint64_t>(kind), parameter, element_idx);
}

void save(const Model& model, const Plan& plan, const std::string& folder) {
  run_job(model, plan, [&](int rank, ParameterStore& store, auto) {
    for (const StatePiece& piece : store.held_pieces())
      for (const StateKind kind : kStateKinds)
        for_each_element(*piece.parameter, piece.begin, piece.end, [&](std::int64_t idx, std::int64_t at) {
          if (piece.state(kind) != nullptr) piece.state(kind)[at] = value_of(kind, piece.parameter->whole, idx);
        });
    StateSnapshot(store, model).write(folder, rank);
  });
}

void restore_and_compare(const Model& model, const Plan& plan, const std::string& folder, const std::string& name) {
  const StateFiles files(folder);
  std::atomic<std::int64_t> seen = 0;
  run_job(model, plan, [&](int rank, ParameterStore& store, auto) {
    restore_state(store, model, files);
    for (const StatePiece& piece : store.held_pieces())
      for (const StateKind kind : kStateKinds)
        for_each_element(*piece.parameter, piece.begin, piece.end, [&](std::int64_t idx, std::int64_t at) {
          if (piece.state(kind) == nullptr) return;
          ASSERT_EQ(piece.state(kind)[at], value_of(kind, piece.parameter->whole, idx)) << name;
          ++seen;
        });
    for (std::size_t module_idx = 0; module_idx < store.modules().size(); ++module_idx) {
      store.begin_use(module_idx);
      const LocalParameters local = local_parameters(model, plan, place_of(plan, rank), store.modules()[module_idx]);
      for (const LocalParameter& parameter : local.dense.parameters)
        for_each_element(parameter, 0, parameter.slice.size(), [&](std::int64_t idx, std::int64_t at) {
          const kernels::View weight = store.weight(module_idx, parameter.whole.part);
          ASSERT_EQ(weight.as<float>()[at], value_of(StateKind::kMaster, parameter.whole, idx)) << name;
        });
      store.end_use(module_idx);
    }
  });
  EXPECT_GE(seen, 3 * count_parameters(model).total) << name;
}

TEST(StateFiles, AllRanksTogetherSaveEveryElementOnce) {
  for (auto [name, model, plan] : plans_of_every_kind())
    for (plan.zero = 0; plan.zero <= 1; ++plan.zero) {
      const ScratchFolder folder;
      save(model, plan, folder.path());
      std::int64_t bytes = 0;
      for (int rank = 0; rank < plan.gpus; ++rank) {
        const SafetensorsReader file(folder / ("optimizer-" + std::to_string(rank) + ".safetensors"));
        for (const TensorInfo& tensor : file.tensors()) bytes += tensor.bytes();
      }
      std::int64_t biases = 0;
      for (const Parameter& parameter : list_parameters(model))
        if (!parameter.is_counted()) biases += parameter.elements();
      EXPECT_EQ(bytes, 4 * (3 * count_parameters(model).total + biases)) << name;
    }
}

// A snapshot is a copy: what training does to the store afterwards is not in it.
TEST(StateFiles, ASnapshotStaysAsItWas) {
  const auto [name, model, plan] = plans_of_every_kind()[0];
  const ScratchFolder before, after;
  run_job(model, plan, [&, &model = model](int rank, ParameterStore& store, auto) {
    const StateSnapshot snapshot(store, model);
    snapshot.write(before.path(), rank);
    for (const StatePiece& piece : store.held_pieces()) piece.state(StateKind::kMaster)[0] += 1;
    snapshot.write(after.path(), rank);
  });
  EXPECT_TRUE(read_bytes(after / "optimizer-0.safetensors") == read_bytes(before / "optimizer-0.safetensors"));
}

TEST(StateFiles, EveryPlanRestoresWhatEveryOtherSaved) {
  std::vector<ModelAndPlan> plans;
  for (ModelAndPlan each : plans_of_every_kind())
    for (const int zero : {0, 1, 3}) {
      each.plan.zero = zero;
      if (zero < 2 || each.plan.schedule != PipelineSchedule::kDualPipe) plans.push_back(each);
    }
  int pairs = 0;
  for (std::size_t from = 0; from < plans.size(); ++from) {
    const ScratchFolder folder;
    save(plans[from].model, plans[from].plan, folder.path());
    for (std::size_t step = 1; step < plans.size(); ++step) {
      const ModelAndPlan& to = plans[(from + step) % plans.size()];
      // A draw of a third of the pairs, the same on every run.
      if (to.model.name != plans[from].model.name || draw_key({from, step}) % 3 != 0) continue;
      restore_and_compare(to.model, to.plan, folder.path(), plans[from].name + " to " + to.name);
      ++pairs;
    }
  }
  EXPECT_GT(pairs, 50);
}

TEST(StateFiles, WhatIsMissingIsNamed) {
  const auto [name, model, plan] = plans_of_every_kind()[1];
  const ScratchFolder folder;
  EXPECT_THROW(StateFiles(folder.path()), UserError);
  EXPECT_THROW(StateFiles(folder / "nowhere"), UserError);
  save(model, plan, folder.path());
  std::filesystem::remove(folder / "optimizer-1.safetensors");
  const StateFiles files(folder.path());
  const auto complaint = [&](const Parameter& parameter, const Box& box) {
    try {
      std::vector<float> values(static_cast<std::size_t>(box.size()));
      files.read(StateKind::kMaster, "model.embed_tokens.weight", parameter, box, 0, box.size(), values);
    } catch (const UserError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  // Of [200, 16] in three shards, whose second is 1088 elements, filled up.
  const Parameter embedding{Part::kEmbedding, -1, -1, {200, 16}};
  EXPECT_EQ(complaint(embedding, {0, 200, 0, 16}),
            folder.path() +
                ": master model.embed_tokens.weight: 1408 of 3200 elements are missing; the files of all ranks belong "
                "together");
  EXPECT_EQ(complaint(embedding, {0, 8, 3, 16}), "");
  EXPECT_NE(complaint({Part::kEmbedding, -1, -1, {16, 200}}, {0, 1, 0, 1}).find("of another model's parameter"),
            std::string::npos);
}

TEST(StateFiles, NamesThatAreNoPieceAreRefused) {
  const auto complaint = [&](const std::string& tensor, TensorType type = TensorType::kF32) {
    const ScratchFolder folder;
    write_safetensors(folder / "optimizer-0.safetensors", {{tensor, type, {6}}}, {},
                      [](const TensorInfo& info, const TensorSink& sink) {
                        sink(std::vector<std::byte>(static_cast<std::size_t>(info.bytes())));
                      });
    try {
      const StateFiles files(folder.path());
    } catch (const UserError& error) {
      EXPECT_NE(std::string(error.what()).find(": is no piece of an optimizer state"), std::string::npos);
      return true;
    }
    return false;
  };
  EXPECT_FALSE(complaint("master a 4x5 0:2 1:4 0:6"));
  EXPECT_TRUE(complaint("master a 4x5 0:2 1:4 0:6", TensorType::kBf16));
  for (const char* name : {"a", "master a 4x5 0:2 1:4 0:5", "master a 4x5 0:2 1:4 1:7", "master a 4x5 0:2 4:7 0:6",
                           "master a 4x5 2:0 4:1 0:6", "master a 4x5 0:2 1:4 -6:0", "master a 4:5 0:2 1:4 0:6",
                           "master a 4x5 0:2 1:4 0:6x", "master a 9999999999999x9999999999999 0:2 1:4 0:6",
                           "master a 4x99999999999999999999 0:2 1:4 0:6"})
    EXPECT_TRUE(complaint(name)) << name;
}

}  // namespace
}  // namespace msmoe::executor
