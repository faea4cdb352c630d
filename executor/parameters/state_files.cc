#include "executor/parameters/state_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "executor/checkpoint/hf_names.h"

namespace msmoe::executor {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 3> kKindNames = {"master", "exp_avg", "exp_avg_sq"};  // by StateKind
constexpr std::string_view kPrefix = "optimizer-", kSuffix = ".safetensors";

std::string_view name_of(StateKind kind) { return kKindNames[static_cast<std::size_t>(kind)]; }

std::string key_of(StateKind kind, const std::string& name) { return fmt::format("{} {}", name_of(kind), name); }

std::string tensor_name(const std::string& key, const StatePiece& piece) {
  const Box whole = whole_box(piece.parameter->whole), box = piece.parameter->slice;
  return fmt::format("{} {}x{} {}:{} {}:{} {}:{}", key, whole.rows(), whole.columns(), box.row_begin, box.row_end,
                     box.column_begin, box.column_end, piece.begin, piece.end);
}

// The last word of the text, which loses it.
std::string_view take_last_word(std::string_view& text) {
  const std::size_t space = text.rfind(' ');
  const std::string_view word = text.substr(space == text.npos ? 0 : space + 1);
  text = text.substr(0, space == text.npos ? 0 : space);
  return word;
}

// "12:34"
std::optional<std::pair<std::int64_t, std::int64_t>> two_numbers(std::string_view word, char separator) {
  std::pair<std::int64_t, std::int64_t> numbers;
  const char* const end = word.data() + word.size();
  const auto first = std::from_chars(word.data(), end, numbers.first);
  if (first.ec != std::errc() || first.ptr == end || *first.ptr != separator) return std::nullopt;
  const auto second = std::from_chars(first.ptr + 1, end, numbers.second);
  if (second.ec != std::errc() || second.ptr != end) return std::nullopt;
  return numbers;
}

}  // namespace

StateSnapshot::StateSnapshot(const ParameterStore& store, const Model& model) {
  const HfNames names(model);
  store.backend().finish(Stream::kCompute);
  for (const StatePiece& piece : store.saved_pieces())
    for (const StateKind kind : kStateKinds) {
      if (piece.state(kind) == nullptr) continue;
      const std::string name = tensor_name(key_of(kind, names.name(piece.parameter->whole)), piece);
      tensors_.push_back({name, TensorType::kF32, {piece.end - piece.begin}});
      std::vector<float>& values = values_[name];
      values.resize(static_cast<std::size_t>(piece.end - piece.begin));
      store.backend().to_host(values.data(), piece.state(kind), values.size() * sizeof(float));
    }
}

FileRecord StateSnapshot::write(const std::string& folder, int rank) const {
  return write_safetensors(fs::path(folder) / fmt::format("{}{}{}", kPrefix, rank, kSuffix), tensors_, {},
                           [&](const TensorInfo& tensor, const TensorSink& sink) {
                             sink(std::as_bytes(std::span(values_.at(tensor.name))));
                           });
}

StateFiles::StateFiles(const std::string& folder) : folder_(folder) {
  std::vector<std::string> paths;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename();
    if (name.starts_with(kPrefix) && name.ends_with(kSuffix)) paths.push_back(entry->path());
  }
  if (error) throw UserError(folder, "", "cannot be read: " + error.message());
  if (paths.empty())
    throw UserError(folder, "", "holds no optimizer states", fmt::format("{}RANK{} is expected", kPrefix, kSuffix));
  std::sort(paths.begin(), paths.end());
  for (const std::string& path : paths) {
    const SafetensorsReader& file = files_.emplace_back(path);
    for (const TensorInfo& tensor : file.tensors()) add(file, tensor);
  }
}

