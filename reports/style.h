// Bold and dim text, where the reader's terminal can show it.
//
// Styled only where all three hold: the stream is a terminal, NO_COLOR is unset or empty (no-color.org), and TERM is
// not "dumb". Elsewhere every function returns its text as it came, so that files and pipes stay plain.
#pragma once

#include <string>
#include <string_view>

namespace msmoe::reports {

class Style {
 public:
  Style() = default;  // plain
  explicit Style(bool enabled) : enabled_(enabled) {}

  // file_descriptor: where the text will go; 1 is standard output.
  static Style for_stream(int file_descriptor);

  bool enabled() const { return enabled_; }
  std::string bold(std::string_view text) const;
  std::string dim(std::string_view text) const;

 private:
  bool enabled_ = false;
};

// The rule above. no_color, term: the values of the environment variables, nullptr where unset.
bool style_allowed(bool is_terminal, const char* no_color, const char* term);

// A terminal that can rewrite its line: the bar of progress.h needs that, whatever NO_COLOR says.
bool is_smart_terminal(int file_descriptor);

// Columns of the terminal; 0 where there is none or it does not say.
int terminal_width(int file_descriptor);

}  // namespace msmoe::reports
