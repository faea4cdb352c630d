#include "core/error.h"

#include <algorithm>
#include <numeric>

namespace msmoe {
namespace {

// One line whatever the user's file holds: control characters become spaces, long texts are cut.
std::string one_line(std::string text) {
  constexpr std::size_t kLongest = 400;
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "...";
  return text;
}

std::string compose(const std::string& file, const std::string& place, const std::string& message,
                    const std::string& hint) {
  std::string line;
  for (const std::string& part : {file, place})
    if (!part.empty()) line += one_line(part) + ": ";
  line += one_line(message);
  if (!hint.empty()) line += "; " + one_line(hint);
  return line;
}

}  // namespace

UserError::UserError(std::string file, std::string place, std::string message, std::string hint)
    : std::runtime_error(compose(file, place, message, hint)),
      file_(std::move(file)),
      place_(std::move(place)),
      message_(std::move(message)),
      hint_(std::move(hint)) {}

std::string nearest_word(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(2, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    // Levenshtein distance, one row at a time.
    std::vector<std::size_t> row(candidate.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 1; i <= word.size(); ++i) {
      std::size_t diagonal = row[0];
      row[0] = i;
      for (std::size_t j = 1; j <= candidate.size(); ++j) {
        const std::size_t replaced = diagonal + (word[i - 1] != candidate[j - 1]);
        diagonal = row[j];
        row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
      }
    }
    if (row.back() < best_distance) {
      best_distance = row.back();
      best = candidate;
    }
  }
  return best;
}

std::string excerpt(std::string_view text, std::size_t longest) {
  std::string plain(text.substr(0, longest));
  std::replace_if(
      plain.begin(), plain.end(), [](unsigned char c) { return c < 0x20 || c >= 0x7f; }, '?');
  return text.size() > longest ? plain + "..." : plain;
}

std::string join(const std::vector<std::string>& words, std::string_view separator) {
  std::string text;
  for (const std::string& word : words) {
    if (!text.empty()) text += separator;
    text += word;
  }
  return text;
}

}  // namespace msmoe
