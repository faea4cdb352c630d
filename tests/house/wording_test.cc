// Nothing in the repository points at the machine it was written on, or is left for later.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <string>

namespace {

// The words are put together here so that this file does not contain them.
const std::regex& unwelcome() {
  static const std::regex pattern(std::string("(/wor") + "k/|/ro" + "ot/|/ho" + "me/[a-z]|\\bTO" + "DO\\b|\\bFIX" +
                                  "ME\\b)");
  return pattern;
}

bool is_checked(const std::filesystem::path& path) {
  static const std::set<std::string> extensions = {".h",   ".cc", ".cu",   ".cuh", ".cmake",
                                                   ".txt", ".md", ".json", ".in",  ""};
  return extensions.contains(path.extension().string());
}

TEST(Wording, IsFitForReaders) {
  const std::filesystem::path root = MSMOE_SOURCE_DIR;
  int files = 0;
  for (auto it = std::filesystem::recursive_directory_iterator(root); it != std::filesystem::end(it); ++it) {
    const std::string name = it->path().filename().string();
    if (it->is_directory() && (name == "build" || (name.starts_with(".") && name != ".ci")))
      it.disable_recursion_pending();
    if (!it->is_regular_file() || !is_checked(it->path())) continue;
    ++files;
    std::ifstream stream(it->path());
    int line_number = 0;
    for (std::string line; std::getline(stream, line);) {
      ++line_number;
      EXPECT_FALSE(std::regex_search(line, unwelcome())) << it->path() << ":" << line_number << ": " << line;
    }
  }
  EXPECT_GE(files, 40);
}

TEST(Wording, UnwelcomeTextIsFound) {
  for (const std::string& text : {std::string("see /wor") + "k/main", std::string("// TO") + "DO: later"}) {
    EXPECT_TRUE(std::regex_search(text, unwelcome())) << text;
  }
  for (const char* text : {"framework/main.h", "a to-do list", "docs/homepage.md"}) {
    EXPECT_FALSE(std::regex_search(text, unwelcome())) << text;
  }
}

}  // namespace
