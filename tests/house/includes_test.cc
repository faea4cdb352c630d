// The table in docs/design.md says which folder may include which; this holds the sources to it.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace {

using AllowedIncludes = std::map<std::string, std::set<std::string>>;

std::string read_file(const std::filesystem::path& path) {
  std::ifstream stream(path);
  EXPECT_TRUE(stream) << path;
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

std::set<std::string> words_of(const std::string& text) {
  static const std::regex word("[a-z]+");
  std::set<std::string> words;
  for (std::sregex_iterator it(text.begin(), text.end(), word), end; it != end; ++it) words.insert(it->str());
  return words;
}

// Rows such as "| `simulator/` | what it is for | core, reports |"; a folder may include itself.
AllowedIncludes parse_table(const std::string& markdown) {
  static const std::regex row(R"(^\| `([a-z]+)/` \|[^|]*\|([^|]*)\|$)");
  AllowedIncludes allowed;
  std::istringstream lines(markdown);
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (!std::regex_match(line, match, row)) continue;
    std::set<std::string>& folders = allowed[match[1]];
    folders = words_of(match[2]);
    folders.insert(match[1]);
  }
  return allowed;
}

// One sentence for each #include "..." of the text, a file of this folder, that the table does not allow.
std::vector<std::string> forbidden_includes(const std::string& folder, const std::string& text,
                                            const AllowedIncludes& allowed) {
  static const std::regex include(R"(^\s*#\s*include\s*"([^"]*)\")");
  std::vector<std::string> complaints;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (!std::regex_search(line, match, include)) continue;
    const std::string included = match[1];
    const std::string included_folder = included.substr(0, included.find('/'));
    if (!allowed.at(folder).contains(included_folder)) complaints.push_back(folder + " includes " + included);
  }
  return complaints;
}

bool is_source(const std::filesystem::path& path) {
  static const std::set<std::string> extensions = {".h", ".cc", ".cu", ".cuh"};
  return extensions.contains(path.extension().string());
}

TEST(Includes, FollowTheTableOfTheDesign) {
  const std::filesystem::path root = MSMOE_SOURCE_DIR;
  const AllowedIncludes allowed = parse_table(read_file(root / "docs/design.md"));
  ASSERT_GE(allowed.size(), 7u);
  int files = 0;
  for (const auto& [folder, folders] : allowed) {
    ASSERT_TRUE(std::filesystem::is_directory(root / folder)) << folder;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / folder)) {
      if (!is_source(entry.path())) continue;
      ++files;
      for (const std::string& complaint : forbidden_includes(folder, read_file(entry.path()), allowed)) {
        ADD_FAILURE() << entry.path() << ": " << complaint;
      }
    }
  }
  EXPECT_GE(files, 20);
}

// The checker itself: what the table allows passes, all else is named, however the line is spaced. A path that does
// not start at the root of the repository names no folder of the table, so it is refused too.
TEST(Includes, ArrowsAgainstTheTableAreFound) {
  const AllowedIncludes allowed = parse_table(
      "| folder | holds | may include |\n"
      "| `upper/` | a | lower |\n"
      "| `lower/` | b | nothing |\n");
  ASSERT_EQ(allowed.at("upper"), (std::set<std::string>{"lower", "upper"}));
  const std::string text =
      "#include <vector>\n"
      "#include \"lower/x.h\"\n"
      "  #  include \"upper/y.h\"\n"
      "#include \"x.h\"\n";
  EXPECT_EQ(forbidden_includes("upper", text, allowed), std::vector<std::string>{"upper includes x.h"});
  EXPECT_EQ(forbidden_includes("lower", text, allowed),
            (std::vector<std::string>{"lower includes upper/y.h", "lower includes x.h"}));
}

}  // namespace
