#include "core/data_files.h"

#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <set>
#include <string_view>
#include <system_error>

#include "core/error.h"

namespace msmoe {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kExtension = ".json";
constexpr std::string_view kProfile = ".profile";  // clusters/NAME.profile.json lies beside clusters/NAME.json

std::vector<fs::path> data_folders(const std::string& folder) {
  std::vector<fs::path> folders;
  if (const char* chosen = std::getenv("MSMOE_DATA_DIR"); chosen != nullptr && *chosen != '\0')
    folders.push_back(fs::path(chosen) / folder);
  std::error_code unknown;
  const fs::path program = fs::read_symlink("/proc/self/exe", unknown);
  if (!unknown) folders.push_back(program.parent_path().parent_path() / "share" / "msmoe" / folder);
  folders.push_back(fs::path(MSMOE_SOURCE_DIR) / folder);
  return folders;
}

// Not a folder; a pipe or a device is as good as a file.
bool is_readable_file(const fs::path& path) {
  std::error_code unknown;
  return fs::exists(path, unknown) && !fs::is_directory(path, unknown);
}

}  // namespace

std::string find_data_file(const std::string& folder, const std::string& name_or_path) {
  if (is_readable_file(name_or_path)) return name_or_path;
  // A name with a slash means one file and no other.
  if (!name_or_path.empty() && name_or_path.find('/') == std::string::npos)
    for (const fs::path& place : data_folders(folder))
      for (const std::string_view extension : {std::string_view{}, kExtension})
        if (const fs::path path = place / (name_or_path + std::string(extension)); is_readable_file(path))
          return path.string();

  const std::vector<std::string> names = shipped_names(folder);
  const std::string nearest = nearest_word(name_or_path, names);
  throw UserError(name_or_path, "", fmt::format("no such file, and no name in {}/", folder),
                  nearest.empty() ? fmt::format("these ship: {}", join(names))
                                  : fmt::format("did you mean \"{}\"? These ship: {}", nearest, join(names)));
}

std::vector<std::string> shipped_names(const std::string& folder) {
  std::set<std::string> names;
  for (const fs::path& place : data_folders(folder)) {
    std::error_code missing;
    for (const fs::directory_entry& entry : fs::directory_iterator(place, missing))
      if (entry.path().extension() == kExtension && entry.path().stem().extension() != kProfile)
        names.insert(entry.path().stem().string());
  }
  return {names.begin(), names.end()};
}

}  // namespace msmoe