void StateFiles::add(const SafetensorsReader& file, const TensorInfo& tensor) {
  std::string_view text = tensor.name;
  const auto range = two_numbers(take_last_word(text), ':');
  const auto columns = two_numbers(take_last_word(text), ':');
  const auto rows = two_numbers(take_last_word(text), ':');
  const auto whole = two_numbers(take_last_word(text), 'x');
  const auto refuse = [&] {
    throw UserError(file.path(), "tensor " + excerpt(tensor.name, 200), "is no piece of an optimizer state",
                    "\"KIND NAME ROWSxCOLUMNS ROWS COLUMNS ELEMENTS\" is required, with F32 elements");
  };
  if (!range || !columns || !rows || !whole || tensor.type != TensorType::kF32) refuse();
  const Piece piece{.file = &file,
                    .tensor = &tensor,
                    .whole = {.row_end = whole->first, .column_end = whole->second},
                    .box = {rows->first, rows->second, columns->first, columns->second},
                    .begin = range->first,
                    .end = range->second};
  const std::array extents = {whole->first, whole->second};
  const bool is_box = count_bytes(TensorType::kF32, extents) && piece.whole.contains(piece.box) &&
                      piece.box.rows() > 0 && piece.box.columns() > 0;
  if (!is_box || piece.begin < 0 || piece.begin >= piece.end || piece.end > piece.box.size() ||
      tensor.shape != std::vector{piece.end - piece.begin})
    refuse();
  pieces_[std::string(text)].push_back(piece);
}

void StateFiles::read(StateKind kind, const std::string& name, const Parameter& parameter, const Box& box,
                      std::int64_t begin, std::int64_t end, std::span<float> values) const {
  const std::string key = key_of(kind, name);
  const auto found = pieces_.find(key);
  const Box whole = whole_box(parameter);
  std::vector<bool> is_read(values.size());
  if (found != pieces_.end()) {
    for (const Piece& piece : found->second)
      if (piece.whole != whole)
        throw UserError(piece.file->path(), "tensor " + excerpt(piece.tensor->name, 200),
                        "is of another model's parameter",
                        fmt::format("the model has {}x{}", whole.rows(), whole.columns()));
    for_each_row(box, begin, end, [&](std::int64_t row, std::int64_t first, std::int64_t last, std::int64_t at) {
      for (const Piece& piece : found->second) {
        if (row < piece.box.row_begin || row >= piece.box.row_end) continue;
        // Column c of this row is the piece's element c - origin.
        const std::int64_t origin =
            piece.begin + piece.box.column_begin - (row - piece.box.row_begin) * piece.box.columns();
        const std::int64_t from = std::max({first, piece.box.column_begin, origin});
        const std::int64_t to = std::min({last, piece.box.column_end, origin + piece.end - piece.begin});
        if (from >= to) continue;
        const std::byte* const data = piece.file->data(*piece.tensor).data();
        const std::int64_t into = at + from - first;
        std::memcpy(&values[static_cast<std::size_t>(into)],
                    data + static_cast<std::size_t>(from - origin) * sizeof(float),
                    static_cast<std::size_t>(to - from) * sizeof(float));
        std::fill(is_read.begin() + into, is_read.begin() + into + (to - from), true);
      }
    });
  }
  const auto missing = std::count(is_read.begin(), is_read.end(), false);
  if (missing > 0)
    throw UserError(folder_, key, fmt::format("{} of {} elements are missing", missing, values.size()),
                    "the files of all ranks belong together");
}

void restore_state(ParameterStore& store, const Model& model, const StateFiles& files) {
  const HfNames names(model);
  std::vector<float> values;
  for (const StatePiece& piece : store.held_pieces())
    for (const StateKind kind : kStateKinds) {
      if (piece.state(kind) == nullptr) continue;
      values.resize(static_cast<std::size_t>(piece.end - piece.begin));
      const LocalParameter& local = *piece.parameter;
      files.read(kind, names.name(local.whole), local.whole, local.slice, piece.begin, piece.end, values);
      store.backend().from_host(piece.state(kind), values.data(), values.size() * sizeof(float));
    }
  store.publish_masters();
}

}  // namespace msmoe::executor
