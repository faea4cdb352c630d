#include "executor/checkpoint/checkpoint_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "core/text_file.h"

namespace msmoe::executor {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLatest = "latest";
constexpr std::string_view kStep = "step-";
constexpr const char* kWriting = ".writing";
constexpr const char* kReplaced = ".replaced";
constexpr const char* kRemoving = ".removing";

// "step-1000", and nothing that is spelled another way.
std::optional<std::int64_t> parse_step(std::string_view name) {
  if (!name.starts_with(kStep)) return std::nullopt;
  const std::string_view digits = name.substr(kStep.size());
  std::int64_t step = -1;
  std::from_chars(digits.data(), digits.data() + digits.size(), step);
  if (step < 0 || std::to_string(step) != digits) return std::nullopt;
  return step;
}

bool exists(const std::string& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

void rename(const std::string& from, const std::string& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) disk_fault(from, "cannot be renamed to " + to);
}

void expect_written(const std::string& folder, const std::vector<FileRecord>& files) {
  for (const FileRecord& file : files) {
    const std::string path = fs::path(folder) / file.name;
    std::error_code error;
    const auto bytes = fs::file_size(path, error);
    if (error) throw std::runtime_error(fmt::format("{}: was to be written: {}", path, error.message()));
    if (bytes != static_cast<std::uintmax_t>(file.bytes))
      throw std::runtime_error(fmt::format("{}: has {} bytes, {} were written", path, bytes, file.bytes));
  }
}

}  // namespace

CheckpointFolder::CheckpointFolder(std::string path, CheckpointOptions options)
    : path_(std::move(path)), options_(std::move(options)) {}

std::string CheckpointFolder::step_folder(std::int64_t step, const char* suffix) const {
  return fs::path(path_) / fmt::format("{}{}{}", kStep, step, suffix);
}

std::string CheckpointFolder::writing_folder(std::int64_t step) const { return step_folder(step, kWriting); }

