#include "executor/checkpoint/manifest.h"

#include <fmt/format.h>

#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "core/error.h"
#include "core/json_reader.h"

namespace msmoe::executor {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFormat = "msmoe checkpoint";
constexpr std::int64_t kVersion = 1;

std::string hex(std::uint32_t checksum) { return fmt::format("{:08x}", checksum); }

std::optional<std::uint32_t> parse_hex(const std::string& text) {
  std::uint32_t checksum = 0;
  std::from_chars(text.data(), text.data() + text.size(), checksum, 16);
  if (hex(checksum) != text) return std::nullopt;
  return checksum;
}

FileRecord read_record(JsonObject object) {
  FileRecord record{.name = object.text("name"), .bytes = object.integer("bytes", {.min = 0})};
  if (!is_plain_name(record.name) || record.name == kManifestFile)
    object.fail("name", "found \"" + excerpt(record.name) + "\"", "the name of a file beside the manifest is allowed");
  const std::string text = object.text("crc32c");
  const std::optional<std::uint32_t> checksum = parse_hex(text);
  if (!checksum) object.fail("crc32c", "found \"" + excerpt(text) + "\"", "eight hexadecimal digits are allowed");
  record.crc32c = *checksum;
  object.refuse_unknown_keys();
  return record;
}

}  // namespace

std::string to_json(const Manifest& manifest) {
  Json json = {{"format", kFormat}, {"version", kVersion}, {"step", manifest.step}};
  json["files"] = Json::array();
  for (const FileRecord& file : manifest.files)
    json["files"].push_back({{"name", file.name}, {"bytes", file.bytes}, {"crc32c", hex(file.crc32c)}});
  return json.dump(1) + "\n";
}

Manifest read_manifest(const std::string& folder, const std::string& name) {
  const JsonDocument document = read_json_file(fs::path(folder) / name);
  JsonObject root = document.root();
  const std::string format = root.text("format");
  if (format != kFormat)
    root.fail("format", "found \"" + excerpt(format) + "\"", fmt::format("\"{}\" is read", kFormat));
  const std::int64_t version = root.integer("version");
  if (version != kVersion)
    root.fail("version", fmt::format("found {}", version), fmt::format("version {} is read", kVersion));
  Manifest manifest{.step = root.integer("step", {.min = 0})};
  std::set<std::string> names;
  for (JsonObject& object : root.objects("files")) {
    manifest.files.push_back(read_record(object));
    if (!names.insert(manifest.files.back().name).second)
      object.fail("name", excerpt(manifest.files.back().name) + " appears twice");
  }
  root.refuse_unknown_keys();
  return manifest;
}

void verify_files(const std::string& folder, const Manifest& manifest) {
  for (const FileRecord& file : manifest.files) {
    const std::string path = fs::path(folder) / file.name;
    std::error_code error;
    if (!fs::is_regular_file(path, error)) throw UserError(path, "", "missing", "the manifest lists it");
    const auto bytes = fs::file_size(path, error);
    if (error) throw UserError(path, "", "cannot be read: " + error.message());
    if (bytes != static_cast<std::uintmax_t>(file.bytes))
      throw UserError(path, "", fmt::format("has {} bytes", bytes), fmt::format("the manifest says {}", file.bytes));
  }
  for (const FileRecord& file : manifest.files) {
    const std::string path = fs::path(folder) / file.name;
    const FileRecord found = measure_file(path);
    if (found != file)
      throw UserError(path, "", "has checksum " + hex(found.crc32c), "the manifest says " + hex(file.crc32c));
  }
}

}  // namespace msmoe::executor
