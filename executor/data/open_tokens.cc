#include "executor/data/open_tokens.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <iterator>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "core/error.h"
#include "executor/data/joined_tokens.h"
#include "executor/data/llm_c_tokens.h"
#include "executor/data/megatron_tokens.h"
#include "executor/data/synthetic_tokens.h"
#include "executor/data/text_tokens.h"
#include "executor/mapped_file.h"

namespace msmoe::executor {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kBin = ".bin", kIdx = ".idx", kSynthetic = "synthetic";

bool exists(const std::string& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

std::string without(std::string path, std::string_view extension) {
  if (path.ends_with(extension)) path.resize(path.size() - extension.size());
  return path;
}

// Nothing where this does not ask for made-up tokens.
std::optional<std::uint64_t> synthetic_seed(std::string_view data) {
  if (!data.starts_with(kSynthetic)) return std::nullopt;
  std::string_view rest = data.substr(kSynthetic.size());
  if (rest.empty()) return 0;
  if (rest.front() != ':') return std::nullopt;
  rest.remove_prefix(1);
  std::uint64_t seed = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), seed);
  if (error != std::errc{} || end != rest.data() + rest.size())
    throw UserError(std::string(data), "", "has no seed that can be read",
                    "a whole number from 0 to 2^64 - 1 is allowed");
  return seed;
}

// The prefix, where this names a Megatron pair.
std::optional<std::string> megatron_prefix(const std::string& path) {
  if (path.ends_with(kIdx)) return without(path, kIdx);
  if (path.ends_with(kBin) && exists(without(path, kBin) + std::string(kIdx))) return without(path, kBin);
  if (!exists(path) && exists(path + std::string(kIdx))) return path;
  return std::nullopt;
}

std::unique_ptr<TokenSource> open_file(const std::string& path, std::int64_t vocabulary_size) {
  if (const auto prefix = megatron_prefix(path)) return open_megatron(*prefix, vocabulary_size);
  auto file = std::make_shared<const MappedFile>(path);
  if (is_llm_c(*file)) return open_llm_c(std::move(file), vocabulary_size);
  if (path.ends_with(kBin) || !is_text(*file))
    throw UserError(path, "", "is of no format that is read",
                    "allowed are text, a .bin of llm.c, and a .bin of Megatron with its .idx beside it");
  return open_text(std::move(file), vocabulary_size);
}

std::vector<std::string> files_of(const std::string& folder) {
  std::vector<std::string> files;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    std::error_code ignored;
    if (it->is_regular_file(ignored) && !it->path().filename().string().starts_with("."))
      files.push_back(it->path().string());
  }
  if (error) throw UserError(folder, "", "cannot be read: " + error.message());
  if (files.empty()) throw UserError(folder, "", "has no file in it", "put text or tokenized files there");
  std::ranges::sort(files);
  return files;
}

std::vector<std::string> all_files(const std::vector<std::string>& data) {
  std::vector<std::string> files;
  for (const std::string& path : data) {
    std::error_code ignored;
    if (fs::is_directory(path, ignored) && !megatron_prefix(path)) {
      std::ranges::move(files_of(path), std::back_inserter(files));
    } else {
      files.push_back(path);
    }
  }
  std::vector<std::string> sorted = files;
  std::ranges::sort(sorted);
  std::erase_if(files, [&](const std::string& path) {
    return path.ends_with(kIdx) && std::ranges::binary_search(sorted, without(path, kIdx) + std::string(kBin));
  });
  return files;
}

}  // namespace

std::unique_ptr<TokenSource> open_tokens(const std::vector<std::string>& data, std::int64_t vocabulary_size) {
  if (data.empty()) throw UserError("", "", "no data is named", "name a file, a folder or synthetic");
  if (data.size() == 1)
    if (const auto seed = synthetic_seed(data[0])) return std::make_unique<SyntheticTokens>(*seed, vocabulary_size);

  std::vector<std::unique_ptr<TokenSource>> parts;
  for (const std::string& path : all_files(data)) parts.push_back(open_file(path, vocabulary_size));
  std::unique_ptr<TokenSource> tokens =
      parts.size() == 1 ? std::move(parts[0]) : std::make_unique<JoinedTokens>(std::move(parts));
  if (tokens->num_tokens() == 0) throw UserError(tokens->name(), "", "holds no token", "1 or more are needed");
  return tokens;
}

}  // namespace msmoe::executor
