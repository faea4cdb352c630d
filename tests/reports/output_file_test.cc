#include "reports/output_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include "tests/file_limit.h"

namespace msmoe::reports {
namespace {

namespace fs = std::filesystem;

class OutputFileTest : public testing::Test {
 protected:
  OutputFileTest() {
    std::string name = testing::TempDir() + "msmoe_output_XXXXXX";
    directory_ = mkdtemp(name.data());
  }
  ~OutputFileTest() override { fs::remove_all(directory_); }

  std::string path(const std::string& name) const { return (directory_ / name).string(); }
  std::string content(const std::string& name) const {
    std::ifstream file(path(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::ptrdiff_t num_files() const { return std::distance(fs::directory_iterator(directory_), {}); }

  fs::path directory_;
};

std::string message_of(const auto& action) {
  try {
    action();
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "no error";
}

TEST_F(OutputFileTest, AppearsWholeOnCommit) {
  std::ofstream(path("out")) << "old";
  OutputFile file(path("out"));
  file.write("new ");
  file.write("text");
  EXPECT_EQ(content("out"), "old");
  file.commit();
  EXPECT_EQ(content("out"), "new text");
  EXPECT_EQ(num_files(), 1);
}

TEST_F(OutputFileTest, LeavesNoTraceWithoutCommit) {
  { OutputFile(path("out")).write("half"); }
  EXPECT_EQ(num_files(), 0);
}

TEST_F(OutputFileTest, KeepsALinkAndReplacesWhatItNames) {
  std::ofstream(path("real")) << "old";
  fs::create_symlink("real", path("link"));
  OutputFile file(path("link"));
  file.write("new");
  file.commit();
  EXPECT_TRUE(fs::is_symlink(path("link")));
  EXPECT_EQ(content("real"), "new");
}

TEST_F(OutputFileTest, FollowsTheUmask) {
  const mode_t before = ::umask(027);
  OutputFile file(path("out"));
  file.commit();
  ::umask(before);
  EXPECT_EQ(fs::status(path("out")).permissions(), fs::perms{0640});
}

TEST_F(OutputFileTest, ADeviceIsWrittenNotReplaced) {
  OutputFile file("/dev/null");
  file.write("text");
  file.commit();
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
}

TEST_F(OutputFileTest, ErrorsNameTheFileAndTheReason) {
  EXPECT_EQ(message_of([] { OutputFile("/no/such/place/out"); }),
            "/no/such/place/out: cannot be written: No such file or directory");
  EXPECT_EQ(message_of([&] { OutputFile(directory_.string()); }),
            directory_.string() + ": cannot be written: Is a directory");
  EXPECT_EQ(message_of([] { OutputFile("/dev/full").write("x"); }),
            "/dev/full: cannot be written: No space left on device");
}

// A limit on the size of files stands in for a full disk: the write that crosses it fails half way.
TEST_F(OutputFileTest, AFullDiskLeavesTheOldFileAndNothingElse) {
  std::ofstream(path("out")) << "old";
  const std::string message = [&] {
    const FileLimit small(1000);
    return message_of([&] { OutputFile(path("out")).write(std::string(2000, 'x')); });
  }();
  EXPECT_EQ(message, path("out") + ": cannot be written: File too large");
  EXPECT_EQ(content("out"), "old");
  EXPECT_EQ(num_files(), 1);
}

}  // namespace
}  // namespace msmoe::reports
