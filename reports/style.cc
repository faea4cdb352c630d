#include "reports/style.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>

namespace msmoe::reports {
namespace {

bool is_dumb(const char* term) { return term != nullptr && std::string_view(term) == "dumb"; }

}  // namespace

bool style_allowed(bool is_terminal, const char* no_color, const char* term) {
  const bool refused = no_color != nullptr && *no_color != '\0';
  return is_terminal && !refused && !is_dumb(term);
}

Style Style::for_stream(int file_descriptor) {
  return Style(style_allowed(isatty(file_descriptor) == 1, std::getenv("NO_COLOR"), std::getenv("TERM")));
}

std::string Style::bold(std::string_view text) const {
  return enabled_ ? fmt::format("\x1b[1m{}\x1b[0m", text) : std::string(text);
}

std::string Style::dim(std::string_view text) const {
  return enabled_ ? fmt::format("\x1b[2m{}\x1b[0m", text) : std::string(text);
}

bool is_smart_terminal(int file_descriptor) { return isatty(file_descriptor) == 1 && !is_dumb(std::getenv("TERM")); }

int terminal_width(int file_descriptor) {
  winsize size{};
  return ioctl(file_descriptor, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

}  // namespace msmoe::reports