// Of folders "step-N" + suffix, ascending.
std::vector<std::int64_t> CheckpointFolder::steps_with(const std::string& suffix) const {
  std::vector<std::int64_t> steps;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(path_, ignored)) {
    std::string name = entry.path().filename().string();
    if (!name.ends_with(suffix) || !entry.is_directory(ignored)) continue;
    name.resize(name.size() - suffix.size());
    if (const auto step = parse_step(name)) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

std::vector<std::int64_t> CheckpointFolder::steps() const { return steps_with(""); }

void CheckpointFolder::done(const std::string& step) const {
  if (options_.after_step) options_.after_step(step);
}

std::string CheckpointFolder::begin(std::int64_t step) {
  assert(step >= 0);
  if (fs::create_directories(path_)) sync_folder(fs::absolute(path_ + "/.").parent_path().parent_path());
  for (const char* suffix : {kWriting, kRemoving})
    for (const std::int64_t left : steps_with(suffix)) fs::remove_all(step_folder(left, suffix));
  for (const std::int64_t left : steps_with(kReplaced))
    if (!exists(step_folder(left))) rename(step_folder(left, kReplaced), step_folder(left));
  fs::create_directory(writing_folder(step));
  return writing_folder(step);
}

void CheckpointFolder::abandon(std::int64_t step) { fs::remove_all(writing_folder(step)); }

std::vector<std::string> CheckpointFolder::commit(std::int64_t step, const std::vector<FileRecord>& files) {
  const std::string writing = writing_folder(step);
  const std::string complete = step_folder(step);
  expect_written(writing, files);
  write_file(fs::path(writing) / kManifestFile, to_json({step, files}));
  done("manifest written");
  sync_folder(writing);
  done("files synced");

  if (exists(complete)) {
    const std::string aside = step_folder(step, kReplaced);
    fs::remove_all(aside);
    done("earlier replaced one removed");
    rename(complete, aside);
    done("old one of this step moved aside");
  }
  rename(writing, complete);
  done("renamed");
  sync_folder(path_);
  done("name synced");

  const std::string latest = fs::path(path_) / kLatest;
  write_file(latest + kWriting, fmt::format("{}{}\n", kStep, step));
  done("latest written");
  rename(latest + kWriting, latest);
  done("latest renamed");
  sync_folder(path_);
  done("latest synced");

  std::vector<std::string> warnings;
  remove_old(step, warnings);
  return warnings;
}

void CheckpointFolder::remove_old(std::int64_t step, std::vector<std::string>& warnings) {
  for (const std::int64_t left : steps_with(kReplaced))
    if (exists(step_folder(left))) remove_folder(left, kReplaced, warnings);
  if (options_.keep == 0) return;
  std::vector<std::int64_t> old = steps();
  std::erase_if(old, [&](std::int64_t other) { return other > step; });
  const auto surplus = static_cast<std::int64_t>(old.size()) - options_.keep;
  for (std::int64_t idx = 0; idx < surplus; ++idx) remove_folder(old[static_cast<std::size_t>(idx)], "", warnings);
}

// Renamed first, so that no half of a checkpoint is ever called one.
void CheckpointFolder::remove_folder(std::int64_t step, const char* suffix, std::vector<std::string>& warnings) {
  const std::string removing = step_folder(step, kRemoving);
  try {
    fs::remove_all(removing);
    rename(step_folder(step, suffix), removing);
    done("renamed for removal");
    fs::remove_all(removing);
  } catch (const std::runtime_error& error) {
    warnings.emplace_back(error.what());
  }
  done("removed");
}

// Folders in the order in which to try them.
std::vector<std::string> CheckpointFolder::candidates(std::vector<std::string>& warnings) const {
  std::vector<std::int64_t> steps = this->steps();
  for (const std::int64_t step : steps_with(kReplaced))
    if (std::find(steps.begin(), steps.end(), step) == steps.end()) steps.push_back(step);
  std::sort(steps.rbegin(), steps.rend());
  if (steps.empty()) return {};

  const std::string latest = fs::path(path_) / kLatest;
  try {
    std::string text = read_text_file(latest);
    if (text.ends_with('\n')) text.pop_back();
    const std::optional<std::int64_t> step = parse_step(text);
    if (!step) throw UserError(latest, "", "found \"" + excerpt(text) + "\"", "\"step-N\" is expected");
    if (std::find(steps.begin(), steps.end(), *step) == steps.end())
      throw UserError(latest, "", fmt::format("names {}, which is not there", excerpt(text)));
    std::stable_partition(steps.begin(), steps.end(), [&](std::int64_t other) { return other <= *step; });
  } catch (const UserError& error) {
    warnings.emplace_back(error.what());
  }

  std::vector<std::string> folders;
  for (const std::int64_t step : steps)
    for (const char* suffix : {"", kReplaced})
      if (exists(step_folder(step, suffix))) folders.push_back(step_folder(step, suffix));
  return folders;
}

FoundCheckpoint CheckpointFolder::find_latest() const {
  FoundCheckpoint found;
  for (const std::string& folder : candidates(found.warnings)) {
    try {
      found.manifest = read_manifest(folder);
      const auto step = parse_step(fs::path(folder).stem().string());
      if (found.manifest.step != step)
        throw UserError(fs::path(folder) / kManifestFile, "step", fmt::format("found {}", found.manifest.step),
                        fmt::format("the folder is that of step {}", *step));
      verify_files(folder, found.manifest);
      found.folder = folder;
      return found;
    } catch (const UserError& error) {
      found.warnings.emplace_back(error.what());
    }
  }
  if (found.warnings.empty())
    throw UserError(path_, "", "holds no checkpoint", "a folder step-N with a manifest.json is expected");
  throw UserError(path_, "", "holds no good checkpoint: " + found.warnings.front(),
                  found.warnings.size() == 1 ? "" : fmt::format("{} more are damaged", found.warnings.size() - 1));
}

}  // namespace msmoe::executor
