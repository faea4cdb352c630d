// Reads what nccl-tests prints (github.com/NVIDIA/nccl-tests), one row a message size:
//
//   #       size         count      type   redop    root     time   algbw   busbw #wrong     time   algbw   busbw
//   #wrong #        (B)    (elements)                               (us)  (GB/s)  (GB/s)            (us)  (GB/s) (GB/s)
//        1048576        262144     float     sum      -1    27.40   38.27   66.97      0    ...
//
// Older releases have no root column, so the header line says where the first "time" stands.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>

#include "core/collective_table.h"
#include "core/error.h"
#include "core/units_text.h"

namespace msmoe {
namespace {

constexpr std::size_t kUsualTimeColumn = 5;

std::vector<std::string_view> split(std::string_view text, std::string_view separators) {
  std::vector<std::string_view> words;
  while (true) {
    const std::size_t first = text.find_first_not_of(separators);
    if (first == text.npos) return words;
    text.remove_prefix(first);
    const std::size_t length = std::min(text.find_first_of(separators), text.size());
    words.push_back(text.substr(0, length));
    text.remove_prefix(length);
  }
}

}  // namespace

std::vector<CollectivePoint> parse_nccl_tests_table(const std::string& file, std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r#";
  std::vector<CollectivePoint> points;
  std::size_t time_column = kUsualTimeColumn;
  for (std::size_t line_number = 1; !text.empty(); ++line_number) {
    const std::size_t length = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, length);
    text.remove_prefix(std::min(length + 1, text.size()));

    const std::vector<std::string_view> words = split(line, kBlanks);
    if (words.empty()) continue;
    if (line[line.find_first_not_of(" \t")] == '#') {
      const auto time = std::find(words.begin(), words.end(), "time");
      if (words.front() == "size" && time != words.end()) time_column = static_cast<std::size_t>(time - words.begin());
      continue;
    }
    if (line.find(" NCCL ") != line.npos) continue;  // the library's own log, interleaved

    const Place place{file, fmt::format("line {}", line_number)};
    const auto refuse = [&](const std::string& why) {
      throw UserError(place.file, place.key, why, "a row of nccl-tests is expected");
    };
    if (words.size() <= time_column)
      refuse(fmt::format("{} columns, but the time is in column {}", words.size(), time_column + 1));
    const double size = parse_number(words.front(), place);
    const double microseconds = parse_number(words[time_column], place);
    if (size == 0) continue;  // a sweep may begin with the empty message
    if (size < 0 || size > 1e18 || size != std::floor(size))
      refuse(fmt::format("{} is no message size in bytes", size));
    if (microseconds <= 0 || microseconds > 1e9) refuse(fmt::format("{} is no time in microseconds", microseconds));
    if (!points.empty() && size <= points.back().size.count) refuse(fmt::format("size {:.0f} does not increase", size));
    points.push_back({Bytes{size}, seconds(microseconds * 1e-6)});
  }
  if (points.empty())
    throw UserError(file, "", "no row of measurements", "the output of an nccl-tests program is expected");
  return points;
}

}  // namespace msmoe
