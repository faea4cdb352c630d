// training.json of a checkpoint: where a training stands, and what it needs to go on as it would have.
//
//   {"format": "msmoe training", "version": 1, "step": 1000, "position": 8000, "seed": "1",
//    "data": {"paths": ["corpus"], "num_tokens": 123456789, "seq_len": 4096},
//    "hyper_parameters": {"rate": 0.0003, "warmup": 100, ...}}
//
// The seed is a text, since numbers of JSON are exact up to 2^53 only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace msmoe::executor {

// Of the learning rate's course, of AdamW (UpdateSettings), and of what is added to the loss (LossCoefficients).
struct HyperParameters {
  double rate = 0, min_rate = 0;       // the peak, and the end
  std::int64_t warmup = 0, steps = 0;  // of the whole training
  double beta1 = 0, beta2 = 0, epsilon = 0, decay = 0, clip = 0;
  double auxiliary = 0, z = 0;
  double bias_rate = 0;
  bool operator==(const HyperParameters&) const = default;
};

struct TrainingState {
  std::int64_t step = 0;          // steps that are done
  std::int64_t position = 0;      // samples that all ranks together have read: Sampler::position()
  std::uint64_t seed = 0;         // of the order of samples, and of the first weights
  std::vector<std::string> data;  // as open_tokens takes it
  std::int64_t num_tokens = 0;    // of all data
  std::int64_t seq_len = 0;       // the position counts samples of this length
  HyperParameters hyper_parameters;
  bool operator==(const TrainingState&) const = default;
};

inline constexpr const char* kTrainingFile = "training.json";

std::string to_json(const TrainingState& state);
// The one in this folder. A UserError, naming file, key and value, where it is missing or is none.
TrainingState read_training_state(const std::string& folder);

// "rate is 0.0001, and was 0.0003": a line for each way in which a training would not go on as the saved one. Step and
// position are no such way.
std::vector<std::string> changes(const TrainingState& saved, const TrainingState& now);

}  // namespace msmoe::executor
