// Tiny models with what `transformers` computes for them (tests/executor/reference), and training runs of them under
// any plan, one process a rank.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/cluster.h"
#include "executor/backend/cpu_backend.h"
#include "executor/checkpoint/hf_names.h"
#include "executor/checkpoint/model_files.h"
#include "executor/communication/communicators.h"
#include "executor/communication/lone_communicator.h"
#include "executor/parameters/initialize.h"
#include "executor/training/trainer.h"

namespace msmoe::executor {

inline const std::vector<std::string>& tiny_models() {
  static const std::vector<std::string> names = {"mixtral", "qwen3_moe", "mixed", "deepseek_v3"};
  return names;
}
inline std::string tiny_folder(const std::string& name) {
  return std::string(MSMOE_SOURCE_DIR) + "/tests/executor/reference/" + name;
}

struct TinyModel {
  explicit TinyModel(const std::string& name)
      : folder(tiny_folder(name)),
        model(find_model(folder + "/config.json")),
        numerics(read_numerics(model)),
        names(model),
        weights(folder),
        cluster(find_cluster("cpu")) {}

  Plan plan() const {
    Plan plan;
    plan.model = folder + "/config.json";
    plan.cluster = "cpu";
    plan.global_batch = 8;
    plan.seq_len = 32;
    plan.precision = Precision::kFp32;
    plan.grad_wire = plan.act_wire = WireFormat::kFp32;
    plan.master_bytes = 0;
    plan.communication_sms = 0;
    return plan;
  }

  std::string folder;
  Model model;
  ModelNumerics numerics;
  HfNames names;
  ModelReader weights;
  Cluster cluster;
};

// Tokens that follow one another in a pattern, some at random.
inline std::vector<std::int32_t> tiny_tokens(std::int64_t sequences, std::int64_t seq_len, int step, int shift) {
  std::vector<std::int32_t> tokens;
  for (std::int64_t sequence = 0; sequence < sequences; ++sequence) {
    for (std::int64_t at = shift; at < seq_len + shift; ++at) {
      const auto mixed = static_cast<std::uint64_t>((step * 977 + sequence) * 131 + at) * 0x9E3779B97F4A7C15ULL;
      tokens.push_back(
          static_cast<std::int32_t>((mixed >> 33) % 7 == 0 ? (mixed >> 40) % 256 : (at * 37 + sequence) % 256));
    }
  }
  return tokens;
}

// One rank's trainer with everything that it works with.
struct TinyRank {
  TinyRank(const TinyModel& tiny, const Plan& given, int rank, Trainer::Communicators communicators,
           const LossCoefficients& coefficients = {})
      : plan(given),
        trainer(tiny.model, tiny.numerics, tiny.cluster, plan, rank, backend, std::move(communicators), coefficients,
                position) {
    load_weights(trainer.store(), tiny.model, tiny.weights, rotary_order(tiny.numerics));
  }
  // Of this data rank.
  StepResult accumulate(int step) {
    const std::int64_t each = plan.global_batch / plan.dp();
    const auto share = [&](std::vector<std::int32_t> all) {
      const auto first = all.begin() + trainer.place().data * each * plan.seq_len;
      return std::vector<std::int32_t>(first, first + each * plan.seq_len);
    };
    return trainer.accumulate(share(tiny_tokens(plan.global_batch, plan.seq_len, step, 0)),
                              share(tiny_tokens(plan.global_batch, plan.seq_len, step, 1)));
  }

  Plan plan;
  CpuBackend backend;
  Position position;
  Trainer trainer;
};

// What each of so many steps gave this rank.
inline std::vector<StepResult> train_tiny(const TinyModel& tiny, const Plan& plan, int rank_idx,
                                          Trainer::Communicators communicators, int steps) {
  TinyRank rank(tiny, plan, rank_idx, std::move(communicators));
  std::vector<StepResult> results;
  for (int step = 0; step < steps; ++step) {
    results.push_back(rank.accumulate(step));
    rank.trainer.update({.step = step + 1, .rate = 2e-3, .clip = 1}, 0);
  }
  return results;
}

}  // namespace msmoe::executor
