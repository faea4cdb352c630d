// Files of tokens by expert. JSON: {"tokens": [...]} for all layers, {"layers": [[...], ...]}, or {"steps": [...]} of
// either. CSV: a header with expert and tokens, and where wanted step and layer; a row for each expert, in any order.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <numeric>

#include "core/error.h"
#include "core/json_reader.h"
#include "simulator/routing.h"

namespace msmoe::simulator {
namespace {

using Layers = std::vector<std::vector<double>>;

constexpr double kMostTokens = 1e15;  // of an expert: sums of many stay exact enough

void require_tokens(const std::string& file, const std::string& place, const std::vector<double>& tokens) {
  for (const double count : tokens)
    if (!(count >= 0 && count <= kMostTokens))
      throw UserError(file, place, fmt::format("{} tokens are not allowed", count), "0 to 1e15");
  if (!(std::accumulate(tokens.begin(), tokens.end(), 0.0) > 0))
    throw UserError(file, place, "no expert has tokens", "at least one has");
}

// ---- JSON

Layers json_layers(JsonObject object) {
  Layers layers;
  if (object.has("tokens") == object.has("layers"))
    object.fail(object.has("tokens") ? "tokens" : "layers", "one of tokens and layers is needed",
                "tokens: an array by expert, for all layers; layers: an array of such arrays");
  if (object.has("tokens")) {
    std::vector<double>& layer = layers.emplace_back();
    for (const std::int64_t count : object.integers("tokens", {.min = 0})) layer.push_back(static_cast<double>(count));
    require_tokens(object.file(), object.path("tokens"), layer);
  } else {
    layers = object.rows_of_numbers("layers");
    if (layers.empty()) object.fail("layers", "is empty", "an array for each MoE layer");
    for (std::size_t layer = 0; layer < layers.size(); ++layer)
      require_tokens(object.file(), fmt::format("{}[{}]", object.path("layers"), layer), layers[layer]);
  }
  object.refuse_unknown_keys();
  return layers;
}

RoutingHistogram parse_json(const std::string& name, std::string_view text) {
  const JsonDocument document(name, text);
  JsonObject root = document.root();
  RoutingHistogram histogram{.file = name, .tokens = {}};
  if (!root.has("steps")) {
    histogram.tokens.push_back(json_layers(root));
    return histogram;
  }
  for (const JsonObject& step : root.objects("steps")) histogram.tokens.push_back(json_layers(step));
  if (histogram.tokens.empty()) root.fail("steps", "is empty", "at least one step");
  root.refuse_unknown_keys();
  return histogram;
}

// ---- CSV

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t\r");
  return begin == text.npos ? std::string_view() : text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

std::vector<std::string_view> cells_of(std::string_view line) {
  std::vector<std::string_view> cells;
  for (std::size_t begin = 0; begin <= line.size();) {
    const std::size_t end = std::min(line.find(',', begin), line.size());
    cells.push_back(trimmed(line.substr(begin, end - begin)));
    begin = end + 1;
  }
  return cells;
}

class CsvReader {
 public:
  explicit CsvReader(const std::string& name) : name_(name) {}

  RoutingHistogram read(std::string_view text) {
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      const std::string_view line = trimmed(text.substr(begin, end - begin));
      ++line_;
      if (!line.empty()) columns_.empty() ? read_header(line) : read_row(line);
      begin = end + 1;
    }
    if (rows_.empty()) throw UserError(name_, "", "has no rows", "a header (expert,tokens) and a row for each expert");
    return histogram();
  }

 private:
  enum Column { kStep, kLayer, kExpert, kTokens, kNumColumns };
  static constexpr std::array<const char*, kNumColumns> kNames = {"step", "layer", "expert", "tokens"};
  static constexpr std::int64_t kMostIndex = 1 << 20;
  using Key = std::array<std::int64_t, 3>;  // step, layer, expert

  std::string place(const char* column) const { return fmt::format("line {}, column {}", line_, column); }

  void read_header(std::string_view line) {
    for (const std::string_view cell : cells_of(line)) {
      const auto found = std::find(kNames.begin(), kNames.end(), cell);
      const auto column = static_cast<Column>(found - kNames.begin());
      if (found == kNames.end() || std::find(columns_.begin(), columns_.end(), column) != columns_.end())
        throw UserError(name_, fmt::format("line {}", line_),
                        fmt::format("'{}' is {}", excerpt(cell), found == kNames.end() ? "no column" : "there twice"),
                        "step, layer, expert, tokens, each once; JSON begins with '{'");
      columns_.push_back(column);
    }
    for (const Column column : {kExpert, kTokens})
      if (std::find(columns_.begin(), columns_.end(), column) == columns_.end())
        throw UserError(name_, fmt::format("line {}", line_), fmt::format("there is no column {}", kNames[column]),
                        "expert and tokens are needed");
  }

  void read_row(std::string_view line) {
    const std::vector<std::string_view> cells = cells_of(line);
    if (cells.size() != columns_.size())
      throw UserError(name_, fmt::format("line {}", line_), fmt::format("has {} cells", cells.size()),
                      fmt::format("the header has {}", columns_.size()));
    Key key{};
    double tokens = 0;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const char* column = kNames[columns_[i]];
      const double value = parse_number(cells[i], {name_, place(column)});
      const double most = columns_[i] == kTokens ? kMostTokens : static_cast<double>(kMostIndex);
      if (!(value >= 0 && value <= most) || (columns_[i] != kTokens && value != static_cast<std::int64_t>(value)))
        throw UserError(name_, place(column), fmt::format("'{}' is not allowed", excerpt(cells[i])),
                        fmt::format("0 to {}", most));
      if (columns_[i] == kTokens) {
        tokens = value;
      } else {
        key[columns_[i]] = static_cast<std::int64_t>(value);
      }
    }
    if (!rows_.emplace(key, tokens).second)
      throw UserError(name_, fmt::format("line {}", line_), "names an expert again", "one row for each expert");
  }

  // Every expert of every layer of every step has a row: as many rows as the product, no two alike, none beyond it.
  RoutingHistogram histogram() const {
    Key count{};
    for (const auto& [key, tokens] : rows_)
      for (std::size_t i = 0; i < key.size(); ++i) count[i] = std::max(count[i], key[i] + 1);
    const double expected =
        static_cast<double>(count[0]) * static_cast<double>(count[1]) * static_cast<double>(count[2]);
    if (expected != static_cast<double>(rows_.size()))
      throw UserError(name_, "",
                      fmt::format("has {} rows for {} steps, {} layers and {} experts, all counted from 0",
                                  rows_.size(), count[0], count[1], count[2]),
                      "a row for each, experts without tokens included");
    RoutingHistogram result{.file = name_, .tokens = {}};
    result.tokens.assign(count[0], Layers(count[1], std::vector<double>(count[2])));
    for (const auto& [key, tokens] : rows_) result.tokens[key[0]][key[1]][key[2]] = tokens;
    for (std::int64_t step = 0; step < count[0]; ++step)
      for (std::int64_t layer = 0; layer < count[1]; ++layer)
        require_tokens(name_, fmt::format("step {}, layer {}", step, layer), result.tokens[step][layer]);
    return result;
  }

  const std::string& name_;
  int line_ = 0;
  std::vector<Column> columns_;
  std::map<Key, double> rows_;
};

}  // namespace

RoutingHistogram parse_routing_histogram(const std::string& name, std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  const bool is_json = first != text.npos && text[first] == '{';
  return is_json ? parse_json(name, text) : CsvReader(name).read(text);
}

}  // namespace msmoe::simulator
