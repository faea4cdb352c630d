#include "reports/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>

namespace msmoe::reports {
namespace {

bool begins_code_point(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) != 0x80; }

// How many bytes the first `width` code points take.
std::size_t prefix_bytes(std::string_view text, int width) {
  std::size_t bytes = 0;
  for (; bytes < text.size(); ++bytes) {
    if (begins_code_point(text[bytes]) && width-- == 0) break;
  }
  return bytes;
}

}  // namespace

int text_width(std::string_view text) {
  return static_cast<int>(std::count_if(text.begin(), text.end(), begins_code_point));
}

std::string printable(std::string_view text) {
  std::string result(text);
  for (char& byte : result) {
    if (static_cast<unsigned char>(byte) < 0x20 || byte == 0x7F) byte = ' ';
  }
  return result;
}

std::string pad_right(std::string_view text, int width) {
  return std::string(text) + std::string(std::max(0, width - text_width(text)), ' ');
}

std::string pad_left(std::string_view text, int width) {
  return std::string(std::max(0, width - text_width(text)), ' ') + std::string(text);
}

std::string truncate(std::string_view text, int width) {
  assert(width >= 3);
  if (text_width(text) <= width) return std::string(text);
  return std::string(text.substr(0, prefix_bytes(text, width - 3))) + "...";
}

std::vector<std::string> wrap(std::string_view text, int width) {
  assert(width >= 1);
  std::vector<std::string> lines;
  while (text_width(text) > width) {
    // A space just past the limit is as good a place to break as one before it.
    const std::size_t limit = prefix_bytes(text, width);
    const std::size_t space = text.rfind(' ', limit);
    const bool at_space = space != std::string_view::npos && space > 0;
    const std::size_t end = at_space ? space : limit;
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(at_space ? end + 1 : end);
  }
  lines.emplace_back(text);
  return lines;
}

std::string with_commas(std::int64_t count) {
  std::string digits = fmt::format("{}", count);
  const std::size_t first_digit = count < 0 ? 1 : 0;
  for (std::size_t place = digits.size(); place > first_digit + 3;) {
    place -= 3;
    digits.insert(place, 1, ',');
  }
  return digits;
}

}  // namespace msmoe::reports
