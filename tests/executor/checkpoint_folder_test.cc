// The protocol of checkpoint_folder.h: whatever stops it, the last good checkpoint is found.
#include "executor/checkpoint/checkpoint_folder.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <optional>
#include <set>
#include <stdexcept>

#include "core/error.h"
#include "tests/executor/scratch_folder.h"
#include "tests/file_limit.h"

namespace msmoe::executor {
namespace {

namespace fs = std::filesystem;

// A checkpoint of two files that tell their step, and which attempt at it wrote them.
std::vector<FileRecord> write_files(const std::string& folder, std::int64_t step, const std::string& attempt) {
  return {write_file(folder + "/weights", "weights of step " + std::to_string(step) + attempt),
          write_file(folder + "/optimizer", std::string(10'000, 'o') + std::to_string(step))};
}

std::vector<std::string> save(CheckpointFolder& checkpoints, std::int64_t step, const std::string& attempt = "") {
  const std::string folder = checkpoints.begin(step);
  return checkpoints.commit(step, write_files(folder, step, attempt));
}

// The text of the newest good checkpoint's weights: "weights of step N".
std::string found_weights(const CheckpointFolder& checkpoints) {
  return read_bytes(checkpoints.find_latest().folder + "/weights");
}

std::set<std::string> names_in(const std::string& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename().string());
  return names;
}

// Saves in a process of its own that dies after so many steps of the protocol, 0 being before the first. True where it
// died, false where it came to the end before.
bool save_and_die(const std::string& path, std::int64_t step, const std::string& attempt, int after_steps) {
  const pid_t child = ::fork();
  if (child == 0) {
    int steps_left = after_steps;
    CheckpointFolder checkpoints(path, {.keep = 2, .after_step = [&](const std::string&) {
                                          if (--steps_left == 0) ::_exit(9);
                                        }});
    const std::string folder = checkpoints.begin(step);
    const auto files = write_files(folder, step, attempt);
    if (after_steps == 0) ::_exit(9);
    checkpoints.commit(step, files);
    ::_exit(0);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  return WEXITSTATUS(status) == 9;
}

void flip_a_bit(const std::string& path) {
  std::string bytes = read_bytes(path);
  bytes[bytes.size() / 2] ^= 1;
  write_bytes(path, bytes);
}

std::string complaint_of(const CheckpointFolder& checkpoints) {
  try {
    checkpoints.find_latest();
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(CheckpointFolder, FindsWhatItSaved) {
  const ScratchFolder scratch;
  CheckpointFolder checkpoints(scratch / "run/checkpoints");
  EXPECT_EQ(save(checkpoints, 10), std::vector<std::string>{});
  const FoundCheckpoint found = checkpoints.find_latest();
  EXPECT_EQ(found.folder, scratch / "run/checkpoints/step-10");
  EXPECT_EQ(found.manifest.step, 10);
  EXPECT_TRUE(found.warnings.empty());
  ASSERT_EQ(found.manifest.files.size(), 2u);
  EXPECT_EQ(found.manifest.files[1], measure_file(found.folder + "/optimizer"));
  EXPECT_EQ(read_bytes(found.folder + "/weights"), "weights of step 10");
  EXPECT_EQ(read_bytes(scratch / "run/checkpoints/latest"), "step-10\n");
}

TEST(CheckpointFolder, KeepsTheNewest) {
  const ScratchFolder scratch;
  CheckpointFolder checkpoints(scratch.path(), {.keep = 2});
  for (const std::int64_t step : {5, 10, 100, 20}) save(checkpoints, step);
  // 100 is after the last one saved, so it is not counted: a training that was set back must not lose what it writes.
  EXPECT_EQ(checkpoints.steps(), (std::vector<std::int64_t>{10, 20, 100}));
  EXPECT_EQ(found_weights(checkpoints), "weights of step 20");
  EXPECT_EQ(names_in(scratch.path()), (std::set<std::string>{"latest", "step-10", "step-20", "step-100"}));

  CheckpointFolder all(scratch.path(), {.keep = 0});
  save(all, 200);
  EXPECT_EQ(all.steps().size(), 4u);
}

TEST(CheckpointFolder, NoneIsAUserError) {
  const ScratchFolder scratch;
  const std::string expected = ": holds no checkpoint; a folder step-N with a manifest.json is expected";
  EXPECT_EQ(complaint_of(CheckpointFolder(scratch.path())), scratch.path() + expected);
  EXPECT_EQ(complaint_of(CheckpointFolder(scratch / "gone")), (scratch / "gone") + expected);
}

// A kill after every step of the protocol, in turn: what is found is the new checkpoint or the one before, whole; and
// the next save works as ever.
TEST(CheckpointFolder, AKillBetweenAnyTwoStepsLosesNothing) {
  bool died = true;
  int after_steps = 0;
  for (; died; ++after_steps) {
    const ScratchFolder scratch;
    CheckpointFolder checkpoints(scratch.path(), {.keep = 2});
    for (const std::int64_t step : {10, 20}) save(checkpoints, step);
    died = save_and_die(scratch.path(), 30, "", after_steps);
    const FoundCheckpoint found = checkpoints.find_latest();
    EXPECT_TRUE(found.manifest.step == 20 || found.manifest.step == 30) << after_steps;
    EXPECT_TRUE(found.warnings.empty()) << after_steps << ": " << found.warnings[0];
    EXPECT_TRUE(died || found.manifest.step == 30);

    save(checkpoints, 40);
    EXPECT_EQ(found_weights(checkpoints), "weights of step 40");
    for (const std::string& name : names_in(scratch.path()))
      EXPECT_TRUE(name == "latest" || name.find('.') == std::string::npos) << after_steps << " left " << name;
    EXPECT_LE(checkpoints.steps().size(), 2u);
  }
  EXPECT_GE(after_steps, 10);
}

// The same where the step was saved before and is written anew: at every moment one of the two is there, and a second
// attempt that dies at the same place loses nothing either.
TEST(CheckpointFolder, AKillWhileAStepIsReplacedLosesNothing) {
  bool died = true;
  int after_steps = 0;
  for (; died; ++after_steps) {
    const ScratchFolder scratch;
    CheckpointFolder checkpoints(scratch.path(), {.keep = 1});
    save(checkpoints, 20, ", first");
    for (const char* attempt : {", second", ", third"}) {
      died = save_and_die(scratch.path(), 20, attempt, after_steps);
      EXPECT_TRUE(found_weights(checkpoints).starts_with("weights of step 20, ")) << after_steps;
    }
    EXPECT_TRUE(died || found_weights(checkpoints) == "weights of step 20, third");
    save(checkpoints, 20, ", last");
    EXPECT_EQ(found_weights(checkpoints), "weights of step 20, last");
    EXPECT_EQ(names_in(scratch.path()), (std::set<std::string>{"latest", "step-20"})) << after_steps;
  }
  EXPECT_GE(after_steps, 12);
}

TEST(CheckpointFolder, AFullDiskLosesNothing) {
  const ScratchFolder scratch;
  CheckpointFolder checkpoints(scratch.path());
  save(checkpoints, 10);
  for (const rlim_t room : {0, 5, 4'000, 10'001}) {
    std::string complaint;
    {
      const FileLimit full_disk(room);
      try {
        save(checkpoints, 20);
      } catch (const UserError&) {
        complaint = "a fault is no mistake of the user's";
      } catch (const std::runtime_error& error) {
        complaint = error.what();
      }
      checkpoints.abandon(20);
    }
    EXPECT_NE(complaint.find("cannot be written: File too large"), std::string::npos) << complaint;
    EXPECT_EQ(found_weights(checkpoints), "weights of step 10");
    EXPECT_EQ(names_in(scratch.path()), (std::set<std::string>{"latest", "step-10"}));
  }
  save(checkpoints, 20);
  EXPECT_EQ(found_weights(checkpoints), "weights of step 20");
}

TEST(CheckpointFolder, DamageIsNamedAndAnOlderOneIsTaken) {
  struct Case {
    std::function<void(const std::string& folder)> damage;
    std::string warning;  // after the folder's name
  };
  const std::vector<Case> cases = {
      {[](const std::string& folder) { flip_a_bit(folder + "/optimizer"); }, "/optimizer: has checksum "},
      {[](const std::string& folder) { fs::resize_file(folder + "/optimizer", 10); },
       "/optimizer: has 10 bytes; the manifest says 10002"},
      {[](const std::string& folder) { fs::remove(folder + "/weights"); }, "/weights: missing; the manifest lists it"},
      {[](const std::string& folder) { fs::remove(folder + "/manifest.json"); }, "/manifest.json: cannot be read"},
      {[](const std::string& folder) { fs::resize_file(folder + "/manifest.json", 20); },
       "/manifest.json: line 2, column "},
      {[](const std::string& folder) {
         fs::copy_file(fs::path(folder).parent_path() / "step-10/manifest.json", folder + "/manifest.json",
                       fs::copy_options::overwrite_existing);
       },
       "/manifest.json: step: found 10; the folder is that of step 30"},
  };
  for (const Case& one : cases) {
    const ScratchFolder scratch;
    CheckpointFolder checkpoints(scratch.path(), {.keep = 0});
    for (const std::int64_t step : {10, 20, 30}) save(checkpoints, step);
    one.damage(scratch / "step-30");
    const FoundCheckpoint found = checkpoints.find_latest();
    EXPECT_EQ(found.manifest.step, 20);
    ASSERT_EQ(found.warnings.size(), 1u) << one.warning;
    EXPECT_TRUE(found.warnings[0].starts_with(scratch / "step-30" + one.warning)) << found.warnings[0];

    for (const char* name : {"step-10", "step-20"}) flip_a_bit(scratch / name + "/weights");
    const std::string complaint = complaint_of(checkpoints);
    EXPECT_TRUE(complaint.starts_with(scratch.path() + ": holds no good checkpoint: ")) << complaint;
    EXPECT_TRUE(complaint.ends_with("; 2 more are damaged")) << complaint;
  }
}

// Every single flipped bit of a manifest is noticed or changes nothing that is read.
TEST(CheckpointFolder, AFlippedBitOfTheManifestIsNoticed) {
  const ScratchFolder scratch;
  CheckpointFolder checkpoints(scratch.path());
  save(checkpoints, 10);
  const Manifest manifest = checkpoints.find_latest().manifest;
  const std::string path = scratch / "step-10/manifest.json";
  const std::string text = read_bytes(path);
  for (std::size_t bit = 0; bit < 8 * text.size(); ++bit) {
    std::string flipped = text;
    flipped[bit / 8] ^= static_cast<char>(1 << (bit % 8));
    write_bytes(path, flipped);
    try {
      EXPECT_EQ(checkpoints.find_latest().manifest, manifest) << flipped;
    } catch (const UserError&) {
    }
  }
}

TEST(CheckpointFolder, LatestMayBeLostOrNonsense) {
  const ScratchFolder scratch;
  CheckpointFolder checkpoints(scratch.path());
  for (const std::int64_t step : {10, 9}) save(checkpoints, step);
  EXPECT_EQ(found_weights(checkpoints), "weights of step 9");

  for (const char* text : {"", "step-", "step-09", "step-11\n", "step-9 \n", "step--1", "step-99999999999999999999"}) {
    write_bytes(scratch / "latest", text);
    const FoundCheckpoint found = checkpoints.find_latest();
    EXPECT_EQ(found.manifest.step, 10) << text;
    ASSERT_EQ(found.warnings.size(), 1u) << text;
    EXPECT_TRUE(found.warnings[0].starts_with(scratch / "latest: ")) << found.warnings[0];
  }
  fs::remove(scratch / "latest");
  EXPECT_EQ(checkpoints.find_latest().manifest.step, 10);
}

// What "latest" did not follow is better than nothing.
TEST(CheckpointFolder, AfterAllOlderOnesANewerOneIsTaken) {
  const ScratchFolder scratch;
  CheckpointFolder checkpoints(scratch.path());
  for (const std::int64_t step : {30, 10}) save(checkpoints, step);
  flip_a_bit(scratch / "step-10/weights");
  EXPECT_EQ(checkpoints.find_latest().manifest.step, 30);
}

TEST(CheckpointFolder, FilesThatWereNotWrittenAreAFault) {
  const ScratchFolder scratch;
  CheckpointFolder checkpoints(scratch.path());
  const std::string folder = checkpoints.begin(10);
  auto files = write_files(folder, 10, "");
  files.push_back({"of another rank", 7, 0});
  EXPECT_THROW(checkpoints.commit(10, files), std::runtime_error);
  files.back() = {"weights", 7, 0};
  EXPECT_THROW(checkpoints.commit(10, files), std::runtime_error);
  EXPECT_TRUE(checkpoints.steps().empty());
}

TEST(CheckpointFolder, LeavesAloneWhatIsNotItsOwn) {
  const ScratchFolder scratch;
  for (const char* name : {"notes.writing", "step-x.writing", "step-01", "other"}) fs::create_directory(scratch / name);
  write_bytes(scratch / "step-7", "a file");
  CheckpointFolder checkpoints(scratch.path(), {.keep = 1});
  for (const std::int64_t step : {8, 9}) save(checkpoints, step);
  EXPECT_EQ(names_in(scratch.path()), (std::set<std::string>{"latest", "notes.writing", "other", "step-01", "step-7",
                                                             "step-9", "step-x.writing"}));
}

}  // namespace
}  // namespace msmoe::executor
