// What the documentation shows is what the programs print. In a fenced block of a Markdown file, a line "$ msmoe-plan
// ..." or "$ msmoe-sim ..." is run, and the lines below it must come in its output, in that order and without a gap
// but where a line says "...".
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "tests/cli/cli_test.h"

namespace msmoe::cli {
namespace {

struct Example {
  std::string file, command;
  std::vector<std::string> shown;
};

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);)
    if (separator != ' ' || !part.empty()) parts.push_back(part);
  return parts;
}

std::vector<Example> examples_of(const std::filesystem::path& file) {
  std::ifstream stream(file);
  std::vector<Example> examples;
  bool fenced = false;
  for (std::string line; std::getline(stream, line);) {
    if (line.rfind("```", 0) == 0) {
      fenced = !fenced;
      if (!examples.empty() && !examples.back().command.empty()) examples.emplace_back();
    } else if (fenced && line.rfind("$ msmoe-", 0) == 0) {
      if (examples.empty() || !examples.back().command.empty()) examples.emplace_back();
      examples.back() = {file, line.substr(2), {}};
    } else if (fenced && !examples.empty() && !examples.back().command.empty()) {
      examples.back().shown.push_back(line);
    }
  }
  std::erase_if(examples, [](const Example& example) { return example.command.empty() || example.shown.empty(); });
  return examples;
}

// The first line shown that the output lacks, or empty. A gap is allowed at the start, and after "...".
std::string first_difference(const std::vector<std::string>& shown, const std::vector<std::string>& output) {
  std::size_t at = 0;
  bool may_skip = true;
  for (const std::string& line : shown) {
    if (line == "...") {
      may_skip = true;
      continue;
    }
    while (may_skip && at < output.size() && output[at] != line) ++at;
    if (at == output.size() || output[at] != line) return line;
    ++at;
    may_skip = false;
  }
  return "";
}

TEST(Documentation, ExamplesPrintWhatTheyShow) {
  std::vector<Example> examples;
  std::vector<std::filesystem::path> files = {MSMOE_SOURCE_DIR "/README.md"};
  for (const auto& entry : std::filesystem::directory_iterator(MSMOE_SOURCE_DIR "/docs"))
    if (entry.path().extension() == ".md") files.push_back(entry.path());
  for (const auto& file : files)
    for (Example& example : examples_of(file)) examples.push_back(std::move(example));
  ASSERT_FALSE(examples.empty());
  for (const Example& example : examples) {
    std::vector<std::string> words = split(example.command, ' ');
    words[0] = tool(words[0]);
    const CommandResult result = run_command(words);
    EXPECT_EQ(result.exit_code, 0) << example.file << ": " << example.command << '\n' << result;
    EXPECT_EQ(first_difference(example.shown, split(result.output, '\n')), "")
        << example.file << ": " << example.command;
  }
}

TEST(Documentation, DifferencesAreSeen) {
  EXPECT_EQ(first_difference({"b", "c"}, {"a", "b", "c", "d"}), "");
  EXPECT_EQ(first_difference({"b", "d"}, {"a", "b", "c", "d"}), "d");
  EXPECT_EQ(first_difference({"b", "...", "d"}, {"a", "b", "c", "d"}), "");
  EXPECT_EQ(first_difference({"x"}, {"a"}), "x");
}

}  // namespace
}  // namespace msmoe::cli
