// Golden text: what a program printed, held against a file that a person has reviewed.
//
//   expect_golden("cli/golden/help.txt", run_command({tool("msmoe-plan"), "--help"}).output);
//
// With MSMOE_UPDATE_GOLDEN=1 in the environment the file is written instead, and the diff of the repository is what
// there is to review.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace msmoe::cli {

// path: below the folder, which is tests/ of this repository by default.
inline void expect_golden(const std::string& path, const std::string& text,
                          const std::filesystem::path& folder = MSMOE_SOURCE_DIR "/tests") {
  const std::filesystem::path file = folder / path;
  const char* update = std::getenv("MSMOE_UPDATE_GOLDEN");
  if (update != nullptr && std::string(update) == "1") {
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << text;
    return;
  }
  std::ifstream stream(file, std::ios::binary);
  ASSERT_TRUE(stream.is_open()) << file << " is missing; MSMOE_UPDATE_GOLDEN=1 writes it";
  const std::string expected{std::istreambuf_iterator<char>(stream), {}};
  EXPECT_EQ(text, expected) << "differs from " << file << "; if it should, MSMOE_UPDATE_GOLDEN=1 rewrites it";
}

}  // namespace msmoe::cli
