// A small deterministic fuzzer for readers: whatever the text, a reader takes it or refuses it with one clear line.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace msmoe {

struct Survival {
  int accepted = 0;
  int refused = 0;
};

// Calls parse(text); anything but success or a UserError of one short line fails the test.
template <class Parse>
void expect_survives_once(const std::string& text, Parse& parse, Survival& survival) {
  try {
    parse(text);
    ++survival.accepted;
  } catch (const UserError& error) {
    ++survival.refused;
    const std::string line = error.what();
    EXPECT_FALSE(line.empty()) << text;
    EXPECT_LT(line.size(), 1000u) << text;
    EXPECT_EQ(line.find_first_of("\r\n"), std::string::npos) << line;
  } catch (const std::exception& error) {
    ADD_FAILURE() << "not a UserError: " << error.what() << "\nfor: " << text;
  } catch (...) {
    ADD_FAILURE() << "not even an exception of the library, for: " << text;
  }
}

// Where the scalars of a JSON text begin and how long they are: numbers, literals, and strings with their quotes.
inline std::vector<std::pair<std::size_t, std::size_t>> scalars_of(std::string_view text) {
  std::vector<std::pair<std::size_t, std::size_t>> scalars;
  for (std::size_t begin = 0; begin < text.size();) {
    std::size_t end = begin + 1;
    if (text[begin] == '"') {
      while (end < text.size() && text[end] != '"') end += text[end] == '\\' ? 2 : 1;
      end = std::min(end + 1, text.size());
      scalars.emplace_back(begin, end - begin);
    } else if (std::isalnum(static_cast<unsigned char>(text[begin])) || text[begin] == '-') {
      while (end < text.size() && (std::isalnum(static_cast<unsigned char>(text[end])) ||
                                   std::string_view("+-.").find(text[end]) != std::string_view::npos))
        ++end;
      scalars.emplace_back(begin, end - begin);
    }
    begin = end;
  }
  return scalars;
}

// Some 3,000 texts derived from this one: cut short, with scalars replaced, bits flipped, pieces lost and repeated.
template <class Parse>
Survival expect_survives(const std::string& text, Parse parse) {
  Survival survival;
  const auto attempt = [&](const std::string& mutant) { expect_survives_once(mutant, parse, survival); };

  const std::size_t stride = std::max<std::size_t>(1, text.size() / 500);
  for (std::size_t length = 0; length <= text.size(); length += stride) attempt(text.substr(0, length));

  const auto scalars = scalars_of(text);
  const std::size_t scalar_stride = std::max<std::size_t>(1, scalars.size() / 100);
  for (std::size_t scalar_idx = 0; scalar_idx < scalars.size(); scalar_idx += scalar_stride)
    for (const char* replacement : {"-1",
                                    "0",
                                    "1",
                                    "1e308",
                                    "-1e308",
                                    "1e999",
                                    "0.5",
                                    "1e-300",
                                    "9007199254740993",
                                    "18446744073709551616",
                                    "\"x\"",
                                    "\"\"",
                                    "\"-1 GB\"",
                                    "\"1e300 GB/s\"",
                                    "\"nan us\"",
                                    "null",
                                    "true",
                                    "[]",
                                    "{}",
                                    "[[]]",
                                    "NaN"}) {
      std::string mutant = text;
      attempt(mutant.replace(scalars[scalar_idx].first, scalars[scalar_idx].second, replacement));
    }

  std::uint64_t state = 88172645463325252u;
  const auto random_below = [&state](std::size_t bound) {  // xorshift64 (Marsaglia 2003)
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return static_cast<std::size_t>(state % std::max<std::size_t>(bound, 1));
  };
  for (int round = 0; round < 500 && !text.empty(); ++round) {
    std::string flipped = text;
    for (std::size_t flips = 1 + random_below(3); flips > 0; --flips)
      flipped[random_below(text.size())] ^= static_cast<char>(1 << random_below(8));
    attempt(flipped);

    const std::size_t begin = random_below(text.size());
    const std::size_t length = random_below(std::min<std::size_t>(text.size() - begin, 200));
    std::string lost = text;
    attempt(lost.erase(begin, length));
    std::string repeated = text;
    attempt(repeated.insert(random_below(text.size()), text.substr(begin, length)));
  }
  return survival;
}

}  // namespace msmoe
