// CheckpointFolder: a folder of checkpoints, the newest of which is found whatever happened to the process or the disk.
//
//   latest             one line, "step-2000": the checkpoint to go on from
//   step-1000/         a complete checkpoint: its files, and manifest.json with their sizes and checksums
//   step-2000/
//   step-3000.writing/   one that is being written, or was when the process ended
//   step-2000.replaced/  a complete one that was written anew; it counts where step-2000 does not
//   step-500.removing/   one that is being removed
//
// A checkpoint is written in this order, so that it can stop after any step and lose nothing:
//
//   1. every file into step-N.writing, each written through to the disk;
//   2. manifest.json, written through; the folder's names written through;
//   3. step-N, where there is one already, becomes step-N.replaced;
//   4. step-N.writing becomes step-N: renaming is atomic, so step-N is complete whenever it is there;
//   5. "latest" written under another name, written through, and renamed;
//   6. replaced and old checkpoints are removed.
//
// One process begins and commits; others may write files in between. Two trainings need two folders.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "executor/checkpoint/manifest.h"

namespace msmoe::executor {

struct CheckpointOptions {
  int keep = 2;  // complete checkpoints that stay, the new one included; 0: all
  // Told of each step of commit() once it is done; for tests, which end the process there.
  std::function<void(const std::string& step)> after_step;
};

struct FoundCheckpoint {
  std::string folder;
  Manifest manifest;
  std::vector<std::string> warnings;  // what was wrong with newer ones, a line each, for the user to see
};

class CheckpointFolder {
 public:
  explicit CheckpointFolder(std::string path, CheckpointOptions options = {});

  // ---- Writing. What the disk refuses is a std::runtime_error; the newest complete checkpoint is then as it was.

  // An empty folder for the files of this step; what ended half-way before is cleared away. REQUIRES step >= 0.
  std::string begin(std::int64_t step);
  // The folder that begin() returned, for other processes.
  std::string writing_folder(std::int64_t step) const;
  // Makes a checkpoint of these files, which are all in the folder of begin(), and removes old ones: of those up to
  // this step the newest `keep` stay. When it returns the checkpoint survives a loss of power. Returns a line for each
  // old checkpoint that could not be removed.
  std::vector<std::string> commit(std::int64_t step, const std::vector<FileRecord>& files);
  // Gives up what begin() began, so that a full disk has room again.
  void abandon(std::int64_t step);

  // ---- Reading.

  // Steps of the complete checkpoints, ascending; not verified.
  std::vector<std::int64_t> steps() const;
  // The checkpoint that "latest" names; where that is damaged, the newest good one before it; where there is none, the
  // newest after it (complete, but of a training that "latest" did not follow). Reads every byte of what it returns. A
  // UserError where none is good.
  FoundCheckpoint find_latest() const;

 private:
  std::string step_folder(std::int64_t step, const char* suffix = "") const;
  std::vector<std::int64_t> steps_with(const std::string& suffix) const;
  void done(const std::string& step) const;
  void remove_old(std::int64_t step, std::vector<std::string>& warnings);
  void remove_folder(std::int64_t step, const char* suffix, std::vector<std::string>& warnings);
  std::vector<std::string> candidates(std::vector<std::string>& warnings) const;

  std::string path_;
  CheckpointOptions options_;
};

}  // namespace msmoe::executor
