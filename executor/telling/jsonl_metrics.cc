#include "executor/telling/jsonl_metrics.h"

#include <fmt/format.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "core/error.h"
#include "reports/json.h"
#include "reports/output_file.h"

namespace msmoe::executor {
namespace {

using nlohmann::ordered_json;

constexpr std::string_view kLineStart = "{\"step\": ";

ordered_json to_json(const NamedValue& named) {
  if (!named.value || !std::isfinite(*named.value)) return nullptr;
  switch (named.kind) {
    case NamedValue::Kind::kReal: return *named.value;
    case NamedValue::Kind::kWhole: return std::llround(*named.value);
    case NamedValue::Kind::kFlag: return *named.value != 0;
  }
  return nullptr;
}

std::optional<std::int64_t> step_of(const std::string& line) {
  const ordered_json object = ordered_json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return std::nullopt;
  const auto step = object.find("step");
  if (step == object.end() || !step->is_number_integer()) return std::nullopt;
  return step->get<std::int64_t>();
}

// What a killed run leaves behind its last newline: the beginning of a line, or the zeros that some file systems put
// where a loss of power took the bytes.
bool is_half_line(std::string_view tail) {
  tail = tail.substr(0, tail.find('\0'));
  return tail.substr(0, kLineStart.size()) == kLineStart.substr(0, tail.size());
}

[[noreturn]] void refuse(const std::string& path, std::int64_t line_number) {
  throw UserError(path, fmt::format("line {}", line_number), "is no line of a training's metrics",
                  "name another file, or remove this one");
}

}  // namespace

std::string jsonl_line(const StepMetrics& metrics, const MfuBasis& basis) {
  std::string line;
  for (const NamedValue& named : named_values(metrics, basis)) {
    std::string value = reports::dump_json(to_json(named));
    value.pop_back();  // its newline
    line += fmt::format("{}\"{}\": {}", line.empty() ? "{" : ", ", named.name, value);
  }
  return line + "}\n";
}

void cut_metrics(const std::string& path, std::int64_t first_step) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return;
  std::ifstream old(path, std::ios::binary);
  if (!old) throw UserError(path, "", fmt::format("cannot be read: {}", std::strerror(errno)));

  reports::OutputFile kept(path);
  bool is_cut = false;
  std::string line;
  for (std::int64_t line_number = 1; std::getline(old, line); ++line_number) {
    if (old.eof()) {  // no newline at its end
      if (!is_half_line(line)) refuse(path, line_number);
      is_cut = true;
      break;
    }
    const std::optional<std::int64_t> step = step_of(line);
    if (!step) refuse(path, line_number);
    if (*step >= first_step)
      is_cut = true;
    else
      kept.write(line + '\n');
  }
  if (old.bad()) throw UserError(path, "", "cannot be read to its end");
  if (is_cut) kept.commit();
}

JsonlMetrics::JsonlMetrics(const std::string& path, std::int64_t first_step, MfuBasis basis)
    : basis_(basis), file_((cut_metrics(path, first_step), path), AppendedFile::Open::kAppend) {}

void JsonlMetrics::tell(const StepMetrics& metrics) { file_.append(jsonl_line(metrics, basis_)); }

}  // namespace msmoe::executor
