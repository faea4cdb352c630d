#include "executor/training/checkpoints.h"

#include <fmt/format.h>

#include <filesystem>
#include <stdexcept>
#include <utility>

#include "core/data_files.h"
#include "core/error.h"
#include "core/text_file.h"
#include "executor/blocked_signals.h"
#include "executor/parameters/assemble.h"
#include "executor/training/parts.h"
#include "executor/training/same_model.h"

namespace msmoe::executor {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfigFile = "config.json";
constexpr const char* kPlanFile = "plan.json";

ModelFormat format_of(const TrainedModel& trained, std::int64_t largest_file) {
  return {.type = trained.plan.precision == Precision::kFp32 ? TensorType::kF32 : TensorType::kBf16,
          .order = rotary_order(trained.numerics),
          .largest_bytes = largest_file};
}

std::string given_up(std::int64_t step, const std::string& why) {
  return fmt::format("the checkpoint of step {} was given up: {}", step, why);
}

}  // namespace

Checkpoints::Checkpoints(const TrainedModel& trained, ParameterStore& store, std::string path, Exchange exchange,
                         CheckpointsOptions options)
    : trained_(trained),
      store_(store),
      folder_(std::move(path), options.folder),
      exchange_(std::move(exchange)),
      options_(std::move(options)),
      config_(read_text_file(find_data_file("models", trained.model.name))) {}

std::vector<std::string> Checkpoints::save(const TrainingState& state) {
  std::vector<std::string> lines = finish();
  exchange_("");  // nobody writes any more to what begin() clears away
  std::string failure;
  if (trained_.rank == 0) try {
      folder_.begin(state.step);
    } catch (const std::runtime_error& error) {
      failure = error.what();
    }
  failure = exchange_(failure).front();
  if (failure.empty()) {
    const BlockedSignals blocked;
    thread_ = std::jthread([this, state, snapshot = StateSnapshot(store_, trained_.model)](
                               const std::stop_token& stop) { write(snapshot, state, stop); });
  } else if (trained_.rank == 0) {
    lines.push_back(given_up(state.step, failure));
  }
  return lines;
}

std::vector<std::string> Checkpoints::finish() {
  if (thread_.joinable()) thread_.join();
  if (fault_) std::rethrow_exception(std::exchange(fault_, nullptr));
  return std::exchange(lines_, {});
}

void Checkpoints::write(const StateSnapshot& snapshot, const TrainingState& state, const std::stop_token& stop) try {
  std::string failure;
  try {
    write_part(snapshot, state.step);
  } catch (const std::runtime_error& error) {
    failure = error.what();
    tell_failed(folder_.writing_folder(state.step), trained_.rank);
  }
  if (trained_.rank == 0) try {
      commit(state, stop);
    } catch (const std::runtime_error& error) {
      if (failure.empty()) failure = error.what();
      abandon(state.step);
    }
  if (!failure.empty()) lines_.push_back(given_up(state.step, failure));
} catch (...) {
  fault_ = std::current_exception();
}

void Checkpoints::write_part(const StateSnapshot& snapshot, std::int64_t step) const {
  const std::string folder = folder_.writing_folder(step);
  tell_written(folder, trained_.rank, {step, {snapshot.write(folder, trained_.rank)}});
}

// A rank that did not tell in time may write still; the next begin() clears away what is left.
void Checkpoints::abandon(std::int64_t step) try { folder_.abandon(step); } catch (const std::runtime_error&) {
}

// By rank 0.
void Checkpoints::commit(const TrainingState& state, const std::stop_token& stop) {
  const std::string folder = folder_.writing_folder(state.step);
  std::vector<FileRecord> files =
      take_parts(folder, static_cast<int>(trained_.plan.gpus), state.step, options_.patience, stop);
  for (FileRecord& file :
       assemble_model(StateFiles(folder), trained_.model, folder, format_of(trained_, options_.largest_file)))
    files.push_back(std::move(file));
  const auto write = [&](const char* name, const std::string& text) {
    files.push_back(write_file(fs::path(folder) / name, text));
  };
  write(kConfigFile, config_);
  write(kPlanFile, plan_to_json(trained_.plan));
  write(kTrainingFile, to_json(state));
  lines_ = folder_.commit(state.step, files);
}

ResumedTraining Checkpoints::load() {
  ResumedTraining resumed;
  std::string complaint;
  if (trained_.rank == 0) try {
      FoundCheckpoint found = folder_.find_latest();
      resumed.folder = std::move(found.folder);
      resumed.warnings = std::move(found.warnings);
    } catch (const UserError& error) {
      complaint = error.what();
    }
  complaint = exchange_(complaint).front();
  if (!complaint.empty()) throw UserError("", "", complaint);
  resumed.folder = exchange_(resumed.folder).front();

  require_same_model(fs::path(resumed.folder) / kConfigFile, trained_.model, trained_.numerics);
  resumed.state = read_training_state(resumed.folder);
  if (const std::int64_t step = read_manifest(resumed.folder).step; step != resumed.state.step)
    throw UserError(fs::path(resumed.folder) / kTrainingFile, "step", fmt::format("found {}", resumed.state.step),
                    fmt::format("the checkpoint is of step {}", step));
  restore_state(store_, trained_.model, StateFiles(resumed.folder));
  return resumed;
}

}  // namespace msmoe::executor
