// Plain text in columns. A width counts code points, so that names in UTF-8 line up.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace msmoe::reports {

int text_width(std::string_view text);

// Control characters become spaces: a file's name or a model's cannot break a line or drive the terminal.
std::string printable(std::string_view text);

std::string pad_right(std::string_view text, int width);
std::string pad_left(std::string_view text, int width);

// At most width code points; where something was cut the last three are "...". REQUIRES: width >= 3.
std::string truncate(std::string_view text, int width);

// Lines of at most width code points, broken at spaces; a longer word is cut. Never empty. REQUIRES: width >= 1.
std::vector<std::string> wrap(std::string_view text, int width);

// "12,345"
std::string with_commas(std::int64_t count);

}  // namespace msmoe::reports
