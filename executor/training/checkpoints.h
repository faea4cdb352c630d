// Checkpoints: those of a running training, written while it goes on, and read again under any plan of the same model.
//
//     Checkpoints checkpoints({.model = model, ...}, trainer.store(), "run/checkpoints",
//                             [&](const std::string& bytes) { return rendezvous.exchange(bytes); });
//     ResumedTraining resumed = checkpoints.load();              // to go on
//     ...
//     for (const std::string& line : checkpoints.save(state)) tell(line);
//     for (const std::string& line : checkpoints.finish()) tell(line);
//
// All ranks of the training share the folder. What is in a checkpoint: README.md here.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "core/model.h"
#include "core/plan.h"
#include "executor/checkpoint/checkpoint_folder.h"
#include "executor/model_numerics.h"
#include "executor/parameters/parameter_store.h"
#include "executor/parameters/state_files.h"
#include "executor/training/training_state.h"

namespace msmoe::executor {

// What the checkpoints are of; all that it refers to outlives them.
struct TrainedModel {
  const Model& model;  // of a file, or shipped: its config.json is copied
  const ModelNumerics& numerics;
  const Plan& plan;
  int rank = 0;
};

struct CheckpointsOptions {
  CheckpointOptions folder;
  std::chrono::milliseconds patience = std::chrono::minutes(10);  // until all ranks have written, after rank 0 has
  std::int64_t largest_file = 5'000'000'000;                      // bytes of a file of the model
};

struct ResumedTraining {
  std::string folder;  // of the checkpoint
  TrainingState state;
  std::vector<std::string> warnings;  // of rank 0: what was wrong with newer checkpoints, for the user to see
};

// save() and load() are collective over all ranks, and called between steps by the thread that trains.
//
// A checkpoint that cannot be written, as on a full disk, does not end the training: the one before stays the newest,
// what was written of it is removed, and the next save() or finish() returns one line about it, on rank 0 and on the
// rank that had the trouble. Faults of another kind are thrown there as they are.
class Checkpoints {
 public:
  // Every rank's bytes, in order: Rendezvous::exchange.
  using Exchange = std::function<std::vector<std::string>(const std::string& bytes)>;

  Checkpoints(const TrainedModel& trained, ParameterStore& store, std::string path, Exchange exchange,
              CheckpointsOptions options = {});
  // Without finish(), the last checkpoint may be given up.
  ~Checkpoints() = default;
  Checkpoints(const Checkpoints&) = delete;
  Checkpoints& operator=(const Checkpoints&) = delete;

  // Copies this rank's masters and moments to host memory, fp32, and returns; a thread writes them. Waits for the
  // checkpoint before, whose lines it returns.
  std::vector<std::string> save(const TrainingState& state);
  // Waits for the last checkpoint: on rank 0 until it is committed, elsewhere until this rank's part of it is written.
  std::vector<std::string> finish();

  // The newest good checkpoint, chosen and verified by rank 0, into the store: masters, moments, weights. A UserError
  // on all ranks where there is none, or where it is of another model; it names the file.
  ResumedTraining load();

 private:
  void write(const StateSnapshot& snapshot, const TrainingState& state, const std::stop_token& stop);
  void write_part(const StateSnapshot& snapshot, std::int64_t step) const;
  void commit(const TrainingState& state, const std::stop_token& stop);
  void abandon(std::int64_t step);

  TrainedModel trained_;
  ParameterStore& store_;
  CheckpointFolder folder_;
  Exchange exchange_;
  CheckpointsOptions options_;
  std::string config_;  // the model's config.json

  // The thread's until it was joined.
  std::vector<std::string> lines_;
  std::exception_ptr fault_;
  std::jthread thread_;  // the last member: it is stopped and joined before the others go
};

}  // namespace msmoe::executor
