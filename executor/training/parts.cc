#include "executor/training/parts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <stdexcept>
#include <thread>

#include "core/text_file.h"

namespace msmoe::executor {
namespace {

namespace fs = std::filesystem;

std::string written_name(int rank) { return fmt::format("part-{}.json", rank); }
std::string failed_name(int rank) { return fmt::format("part-{}.failed", rank); }

bool exists(const std::string& folder, const std::string& name) {
  std::error_code ignored;
  return fs::exists(fs::path(folder) / name, ignored);
}

std::string ranks_text(const std::vector<int>& ranks) {
  return fmt::format("{} {}", ranks.size() == 1 ? "rank" : "ranks", fmt::join(ranks, ", "));
}

}  // namespace

void tell_written(const std::string& folder, int rank, const Manifest& part) {
  write_text_file(fs::path(folder) / written_name(rank), to_json(part));
}

void tell_failed(const std::string& folder, int rank) noexcept {
  const std::ofstream created(fs::path(folder) / failed_name(rank));
}

std::vector<FileRecord> take_parts(const std::string& folder, int num_ranks, std::int64_t step,
                                   std::chrono::milliseconds patience, const std::stop_token& stop) {
  constexpr std::chrono::milliseconds kPause{10};
  const auto deadline = std::chrono::steady_clock::now() + patience;
  std::vector<int> silent(static_cast<std::size_t>(num_ranks)), failed;
  std::iota(silent.begin(), silent.end(), 0);
  std::vector<FileRecord> files;
  const auto has_told = [&](int rank) {
    if (exists(folder, failed_name(rank))) {
      failed.push_back(rank);
      return true;
    }
    if (!exists(folder, written_name(rank))) return false;
    const Manifest part = read_manifest(folder, written_name(rank));
    if (part.step != step) throw std::logic_error(fmt::format("a part of step {} in {}", part.step, folder));
    files.insert(files.end(), part.files.begin(), part.files.end());
    fs::remove(fs::path(folder) / written_name(rank));
    return true;
  };
  while (true) {
    std::erase_if(silent, has_told);
    if (silent.empty()) break;
    if (stop.stop_requested()) throw std::runtime_error("the training ended before all ranks had written their parts");
    if (std::chrono::steady_clock::now() >= deadline)
      throw std::runtime_error(fmt::format("{} did not write in {:g} s", ranks_text(silent),
                                           std::chrono::duration<double>(patience).count()));
    std::this_thread::sleep_for(kPause);
  }
  if (!failed.empty()) throw std::runtime_error(ranks_text(failed) + " could not write");
  std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return files;
}

}  // namespace msmoe::executor
